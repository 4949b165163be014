import numpy as np
import pytest

import cnnjax
from experiments.drawings import draw_intervals, panels
from experiments.few_images import CLASSES
from experiments.study import Scale, Study, run, started
from experiments.transfer import OTHERS, SCRATCH, SIZES, STARTS, STUDY, variant
from tests.test_runs import same_bits


@pytest.mark.parametrize("size", SIZES)
def test_at_each_size_the_starts_alone_differ(size):
    fields = STUDY.scales["laptop"].fields
    scratch, *others = [
        cnnjax.load_config(STUDY.config, {**fields, **STUDY.axes[variant(start, size)]}) for start in STARTS
    ]
    assert scratch.initial.run is None and scratch.dataset.examples_per_class == size
    for other in others:
        changed = cnnjax.config.differences(scratch, other)
        assert changed.keys() <= {"initial.run", "initial.head", "initial.frozen"}
        assert other.initial.run in STUDY.sources and other.initial.head == "new"


def test_what_is_started_from_has_seen_none_of_the_classes():
    sources = {name: cnnjax.load_config(STUDY.config, fields) for name, fields in STUDY.sources.items()}
    assert sources["digits"].dataset.name == "digits" and sources["digits"].dataset.classes is None
    assert sources["clothes"].dataset.classes == OTHERS and not set(OTHERS) & set(CLASSES)
    assert len({*OTHERS, *CLASSES}) == 10


TINY = {
    "dataset": {"name": "digits", "examples_per_class": 8},
    "log": {"progress": "off", "tensorboard": False},
    "model": {"name": "mlp", "features": (16,)},
    "optimizer": {"learning_rate": 0.0},  # so that weights stay what they began as
    "train": {"batch_size": 16},
    "evaluate": {"batch_size": 72},
}


def test_a_variant_starts_from_the_source_that_it_names_which_is_trained_once(tmp_path):
    study = Study(
        "name", "Title", "Question?", "Answer.", "Exercise.", TINY, {SCRATCH: {}, "started": {"initial.run": "one"}},
        {"smoke": Scale("digits", {"train.epochs": 1}, 2)}, {}, "", sources={"one": {"optimizer.learning_rate": 0.05}},
    )  # fmt: skip
    table = run(study, "smoke", tmp_path / "trials")
    source = tmp_path / "trials-sources" / "one"
    weights = cnnjax.load_run(source).selected.params
    for record in table.trials:
        params = cnnjax.load_run(tmp_path / "trials" / record["directory"]).state.params
        assert same_bits(params, weights) == (record["variant"] == "started")
    before = (source / "DONE").stat().st_mtime_ns
    assert run(study, "smoke", tmp_path / "trials") == table
    assert (source / "DONE").stat().st_mtime_ns == before


def test_a_source_that_is_not_there_is_named():
    assert started({"train.epochs": 3}, {}) == {"train.epochs": 3}
    with pytest.raises(ValueError, match="unknown source 'digit': did you mean 'digits'"):
        started({"initial.run": "digit"}, STUDY.sources)


def test_intervals_are_drawn_as_worked_out_by_hand():
    _, [axis] = panels(1)
    draw_intervals(axis, {"a": {10: [0.50, 0.51, 0.52], 30: [0.6]}, "b": {10: []}})
    bars = axis.containers[0].lines[2][0].get_segments()
    half = 4.303 * 0.01 / np.sqrt(3)  # Student's t with 2 degrees of freedom
    np.testing.assert_allclose(bars[0], [[10, 0.51 - half], [10, 0.51 + half]], atol=1e-5)
    np.testing.assert_allclose(bars[1], [[30, 0.6], [30, 0.6]])
    assert [text.get_text() for text in axis.legend().get_texts()] == ["a", "b"]
