import itertools
import logging
import multiprocessing
import time

import numpy as np
import pytest

from cnnjax.training.checkpoints import CheckpointError, CheckpointOptions, Checkpoints, StructureError, _absl_quiet
from cnnjax.training.state import State


def state(step, value=None):
    value = step if value is None else value
    params = {"layer": {"kernel": np.full((40, 30), value, np.float32), "bias": np.zeros(3, np.float32)}}
    return State(np.asarray(step, np.int32), params, {}, {"trace": np.arange(5, dtype=np.float32)}, np.float32(1))


TARGET = state(0)


def fill(folder, accuracies, keep=2):
    with Checkpoints(folder, CheckpointOptions(keep=keep), "accuracy", "max") as checkpoints:
        for step, accuracy in accuracies.items():
            metrics = None if accuracy is None else {"valid/accuracy": accuracy}
            checkpoints.save(state(step), {"sums": {"loss": step / 3}}, metrics)
            checkpoints.wait()
        return checkpoints.steps()


def read(folder, **options):
    with Checkpoints(folder, CheckpointOptions(), "accuracy", "max", **options) as checkpoints:
        return checkpoints.latest(TARGET), checkpoints.best(TARGET)


def test_a_checkpoint_without_an_evaluation_is_nothing_to_warn_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "absl"):
        assert fill(tmp_path / "c", {1: None, 2: 0.5}) == [1, 2]
    assert "metric" not in caplog.text


def test_what_the_command_line_silenced_stays_silent_while_saving(caplog):
    with caplog.at_level(logging.CRITICAL, "absl"), _absl_quiet():
        assert not logging.getLogger("absl").isEnabledFor(logging.ERROR)


def test_a_state_comes_back_bit_for_bit_with_its_notes(tmp_path):
    saved = state(7, 0.1)
    with Checkpoints(tmp_path / "c", CheckpointOptions(), "accuracy", "max") as checkpoints:
        checkpoints.save(saved, {"sums": {"loss": 0.1 + 0.2}}, None)
    restored, best = read(tmp_path / "c")
    assert best is None and restored.notes == {"sums": {"loss": 0.1 + 0.2}}
    assert int(restored.state.step) == 7 and restored.state.batch_stats == {}
    np.testing.assert_array_equal(restored.state.params["layer"]["kernel"], saved.params["layer"]["kernel"])
    assert restored.state.params["layer"]["kernel"].dtype == np.float32


def test_the_latest_and_the_best_are_kept(tmp_path):
    accuracies = {1: 0.5, 2: 0.9, 3: None, 4: 0.7, 5: None, 6: 0.8}
    assert fill(tmp_path / "c", accuracies) == [2, 5, 6]
    latest, best = read(tmp_path / "c")
    assert (int(latest.state.step), int(best.state.step)) == (6, 2)


def test_of_equally_good_ones_the_latest_is_best_before_and_after_a_restart(tmp_path):
    assert fill(tmp_path / "c", {1: 0.9, 2: 0.9, 3: 0.5}, keep=1) == [2, 3]
    assert fill(tmp_path / "c", {4: 0.9, 5: 0.1}, keep=1) == [4, 5]
    assert int(read(tmp_path / "c")[1].state.step) == 4


def test_saving_a_step_again_changes_nothing(tmp_path):
    with Checkpoints(tmp_path / "c", CheckpointOptions(), "accuracy", "max") as checkpoints:
        checkpoints.save(state(1, 5), {"sums": None}, None)
        checkpoints.save(state(1, 6), {"sums": None}, None)
    assert read(tmp_path / "c")[0].state.params["layer"]["kernel"][0, 0] == 5


def test_no_checkpoint_is_no_error(tmp_path):
    assert read(tmp_path / "c") == (None, None)


def damage_bytes(folder):
    """Flips bytes in the middle of the largest data file."""
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(bytes(content))


def damage_truncate(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_notes(folder):
    [path] = (folder / "notes").glob("metadata")
    path.write_text("{")


# After a failed read TensorStore's callbacks find the event loop that Orbax has closed, and complain to nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [damage_bytes, damage_truncate, damage_notes])
def test_a_damaged_checkpoint_is_named_and_skipped(tmp_path, caplog, damage):
    fill(tmp_path / "c", {1: 0.5, 2: 0.9})
    damage(tmp_path / "c" / "00000002")
    with caplog.at_level(logging.WARNING):
        latest, best = read(tmp_path / "c", read_only=True)
    assert (int(latest.state.step), int(best.state.step)) == (1, 1)
    assert any("00000002 is damaged" in record.message and "skipped" in record.message for record in caplog.records)
    assert (tmp_path / "c" / "00000002").exists()  # read only: left as it is
    latest, _ = read(tmp_path / "c")
    assert int(latest.state.step) == 1 and not (tmp_path / "c" / "00000002").exists()
    fill(tmp_path / "c", {2: 0.9})
    assert int(read(tmp_path / "c")[0].state.step) == 2


@pytest.mark.parametrize("content", ["", "{", "{}", "[0.9]", '{"valid/accuracy": "high"}', b"\xff\xfe"])
def test_a_checkpoint_with_damaged_metrics_is_named_and_not_the_best(tmp_path, caplog, content):
    fill(tmp_path / "c", {1: 0.5, 2: 0.9})
    path = tmp_path / "c" / "00000002" / "metrics" / "metrics"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read_only in (True, False):
        latest, best = read(tmp_path / "c", read_only=read_only)
        assert (int(latest.state.step), int(best.state.step)) == (2, 1)
    [message] = [record.message for record in caplog.records if record.name.startswith("cnnjax")]
    assert message.startswith(f"{path} is damaged (") and message.endswith("does not count as the best")
    assert fill(tmp_path / "c", {3: 0.7}) == [2, 3]  # one of them the best, two the latest


def save_and_delete(folder, stop):
    """Saves checkpoint after checkpoint, of which one is kept."""
    with Checkpoints(folder, CheckpointOptions(keep=1), "accuracy", "max") as checkpoints:
        for step in itertools.count(2):
            checkpoints.save(state(step), {"sums": None}, {"valid/accuracy": step / 1e6})
            if stop.is_set():
                return


# TensorStore tells a reading that was given up, whose event loop has gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_checkpoints_are_read_while_another_process_saves_and_deletes(tmp_path, caplog):
    fill(tmp_path / "c", {1: 0.0})
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    writer = context.Process(target=save_and_delete, args=(tmp_path / "c", stop))
    writer.start()
    try:
        while len(list((tmp_path / "c").iterdir())) < 2:  # until it has started
            time.sleep(0.01)
        steps = []
        for _ in range(30):
            with Checkpoints(tmp_path / "c", CheckpointOptions(), "accuracy", "max", read_only=True) as checkpoints:
                time.sleep(0.05)  # what was listed may be gone by now
                steps += [int(checkpoints.latest(TARGET).state.step), int(checkpoints.best(TARGET).state.step)]
    finally:
        stop.set()
        writer.join()
    assert writer.exitcode == 0 and len(set(steps)) > 5
    assert not [record for record in caplog.records if record.name.startswith("cnnjax")]


def test_a_half_written_checkpoint_is_none(tmp_path):
    fill(tmp_path / "c", {1: 0.5, 2: 0.9})
    for marker in (tmp_path / "c" / "00000002").glob("commit_success.txt"):
        marker.unlink()
    assert int(read(tmp_path / "c")[0].state.step) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_where_none_can_be_read_it_is_said(tmp_path):
    fill(tmp_path / "c", {1: 0.5})
    damage_bytes(tmp_path / "c" / "00000001")
    with pytest.raises(CheckpointError, match="none of the checkpoints in .* can be read"):
        read(tmp_path / "c")


def other_bias(target):
    del target.params["layer"]["bias"]


def other_kernel(target):
    target.params["layer"]["kernel"] = np.zeros((30, 40), np.float32)


def other_optimiser(target):
    target.opt_state["mu"] = target.opt_state.pop("trace")


def other_type(target):
    target.params["layer"]["kernel"] = np.zeros((40, 30), np.int32)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("change", "first"),
    [
        (other_bias, r"params/layer/bias is float32 of \(3,\) there and absent here, and 0 more differ"),
        (other_kernel, r"params/layer/kernel is float32 of \(40, 30\) there and float32 of \(30, 40\) here"),
        (other_optimiser, r"opt_state/mu is absent there and float32 of \(5,\) here, and 1 more"),
        (other_type, r"params/layer/kernel is float32 of \(40, 30\) there and int32 of \(40, 30\) here"),
    ],
)
def test_a_checkpoint_of_another_structure_is_not_damaged(tmp_path, caplog, change, first):
    """The message names the first parameter that differs, and nothing is deleted or skipped."""
    fill(tmp_path / "c", {1: 0.5, 2: 0.9})
    target = state(0)
    change(target)
    with Checkpoints(tmp_path / "c", CheckpointOptions(), "accuracy", "max") as checkpoints:
        for read_one in (checkpoints.latest, checkpoints.best):
            with pytest.raises(StructureError, match=rf"c/00000002 belongs to another network or optimiser: {first}"):
                read_one(target)
        assert checkpoints.steps() == [1, 2] and not caplog.records
    assert int(read(tmp_path / "c")[0].state.step) == 2


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    with Checkpoints(tmp_path / "c", CheckpointOptions(), "accuracy", "max") as checkpoints:
        checkpoints.save(state(1), {"sums": None}, None)
        with pytest.raises(FloatingPointError, match=r"params\['layer'\]\['kernel'\] is no longer finite after step 2"):
            checkpoints.save(state(2, np.nan), {"sums": None}, None)
        assert checkpoints.steps() == [1]
