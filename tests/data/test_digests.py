"""A file's digests find every change of it that is read, and no other."""

import json
import os
import time

import numpy as np
import pytest

from cnnjax.data import digests


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A file of ten blocks of 1 KiB, of which a start reads three, with its record."""
    monkeypatch.setattr(digests, "BLOCK", 1024)
    monkeypatch.setattr(digests, "SAMPLED", 3 * 1024)
    (tmp_path / "images.npy").write_bytes(np.random.RandomState(0).bytes(9 * 1024 + 100))
    digests.write_sealed(tmp_path / "about.json", {"images.npy": digests.file_digests(tmp_path / "images.npy")})
    return tmp_path


def changed(folder):
    record = folder / "about.json"
    return digests.changed_file(folder, record, digests.read_sealed(record))


def flip(path, position):
    times, content = path.stat(), bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("position", [0, 1023, 1024, 5000, 9 * 1024 + 99])
def test_a_bit_anywhere_is_seen_by_the_daily_check(folder, position):
    assert changed(folder) is None
    flip(folder / "images.npy", position)
    yesterday = time.time() - 86_500
    os.utime(folder / "about.json", (yesterday, yesterday))
    assert changed(folder) == "images.npy"


def test_a_part_is_read_at_each_start_and_finds_what_is_in_it(folder):
    flip(folder / "images.npy", 5000)
    found = [changed(folder) == "images.npy" for _ in range(200)]  # 3 of 10 blocks: 60 expected, standard deviation 6.5
    assert 30 < sum(found) < 90
    flip(folder / "images.npy", 5000)
    assert not any(changed(folder) for _ in range(50))


def test_a_file_that_was_written_to_is_read_whole(folder):
    flip(folder / "images.npy", 5000)
    os.utime(folder / "images.npy")
    assert changed(folder) == "images.npy"


def test_a_thorough_check_is_made_once_a_day(folder, monkeypatch):
    read = []
    monkeypatch.setattr(digests, "_digest", lambda content: read.append(len(content)) or "")
    record, recorded = folder / "about.json", {"images.npy": digests.file_digests(folder / "images.npy")}
    read.clear()
    yesterday = time.time() - 86_500
    os.utime(record, (yesterday, yesterday))
    for expected in (10, 3, 3):
        assert digests.changed_file(folder, record, recorded) is None and len(read) == expected
        read.clear()
    tomorrow = time.time() + 86_500  # a clock that was wrong
    os.utime(record, (tomorrow, tomorrow))
    assert digests.changed_file(folder, record, recorded) is None and len(read) == 10


def test_a_very_large_file_has_few_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "MOST_BLOCKS", 4)
    (tmp_path / "large").write_bytes(bytes(digests.BLOCK * 9))
    found = digests.file_digests(tmp_path / "large")
    assert len(found["digests"]) == 4 and found["block"] * 4 >= found["size"] == digests.BLOCK * 9


def test_sealed_json_is_what_was_written_or_refused(tmp_path):
    path, content = tmp_path / "facts.json", {"counts": {"train": 3}, "mean": [0.1, 1 / 3]}
    digests.write_sealed(path, content)
    assert digests.read_sealed(path) == content
    for text in (path.read_text().replace("3", "4", 1), json.dumps(content), "[]", "{"):
        path.write_text(text)
        with pytest.raises(ValueError, match="facts.json"):
            digests.read_sealed(path)
