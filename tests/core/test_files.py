import csv
import errno
import io
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.core import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    files.write_json(path, {"old": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"new": 2})
    assert files.read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_made_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "target"
    with pytest.raises(RuntimeError), files.made_whole(target) as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    assert not target.exists() and list((tmp_path / "deep").iterdir()) == []
    for content in ("first", "second"):
        with files.made_whole(target) as temporary:
            (temporary / "file").write_text(content)
    assert (target / "file").read_text() == "second"


def test_read_json_names_a_damaged_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not valid JSON"):
        files.read_json(path)


def test_read_json_names_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes('{"name": "Fräulein"}'.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"config.json: not UTF-8 .invalid continuation byte at byte 12.: save it as UTF-8"
    ):
        files.read_json(path)


@given(st.lists(st.lists(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False)), min_size=1), min_size=1))
def test_no_cell_of_text_is_a_formula_and_numbers_stay(rows):
    text = files.as_csv(rows)
    for row, read in zip(rows, csv.reader(io.StringIO(text, newline="")), strict=True):
        for cell, content in zip(row, read, strict=True):
            if isinstance(cell, str):
                assert not content.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
                assert content.removeprefix("'") == cell.removeprefix("'")
            else:
                assert content == str(cell)


HOLD = "import sys, time; from pathlib import Path; from cnnjax.core import files\nwith files.locked(Path(sys.argv[1]), 'it'): print('held', flush=True); time.sleep(60)"


def test_a_lock_keeps_other_processes_out_and_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(files.InUseError, match=f"it is in use by another process .process {holder.pid}"),
            files.locked(path, "it"),
        ):
            pass
        holder.kill()
        holder.wait()
    with files.locked(path, "it"):
        pass


def test_without_locks_in_the_file_system_a_heartbeat_takes_their_place(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(files, "HEARTBEAT_SECONDS", 0.1)
    path = tmp_path / "lock"
    with files.locked(path, "it"):
        time.sleep(0.6)  # longer than an abandoned lock lives: it must have been renewed
        with pytest.raises(files.InUseError), files.locked(path, "it"):
            pass
    with files.locked(path, "it"):  # given back
        pass
    path.write_text("process 1 on elsewhere")
    os.utime(path, (0, 0))  # last renewed long ago: abandoned
    with files.locked(path, "it"):
        assert str(os.getpid()) in path.read_text()
