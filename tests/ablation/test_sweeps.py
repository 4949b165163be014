"""Sweeps that config files define themselves."""

import pytest

from cnnjax.ablation import hyper
from cnnjax.ablation.sweeps import read_sweep, split_seeds

CONFIG = "def get_config():\n    return {}\n"


@pytest.fixture
def read(tmp_path):
    def run(code):
        path = tmp_path / "config.py"
        path.write_text(CONFIG + code)
        return read_sweep(str(path))

    return run


def test_get_hyper(read):
    code = """
def get_hyper(hyper):
    return hyper.product([
        hyper.zipit([
            hyper.sweep("config.model.name", hyper.categorical(["mlp", "lenet5"])),
            hyper.sweep("config.train.batch_size", hyper.discrete([64, 128])),
        ]),
        hyper.chainit([hyper.sweep("optimizer.learning_rate", [0.1]), hyper.fixed("optimizer.momentum", 0.5)]),
    ])
"""
    assert read(code) == [
        {"model.name": "mlp", "train.batch_size": 64, "optimizer.learning_rate": 0.1},
        {"model.name": "mlp", "train.batch_size": 64, "optimizer.momentum": 0.5},
        {"model.name": "lenet5", "train.batch_size": 128, "optimizer.learning_rate": 0.1},
        {"model.name": "lenet5", "train.batch_size": 128, "optimizer.momentum": 0.5},
    ]


def test_sweep_by_add_by_hyper_and_by_yield(read):
    expected = [{"seed": 1, "model.name": "mlp"}, {"seed": 2, "model.name": "mlp"}]
    assert read("def sweep(add):\n    for n in (1, 2):\n        add({'model.name': 'mlp'}, seed=n)") == [
        {"model.name": "mlp", "seed": 1}, {"model.name": "mlp", "seed": 2}
    ]  # fmt: skip
    assert read("def sweep(hyper):\n    return hyper.product([hyper.sweep('config.seed', [1, 2]), hyper.fixed('model.name', 'mlp')])") == expected  # fmt: skip
    assert read("def sweep():\n    for n in (1, 2):\n        yield {'seed': n, 'model.name': 'mlp'}") == expected
    assert read("") is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_hyper(hyper):\n    return hyper.uniform('a', 0, 1)", "get_hyper cannot be run: .*hyper.uniform is not supported: there are product"),
        ("def get_hyper(hyper):\n    return [3]", "expected the fields of a variant as a dict, got 3"),
        ("def get_hyper(hyper):\n    return hyper.product([hyper.sweep('a', [1]), hyper.sweep('a', [2])])", "a is varied twice"),
        ("def get_hyper(hyper):\n    return hyper.zipit([hyper.sweep('a', [1, 2, 3]), hyper.sweep('b', [2, 3])])", "expected sweeps of 3 variants, got one of 2"),
        ("def sweep(add):\n    pass", "sweep returns no variants"),
        ("def sweep():\n    return 1 / 0", "sweep cannot be run: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_sweeps_that_cannot_be_run_say_why(read, code, message):
    with pytest.raises(ValueError, match=message):
        read(code)


def test_seeds_within_a_sweep():
    made = hyper.product([hyper.sweep("config.seed", range(2)), hyper.sweep("train.epochs", [1, 2])])
    assert split_seeds(made) == ([{"train.epochs": 1}, {"train.epochs": 2}], [0, 1])
    assert split_seeds([{"train.epochs": 1}]) == ([{"train.epochs": 1}], None)
    with pytest.raises(ValueError, match="not all variants have the same seeds: leave seed out and use --seeds"):
        split_seeds([{"train.epochs": 1, "seed": 0}, {"train.epochs": 2, "seed": 1}])
