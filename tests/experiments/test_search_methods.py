import numpy as np
import pytest

from cnnjax.core import files
from experiments import search_methods as study
from experiments.search_methods import Trial


@pytest.mark.slow
def test_every_method_has_its_trials_and_a_row(tmp_path):
    arguments = ["--scale", "smoke", "--workdir", str(tmp_path / "trials"), "--out", str(tmp_path)]
    study.main(arguments)
    stored = files.read_json(tmp_path / "search_methods.json")
    assert {method: [len(trials) for trials in of] for method, of in stored["searches"].items()} == {
        "grid": [8], "random": [8], "coarse_to_fine": [6],
    }  # fmt: skip
    assert all(max(valid for _, valid, _ in trials) > 0.1 for [trials] in stored["searches"].values())
    text = (tmp_path / "search_methods.md").read_text()
    assert text == study.page(stored) and (tmp_path / "search_methods.svg").stat().st_size > 2000
    for name in study.NAMES.values():
        assert text.count(f"| {name} |") == 1


def test_the_best_so_far_by_the_epochs_spent_by_hand():
    trials = [Trial(4, 0.9, 0.7), Trial(1, 0.5, 0.6), Trial(2, 0.5, 0.4)]
    valid, test = study.best_by_budget(trials, [0, 1, 3, 6, 7])
    np.testing.assert_allclose(valid, [np.nan, 0.5, 0.5, 0.5, 0.9])
    np.testing.assert_allclose(test, [np.nan, 0.6, 0.6, 0.6, 0.7])  # of a tie the first
    # Two of the same length, in either order: after one of them the mean of both.
    valid, test = study.best_by_budget([Trial(1, 0.4, 0.3), Trial(1, 0.8, 0.7)], [1, 2], orders=2000)
    np.testing.assert_allclose([*valid, *test], [0.6, 0.8, 0.5, 0.7], atol=0.02)


def test_the_committed_page_is_the_stored_results():
    stored = files.read_json(study.RESULTS / "search_methods.json")
    assert (study.RESULTS / "search_methods.md").read_text() == study.page(stored)
    scale = study.SCALES[stored["scale"]]
    for searches in stored["searches"].values():
        assert len(searches) == scale.repetitions
    # Seeds differ, so that no two searches of a method are the same.
    assert all(len({tuple(map(tuple, trials)) for trials in of}) == len(of) for of in stored["searches"].values())
