import jax
import numpy as np
import pytest

from cnnjax.config import load_config
from cnnjax.core.randomness import stream_key
from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions
from cnnjax.tasks import Classification
from cnnjax.training.experiment import prepared_in_training
from cnnjax.training.step import training_inputs
from tests.data.augment.examples import BATCH, KEYS, apply

FILE = """
import jax, jax.numpy as jnp

def dim_a_row(key, example):
    row = jax.random.randint(key, (), 0, example["image"].shape[0])
    return {**example, "image": example["image"].at[row].multiply(0.5)}

def flip_label(key, example):
    return {**example, "label": 3 - example["label"]}

def cut(key, example):
    return {**example, "image": example["image"][1:]}

def nothing(key, example):
    return None
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def extra(folder, name):
    return augment.find_extra(AugmentOptions(extra=f"./mine.py:{name}"), folder)


def test_it_is_applied_after_ours_to_each_example_with_a_key_of_its_own(folder):
    dim = extra(folder, "dim_a_row")
    for options in ({}, {"flip_horizontal": True, "brightness": 0.4}):
        ours = apply(**options)
        options = AugmentOptions(**options)
        both = jax.jit(lambda images, options=options: augment.augment(images, KEYS, options, dim))(
            BATCH.astype(np.uint8)
        )
        both = np.asarray(both)
        rows = [int(jax.random.randint(stream_key(key, "extra"), (), 0, 12)) for key in KEYS]
        for row, before, after in zip(rows, ours, both, strict=True):
            np.testing.assert_allclose(after[row], before[row] / 2, rtol=1e-6)
            np.testing.assert_allclose(np.delete(after, row, 0), np.delete(before, row, 0), rtol=1e-6)


def test_it_may_change_the_label_of_a_training_batch(folder):
    config = load_config(
        {"augment": {"extra": "./mine.py:flip_label"}, "dataset": {"normalize": "none"}, "folder": str(folder)}
    )
    inputs = training_inputs(Classification(), prepared_in_training(config, None, {"num_classes": 4}, 0), 0, 1)
    labels = np.arange(8, dtype=np.int32) % 4
    made = jax.jit(inputs)({"image": BATCH, "label": labels, "index": np.arange(8)}, 0)
    np.testing.assert_allclose(made["image"], BATCH / 255, rtol=1e-6)
    np.testing.assert_array_equal(np.argmax(made["target"], -1), 3 - labels)


def test_what_it_must_not_do_is_refused_in_a_line(folder):
    with pytest.raises(
        ValueError, match=r"augment.extra cut: expected an example with unchanged shapes.*\(12, 12, 3\).*\(11, 12, 3\)"
    ):
        augment.augment(BATCH, KEYS, AugmentOptions(), extra(folder, "cut"))
    with pytest.raises(
        ValueError, match="augment.extra nothing: expected an example with unchanged shapes.*got NoneType"
    ):
        augment.augment(BATCH, KEYS, AugmentOptions(), extra(folder, "nothing"))
    with pytest.raises(ValueError, match="augment.extra flip_label: it uses the key 'label', but examples have image"):
        augment.augment(BATCH, KEYS, AugmentOptions(), extra(folder, "flip_label"))


def test_a_config_names_it_and_a_wrong_name_is_said_at_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = load_config({"augment": {"extra": "./mine.py:dim_a_row"}})
    assert config.augment.extra == "./mine.py:dim_a_row"
    with pytest.raises(ValueError, match=r"augment.extra='./mine.py:dim_a_raw'.*did you mean 'dim_a_row'"):
        load_config({"augment": {"extra": "./mine.py:dim_a_raw"}})
    with pytest.raises(ValueError, match="augment.extra"):
        load_config({"augment": {"extra": "blur"}})
