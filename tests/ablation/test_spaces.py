"""What a study varies: lists of variants, their names, and what is refused."""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest

from cnnjax import config as configs
from cnnjax.ablation.spaces import (
    Choice,
    LogUniform,
    Uniform,
    Whole,
    grid,
    make_variants,
    parse_axis,
    quasi_random,
    random,
    zipped,
)
from cnnjax.ablation.trials import identity, make_trials, seed_list
from cnnjax.config import load_config
from cnnjax.transfer.initial import InitialOptions


@pytest.fixture(scope="module")
def config():
    return load_config({"model": {"name": "pattern"}})


def names(config, axes):
    return [variant.name for variant in make_variants(config, axes)]


def test_a_grid_is_every_combination():
    made = grid({"a.x": [1, 2], ("b.y", "c.z"): [(3, 4), (5, 6)]})
    assert made == [{"a.x": x, "b.y": y, "c.z": z} for x in (1, 2) for y, z in ((3, 4), (5, 6))]
    assert grid({}) == [{}]


def test_zipped_lists_go_together():
    assert zipped({"a.x": [1, 2], "b.y": [3, 4]}) == [{"a.x": 1, "b.y": 3}, {"a.x": 2, "b.y": 4}]
    with pytest.raises(ValueError, match=r"lists of one length, got .'a.x': 1, 'b.y': 2."):
        zipped({"a.x": [1], "b.y": [3, 4]})


SPACE = {"rate": LogUniform(1e-4, 1.0), "share": Uniform(0.0, 0.5), "units": Whole(3, 5), "act": ["relu", "tanh"]}


@pytest.mark.parametrize(
    "draw",
    [random, quasi_random, lambda *given: quasi_random(*given, sequence="sobol")],
    ids=["random", "halton", "sobol"],
)
def test_drawn_variants_follow_from_the_seed_and_fill_the_space(draw):
    made = draw(SPACE, 200, 0)
    assert made == draw(SPACE, 200, 0) and made != draw(SPACE, 200, 1) and len(made) == 200
    assert all(1e-4 <= variant["rate"] <= 1 and 0 <= variant["share"] <= 0.5 for variant in made)
    assert {variant["units"] for variant in made} == {3, 4, 5}
    assert abs(sum(variant["act"] == "relu" for variant in made) - 100) < 30
    assert abs(np.mean([math.log10(variant["rate"]) for variant in made]) + 2) < 0.3
    assert all(type(value) in (int, float, str) for variant in made for value in variant.values())


def test_drawn_variants_never_change():
    """A study that goes on next year must draw what it drew."""
    first = {"rate": 0.00826594, "share": 0.143248, "units": 3, "act": "tanh"}
    assert random(SPACE, 1)[0] == quasi_random(SPACE, 1)[0] == first
    assert quasi_random(SPACE, 2)[1]["units"] == 3 and quasi_random(SPACE, 2)[1]["rate"] == 0.826594


def test_quasi_random_points_are_spread_more_evenly():
    def worst_gap(made):
        shares = sorted(variant["x"] for variant in made)
        return max(b - a for a, b in itertools.pairwise(shares))

    space = {"x": Uniform(0.0, 1.0)}
    for sequence in ("halton", "sobol"):
        assert worst_gap(quasi_random(space, 64, sequence=sequence)) < worst_gap(random(space, 64)) / 2


@pytest.mark.parametrize(
    ("given", "value"), [(Uniform(0.0, 10.0), 9.9), (LogUniform(1e-4, 1.0), 1e-4), (Whole(0, 100), 50)]
)
def test_narrowed_ranges_stay_within_and_around(given, value):
    part = given.narrowed(value, 0.25)
    assert given.low <= part.low <= value <= part.high <= given.high
    wide = [math.log(r.high / r.low) if isinstance(given, LogUniform) else r.high - r.low for r in (part, given)]
    assert wide[0] == pytest.approx(0.25 * wide[1], rel=0.05)


def test_variants_are_named_by_what_differs(config):
    axes = {"optimizer.learning_rate": [0.01, 0.5], "train.batch_size": [64]}
    assert names(config, axes) == ["learning_rate=0.01", "learning_rate=0.5"]
    assert names(config, {"model.name": ["mlp", "lenet5"]}) == ["model=mlp", "model=lenet5"]
    assert names(config, [{}, {"model.norm": "batch"}]) == ["norm=none", "norm=batch"]
    assert names(config, {"plain": {}, "normed": {"model.norm": "batch"}}) == ["plain", "normed"]
    assert names(config, {}) == ["pattern"]
    both = grid({"loss.name": ["cross_entropy", "mean_squared_error"], "schedule.name": ["constant", "cosine"]})
    assert names(config, both)[1] == "loss=cross_entropy, schedule=cosine"
    same_word = {"model.kernel_size": [3, 5], "schedule.warmup_epochs": [0.0, 1.0]}
    assert names(config, same_word)[3] == "kernel_size=5, warmup_epochs=1"


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({"optimizer.learning_rat": [0.1]}, ValueError, "unknown field 'optimizer.learning_rat'.*'optimizer.learning_rate'"),
        ({"optimizer.learning_rate": [0.1, "fast"]}, TypeError, "optimizer.learning_rate: expected a number, got 'fast'"),
        ({"train.epochs": [1, -1]}, ValueError, "train.epochs=-1: expected 1 to 1,000,000"),
        ({"train.epochs": []}, ValueError, "train.epochs: the list of values is empty"),
        ({"train.epochs": 3}, TypeError, "train.epochs: expected a list of values, got 3"),
        ({"model.name": "mlp"}, TypeError, "model.name: expected a list of values, got 'mlp'"),
        ({"optimizer.learning_rate": LogUniform(0.1, 1)}, TypeError, r"is a distribution without a number of values: .*random"),
        ({"train.epochs": [2, 2]}, ValueError, r"variants 1 and 2 are the same config .*leave one out"),
        ([{}, {"optimizer.momentum": 0.9}], ValueError, "variants 1 and 2 are the same config"),
        ([], ValueError, "there are no variants to train"),
        ("train.epochs", TypeError, "expected .field: values., a list of .* got 'train.epochs'"),
        ([3], TypeError, "expected .field: values., a list of"),
        ({("model.name", "seed"): [("mlp",)]}, ValueError, "model.name, seed: expected 2 values that go together"),
        ({"train.epochs": [1], ("train.epochs", "devices"): [(1, 1)]}, ValueError, "train.epochs is varied twice"),
    ],
)  # fmt: skip
def test_bad_axes_are_refused_in_one_line(config, axes, error, message):
    with pytest.raises(error, match=message) as caught:
        make_variants(config, axes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1, 1), "Uniform(1, 1): expected finite numbers, low < high"),
        (lambda: LogUniform(0, 1), "LogUniform(0, 1): expected 0 < low < high"),
        (lambda: Uniform(0, math.inf), "expected finite numbers"),
        (lambda: Uniform(math.nan, 1), "expected finite numbers"),
        (lambda: Whole(0.5, 2), "expected whole numbers"),
        (lambda: Choice(()), "Choice: expected at least one value"),
        (lambda: random(SPACE, 0), "count=0: expected a whole number of at least 1"),
        (lambda: random(SPACE, 2.5), "count=2.5: expected a whole number"),
        (lambda: quasi_random(SPACE, 4, sequence="lattice"), "sequence 'lattice': expected halton or sobol"),
        (lambda: seed_list(0), "expected a number of seeds, or a list of different whole numbers; got 0"),
        (lambda: seed_list([1, 1]), "or a list of different whole numbers; got [1, 1]"),
        (lambda: seed_list("12"), "got '12'"),
        (lambda: seed_list(1.5), "got 1.5"),
    ],
)
def test_bad_distributions_counts_and_seeds_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_the_command_lines_axes():
    assert parse_axis("train.batch_size=64,128") == ("train.batch_size", [64, 128])
    assert parse_axis("model.features=(32,), (64, 32)") == ("model.features", [(32,), (64, 32)])
    assert parse_axis("optimizer.clip_norm=None,1e-1") == ("optimizer.clip_norm", [None, 0.1])
    for text in ("train.epochs", "=1", "train.epochs=", "train.epochs=1,,2"):
        with pytest.raises(ValueError, match=f"--vary {text}: expected FIELD=VALUE,VALUE"):
            parse_axis(text)


def test_a_trial_is_its_resolved_config(config):
    same = [
        {"devices": 2}, {"log.progress": "off"}, {"checkpoint.keep": 7}, {"dataset.data_dir": "elsewhere"},
        {"optimizer.momentum": 0.9},
    ]  # fmt: skip
    for fields in same:
        assert identity(load_config(config, fields)) == identity(config)
    others = [{"seed": 1}, {"train.epochs": 11}, {"optimizer.momentum": 0.8}, {"model.name": "mlp"}]
    assert len({identity(config), *(identity(load_config(config, fields)) for fields in others)}) == 5
    longer = load_config(config, {"train.epochs": 11})
    assert identity(longer, but=("train.epochs",)) == identity(config, but=("train.epochs",)) != identity(config)


def test_an_option_of_a_later_version_leaves_finished_trials_known(config, monkeypatch):
    given = {"initial": {"scale": 2.0}, "model": {"name": "mlp"}}
    before = identity(load_config(given))
    later = dataclasses.make_dataclass(
        "Later", [("limit", float | None, None), ("kinds", tuple[str, ...], ())], bases=(InitialOptions,), frozen=True
    )
    monkeypatch.setitem(configs.SECTIONS, "initial", later)
    assert identity(load_config(given)) == before
    used = [
        load_config(given, {f"initial.{name}": value})
        for name, value in (("limit", 0.0), ("limit", 1.0), ("kinds", ("a",)))
    ]
    assert len({before, *map(identity, used)}) == 4


def test_seeds_go_where_they_are_asked_to(config):
    variants = make_variants(config, {"train.epochs": [1, 2]})
    trials = make_trials(config, variants, [3, 4], ("seed", "dataset.split_seed"))
    assert [(trial.variant, trial.seed) for trial in trials] == [
        ("epochs=1", 3), ("epochs=2", 3), ("epochs=1", 4), ("epochs=2", 4)
    ]  # fmt: skip
    assert trials[2].config.dataset.split_seed == trials[2].config.seed == 4
    with pytest.raises(ValueError, match="seed is set by the seeds"):
        make_trials(config, make_variants(config, {"seed": [1, 2]}), [0])
    with pytest.raises(ValueError, match=r"seed=-1: expected a whole number from 0"):
        make_trials(config, variants, [-1])
    with pytest.raises(ValueError, match="unknown field 'dataset.splitseed': did you mean 'dataset.split_seed'"):
        make_trials(config, variants, [0], ("dataset.splitseed",))
