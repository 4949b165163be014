import math

import ml_collections
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import config as configs
from cnnjax.config import differences, load_config, resolve

GIVEN = {"model": {"name": "lenet5", "activation": "relu"}, "optimizer": {"learning_rate": 0.2}}


def test_defaults_fill_what_is_not_set():
    config = resolve(GIVEN)
    assert (config.model.name, config.model.activation, config.model.pooling) == ("lenet5", "relu", "average")
    assert config.optimizer.learning_rate == 0.2 and config.optimizer.momentum == 0.9
    assert (config.seed, config.dataset.name, config.train.batch_size) == (0, "digits", 128)
    assert config.is_locked


def test_precedence_is_defaults_file_overrides():
    config = resolve(GIVEN, {"optimizer.learning_rate": 0.3, "train.epochs": 7})
    assert (config.optimizer.learning_rate, config.optimizer.momentum, config.train.epochs) == (0.3, 0.9, 7)
    assert GIVEN["optimizer"] == {"learning_rate": 0.2}  # what was given is left as it was


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (
            {"optimizer.learning_rat": 1},
            ValueError,
            "unknown field 'optimizer.learning_rat': did you mean 'optimizer.learning_rate'",
        ),
        ({"learning_rate": 1}, ValueError, "unknown field 'learning_rate': did you mean 'optimizer.learning_rate'"),
        ({"optimiser.momentum": 1}, ValueError, "did you mean 'optimizer.momentum'"),
        ({"model.features": (3,)}, ValueError, "unknown field 'model.features' of model 'lenet5'"),
        ({"model.name": "lenet"}, ValueError, "unknown model.name 'lenet': did you mean 'lenet5'"),
        ({"train.epochs": "many"}, TypeError, "config: train.epochs: expected a whole number, got 'many'"),
        ({"train.epochs": 2.5}, TypeError, "expected a whole number, got 2.5"),
        ({"train.epochs": 0}, ValueError, "train.epochs=0: expected 1 to 1,000,000"),
        ({"train": 3}, ValueError, "train is a section: set its fields, such as train.batch_size"),
        ({"model": 3}, ValueError, "model is a section: set its fields"),
        ({"model.name": ["lenet5"]}, ValueError, "unknown model.name"),
        ({"optimizer.weight_decay": math.inf}, ValueError, "expected 0 or more"),
        ({"initial.scale": -0.5}, ValueError, "config: initial.scale=-0.5: expected a number from 0 to"),
        ({"initial.scale": math.nan}, ValueError, "config: initial.scale=nan: expected a number from 0 to"),
        ({"initial.scale": 1e39}, ValueError, "expected a number from 0 to float32's greatest, 3.4e38"),
        ({"initial.scale": "he"}, TypeError, "config: initial.scale: expected a number, got 'he'"),
        ({"initial.scales": 2.0}, ValueError, "did you mean 'initial.scale'"),
        ({"train.epochs": 1e300}, ValueError, "expected 1 to 1,000,000"),
        ({"dataset.name": " "}, ValueError, "expected a name or a path"),
        ({"optimizer.learning_rate": math.nan}, ValueError, "expected a finite number"),
        ({"optimizer.momentum": 1.0}, ValueError, "expected a number from 0 up to, not including, 1"),
        ({"optimizer.weight_decay": -1e-4}, ValueError, "expected 0 or more"),
        ({"dataset.resize": 32}, TypeError, "expected a tuple of a whole number, a whole number or None"),
        ({"dataset.resize": (0, 32)}, ValueError, "a height and a width above 0"),
        ({"dataset.normalize": "fixed"}, ValueError, "needs dataset.mean and dataset.std"),
        ({"model.pooling": "median"}, TypeError, "expected one of 'average', 'max', 'min'"),
        ({"devices": 0}, ValueError, "devices=0: expected at least 1"),
        ({"seed": -1}, ValueError, "seed=-1"),
    ],
)
def test_a_wrong_override_is_named_with_what_would_be_right(overrides, error, message):
    with pytest.raises(error, match=message):
        resolve(GIVEN, overrides)


def test_wrong_fields_in_a_file_are_named_too():
    with pytest.raises(ValueError, match=r"unknown field 'modle': did you mean 'model'"):
        resolve({"modle": {}})
    with pytest.raises(ValueError, match=r"unknown field 'train.epoch': did you mean 'train.epochs'"):
        resolve({"train": {"epoch": 3}})
    with pytest.raises(TypeError, match="train: expected a section"):
        resolve({"train": 3})


def test_another_component_starts_from_its_own_defaults_and_keeps_what_was_set_for_both():
    # activation="relu" was set and mlp has one; pooling is lenet5's; lenet5's default activation is not carried over
    assert resolve(GIVEN, {"model.name": "mlp"}).model.to_dict() == resolve({"model": {"name": "mlp"}}).model.to_dict()
    resolved = resolve({"model": {"name": "lenet5", "activation": "sigmoid"}})
    changed = resolve(resolved, {"model.name": "mlp", "model.features": (5,)})
    assert changed.model.to_dict() == {"name": "mlp", "features": (5,), "activation": "sigmoid", "dropout_rate": 0.0}
    assert resolve(resolve({}), {"model.name": "mlp"}).model.activation == "relu"


def test_a_config_dicts_references_stay_alive_under_overrides():
    given = ml_collections.ConfigDict({"train": {"batch_size": 32}, "evaluate": {}})
    given.evaluate.batch_size = given.train.get_ref("batch_size") * 4
    assert resolve(given).evaluate.batch_size == 128
    assert resolve(given, {"train.batch_size": 10}).evaluate.batch_size == 40
    assert given.train.batch_size == 32


def test_resolving_again_changes_nothing_and_json_round_trips(tmp_path):
    config = resolve(GIVEN, {"dataset.resize": (20, 24)})
    assert resolve(config).to_dict() == config.to_dict()
    path = tmp_path / "config.json"
    path.write_text(__import__("json").dumps(configs.to_json(config)))
    assert load_config(path).to_dict() == config.to_dict()


def test_a_locked_config_refuses_a_typo():
    config = resolve(GIVEN)
    with pytest.raises(AttributeError):
        config.train.epoch = 3


@pytest.mark.parametrize("name", sorted(configs.shipped_configs()))
def test_every_shipped_config_resolves_and_says_what_it_is(name):
    path = configs.shipped_configs()[name]
    assert load_config(path).to_dict() == load_config(name).to_dict()
    documented = path.read_text().split('"""')[1]
    assert f"cnnjax train --config configs/{name}.py" in documented and "esult" in documented


def write(path, text):
    path.write_text(text)
    return path


def test_files_take_an_argument(tmp_path):
    path = write(tmp_path / "c.py", "def get_config(epochs='1'):\n    return {'train': {'epochs': int(epochs)}}\n")
    assert load_config(path).train.epochs == 1
    assert load_config(f"{path}:5").train.epochs == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no function get_config"),
        ("def get_config():\n    return 3", "returned int, expected a dict or a ConfigDict"),
        ("def get_config(:", "cannot be run: SyntaxError"),
        ("import nothing_of_this_name", "cannot be run: ModuleNotFoundError"),
    ],
)
def test_files_that_are_no_config_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_config(write(tmp_path / "c.py", text))


def test_files_that_do_not_exist_have_near_ones(tmp_path):
    write(tmp_path / "mine.py", "")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*mine.py"):
        load_config(tmp_path / "mien.py")
    with pytest.raises(FileNotFoundError, match="did you mean 'quickstart'"):
        load_config("quikstart")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_config(tmp_path)


def test_an_argument_for_a_file_that_takes_none_is_refused(tmp_path):
    path = write(tmp_path / "c.py", "def get_config():\n    return {}\n")
    with pytest.raises(ValueError, match="takes no argument"):
        load_config(f"{path}:x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("relu", "relu"),
        ("(2, 3)", (2, 3)),
        ("None", None),
        ("none", "none"),
        ("False", False),
        ("true", True),
    ],
)
def test_values_from_the_command_line(text, value):
    assert configs.parse_value(text) == value


def test_none_is_the_absence_of_a_value_or_an_option_of_that_name():
    config = resolve({"dataset": {"resize": (3, 3)}}, {"dataset.resize": "none", "dataset.normalize": "none"})
    assert config.dataset.resize is None and config.dataset.normalize == "none"


def test_numpy_scalars_are_numbers():
    config = resolve({}, {"train.epochs": np.int64(3), "optimizer.learning_rate": np.float32(0.5)})
    assert config.train.epochs == 3 and type(config.optimizer.learning_rate) is float


@pytest.mark.parametrize("source", [5, [1], None])
def test_what_is_no_config_at_all_is_refused(source):
    with pytest.raises(TypeError, match="expected a file's path, a dict or a ConfigDict"):
        load_config(source)


def test_a_shipped_config_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart").dataset.name == "digits"


@given(st.floats(1e-6, 1.0), st.integers(1, 1000))
def test_differences_are_the_fields_that_differ(rate, epochs):
    old, new = resolve({}), resolve({}, {"optimizer.learning_rate": rate, "train.epochs": epochs})
    expected = {"optimizer.learning_rate": (0.01, rate), "train.epochs": (10, epochs)}
    assert differences(old, new) == {path: pair for path, pair in expected.items() if pair[0] != pair[1]}


def test_every_field_has_a_meaning():
    for section, key, _, meaning in configs.describe_options():
        assert meaning, f"{section}.{key}"
