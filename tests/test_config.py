import math
import typing
from typing import Literal

import jax
import ml_collections
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import config as configs
from cnnjax.config import differences, load_config, resolve
from cnnjax.core.options import checked
from cnnjax.data import augment, transforms
from cnnjax.data.augment import AugmentOptions
from cnnjax.data.datasets import DatasetOptions
from cnnjax.tasks.losses import LOSSES, make_criterion
from cnnjax.training.optimizers import OPTIMIZERS, make_optimizer
from cnnjax.training.schedules import SCHEDULES
from tests.commands.shell import run

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
        ({"model.name": ["lenet5"]}, TypeError, "model.name: expected a name"),
        ({"optimizer.weight_decay": math.inf}, ValueError, "expected 0 or more"),
        ({"initial.scale": -0.5}, ValueError, "config: initial.scale=-0.5: expected a number from 0 to"),
        ({"initial.scale": math.nan}, ValueError, "config: initial.scale=nan: expected a number from 0 to"),
        ({"initial.scale": 1e39}, ValueError, "expected a number from 0 to float32's greatest, 3.4e38"),
        ({"initial.scale": "he"}, TypeError, "config: initial.scale: expected a number, got 'he'"),
        ({"initial.scales": 2.0}, ValueError, "did you mean 'initial.scale'"),
        ({"train.epochs": 1e300}, ValueError, "expected 1 to 1,000,000"),
        ({"dataset.name": " "}, ValueError, "expected a name or a path"),
        ({"optimizer.learning_rate": math.nan}, ValueError, "expected 0 or more, finite in float32"),
        ({"optimizer.momentum": 1.0}, ValueError, "expected a number from 0 up to, not including, 1"),
        ({"optimizer.weight_decay": -1e-4}, ValueError, "expected 0 or more"),
        ({"dataset.resize": 32}, TypeError, "expected a tuple of a whole number, a whole number or None"),
        ({"dataset.resize": (0, 32)}, ValueError, "a height and a width of 1 to 16,384"),
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


@pytest.mark.parametrize(
    ("weights", "epsilon"),
    [
        ("torchvision", 0.0),
        ("torchvision:COCO_V1", 0.0),
        ("weights/retinanet_resnet50_fpn_coco-eeacb38b.pth", 0.0),
        ("torchvision:IMAGENET1K_V1", None),  # the encoder's alone
        ("mine.pth", None),
        (None, None),
    ],
)
def test_published_weights_bring_the_epsilon_that_they_were_trained_with(weights, epsilon):
    detector = {"model": {"name": "retinanet_resnet50_fpn"}, "initial": {"weights": weights}}
    assert load_config(detector).model.frozen_epsilon == epsilon
    assert load_config(load_config(detector)).model.frozen_epsilon == epsilon
    assert load_config(detector, {"model.frozen_epsilon": 1e-3}).model.frozen_epsilon == 1e-3


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
    rows = configs.describe_options()
    assert all(meaning for _, _, meaning in rows)
    assert {path for path, _, _ in rows} == set(configs._paths())


def test_fields_are_narrowed_to_a_section_a_component_or_one():
    assert {path.partition(".")[0] for path, *_ in configs.describe_options("train")} == {"train"}
    assert configs.describe_options("train.epochs") == [("train.epochs", 10, "passes over the training split")]
    whole = configs.describe_options("optimizer")
    momentum = [row for row in whole if row[0] == "optimizer.momentum"]
    assert momentum[0][2].endswith(")") and "sgd" in momentum[0][2]
    own = {path.partition(".")[2]: default for path, default, _ in configs.describe_options("optimizer.sgd")}
    assert own == {key: option.default for key, option in configs.section_options("optimizer", "sgd").items()}
    with pytest.raises(ValueError, match="unknown section 'optimiser': did you mean 'optimizer'"):
        configs.describe_options("optimiser")
    with pytest.raises(ValueError, match="unknown field 'optimizer.sdg': did you mean 'optimizer.sgd'"):
        configs.describe_options("optimizer.sdg")


# --- extreme numbers

EXTREMES = [math.nan, math.inf, -math.inf, -1, 0, 1e-300, 1e-40, 1.2e-38, 0.5, 1 - 1e-9, 1, 3.4e38, 1e39, 1e300]
EXTREMES += [2**31 - 1, 2**31, 2**40, 10**400]
IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), "uint8")
TARGETS = jax.ShapeDtypeStruct((2, 10), "float32")
BOXES = jax.ShapeDtypeStruct((2, 3, 6), "float32")
KEYS = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
PARAMS = {"dense": {"kernel": jax.ShapeDtypeStruct((3, 2), "float32"), "bias": jax.ShapeDtypeStruct((2,), "float32")}}


def with_number(kind, value):
    """Values of a type that have the number in every place that takes one; none where it has no such place."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float):
        return [value]
    if origin is tuple:
        if inner[-1] is Ellipsis:  # of any length
            return [found * count for found in with_number(tuple[inner[0]], value) for count in (1, 2)]
        parts = [with_number(part, value) for part in inner]
        texts = [typing.get_args(part)[:1] or ("kernel",) for part in inner]
        return [tuple((part or text)[0] for part, text in zip(parts, texts, strict=True))] if any(parts) else []
    return [found for part in inner for found in with_number(part, value)] if origin is not Literal else []


def build_augment(name, fields):
    options = AugmentOptions(**fields)
    augment.output_shape(IMAGES.shape[1:], options)
    if {"mixup", "cutmix"} & fields.keys():
        mix = lambda images, targets, key: augment.mix(images, targets, key, options)  # noqa: E731
        jax.eval_shape(mix, IMAGES, TARGETS, jax.random.key(0))
    elif {"iou_crop", "mosaic"} & fields.keys():
        change = lambda examples, keys: augment.augment_examples(examples, keys, options, visible=0.5)  # noqa: E731
        jax.eval_shape(change, {"image": IMAGES, "label": BOXES}, KEYS)
    else:
        change = lambda images, keys: augment.augment(images.astype("float32"), keys, options)  # noqa: E731
        jax.eval_shape(change, IMAGES, KEYS)


def build_dataset(name, fields):
    fixed = {"normalize": "fixed", "mean": (0.5,), "std": (0.5,)} if {"mean", "std"} & fields.keys() else {}
    folds = {"folds": 3} if "fold" in fields else {}
    window = {"normalize": "none"} if "local_contrast" in fields else {}
    options = DatasetOptions(**(fixed | folds | window | fields))
    statistics = transforms.Statistics((100.0,) * 3, (50.0,) * 3)
    jax.eval_shape(lambda images: transforms.normalize(images, options, statistics), IMAGES)


def build_optimizer(name, fields):
    optimizer = make_optimizer(name, lambda step: fields.get("learning_rate", 0.1), **fields)
    jax.eval_shape(lambda params: optimizer.update(params, optimizer.init(params), params), PARAMS)


def build_schedule(name, fields):
    needed = {"epochs": (1.0,)} if name == "step" and not {"epochs", "every"} & fields.keys() else {}
    rate = SCHEDULES[name](0.1, 100, 10, **needed, **fields)
    assert np.isfinite(rate(jax.numpy.array([0, 1, 50, 99]))).all()


def build_loss(name, fields):
    jax.eval_shape(make_criterion(LOSSES[name], np.full(10, 3), **fields).train, TARGETS, TARGETS)


BUILD = {
    ("augment", ""): build_augment,
    ("dataset", ""): build_dataset,
    **{("optimizer", name): build_optimizer for name in OPTIMIZERS},
    **{("schedule", name): build_schedule for name in SCHEDULES},
    **{("loss", name): build_loss for name in LOSSES},
}
SECTION_NAMES = [(section, "") for section in configs.SECTIONS]
SECTION_NAMES += [(section, name) for section, (registry, _) in configs.COMPONENTS.items() for name in registry]


@pytest.mark.parametrize(("section", "name"), SECTION_NAMES)
def test_an_extreme_number_is_refused_by_name_or_what_it_configures_can_be_built(section, name):
    built = set()
    for key, option in configs.section_options(section, name or None).items():
        path = f"{section}.{key}"
        for value in [found for number in EXTREMES for found in with_number(option.type, number)]:
            try:
                fields = {key: checked(path, value, option)}
                if (section, name) in BUILD:
                    BUILD[section, name](name, fields)
                    built.add(key)
            except (ValueError, TypeError) as error:
                assert path in str(error), (path, value)
    numbers = {
        key for key, option in configs.section_options(section, name or None).items() if with_number(option.type, 1)
    }
    assert (section, name) not in BUILD or built >= numbers - {"class_weights", "mean", "std"} - {"randaugment"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[("optimizer.learning_rate", value) for value in (1e39, 1e-40)],
        *[(f"optimizer.{field}", 1 - 1e-9) for field in ("momentum",)],
        *[("augment.mixup", value) for value in (1e-300, 1e-9)],
        *[("loss.class_weights", value) for value in ((1.0, math.inf), (0.0, 0.0), (math.nan, 1.0), ())],
        ("dataset.mean", (math.nan,)),
        ("dataset.std", (math.inf,)),
        ("augment.shift", 1e9),
        ("augment.pad", 2**31),
        ("augment.cutout", 2**31),
        ("dataset.folds", 2**40),
        ("dataset.folds", 1e300),
        ("optimizer.groups", (("kernel", "learning_rate", math.inf),)),
        ("train.ema", 1 - 1e-9),
        ("train.batch_size", 2**31),
        ("dataset.split_seed", -1),
    ],
)
def test_numbers_that_mean_nothing_are_refused(path, value):
    with pytest.raises(ValueError, match=rf"config: {path}=.*: expected "):
        resolve({}, {path: value})


@pytest.mark.parametrize("field", ["pad", "shift", "elastic", "cutout"])
def test_what_would_reach_beyond_the_images_is_refused_where_their_size_is_known(field):
    augment.output_shape((32, 28, 1), AugmentOptions(**{field: 32}))
    with pytest.raises(ValueError, match=rf"augment.{field}=33: expected at most the images' size, 32x28"):
        augment.output_shape((32, 28, 1), AugmentOptions(**{field: 33}))


def test_a_path_among_the_sections_is_refused():
    with pytest.raises(
        ValueError, match="config: 'dataset.name' is a field of a section: nest it, or pass it as an override"
    ):
        load_config({"dataset.name": "digits"})


def test_what_an_installed_package_offers_is_chosen_by_name_and_recorded_by_where_it_is(tmp_path, monkeypatch, capsys):
    (tmp_path / "theirlab.py").write_text(
        "import flax.linen as nn\nclass Net(nn.Module):\n    num_classes: int\n    width: int = 3\n"
    )
    about = tmp_path / "theirlab-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirlab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cnnjax.models]\ntheirnet = theirlab:Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    configs.offered_components.cache_clear()
    try:
        assert resolve({"model": {"name": "theirnet"}}).model.to_dict() == {"name": "theirlab:Net", "width": 3}
        code, lines, _ = run(capsys, "models")
        assert code == 0 and any("theirnet" in line and "theirlab:Net of theirlab" in line for line in lines)
        assert any("theirnet (of theirlab)" in str(row) for row in configs.describe_options("model.name"))
        (about / "entry_points.txt").write_text("[cnnjax.models]\nlenet5 = theirlab:Net\n")
        configs.offered_components.cache_clear()
        with pytest.raises(ValueError, match="'lenet5' of cnnjax.models is offered by theirlab and by cnnjax"):
            resolve({"model": {"name": "lenet5"}})
    finally:
        monkeypatch.undo()
        configs.offered_components.cache_clear()


def test_what_is_chosen_of_a_config_is_what_differs_from_the_defaults_wherever_its_files_are(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "import flax.linen as nn\nclass Net(nn.Module):\n    num_classes: int\n    width: int\n    depth: int = 2\n"
        "    def __call__(self, x, train=False):\n        return x\n"
    )
    config = configs.load_config(
        {"folder": str(tmp_path), "model": {"name": "./own.py:Net", "width": 3}, "seed": 7, "train": {"epochs": 4}}
    )
    monkeypatch.chdir(tmp_path.parent)
    assert configs.chosen(config) == {
        "seed": 7, "train.epochs": 4, "model.name": "./own.py:Net", "model.width": 3, "task.name": "classification",
        "loss.name": "cross_entropy", "optimizer.name": "sgd", "schedule.name": "constant",
    }  # fmt: skip
