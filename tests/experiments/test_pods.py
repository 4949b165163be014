"""The study of pods: its page and figure are what is stored, and its tables are the bounds' arithmetic."""

import json

import pytest

from cnnjax.ahead import targets
from experiments import pods

STORED = json.loads(pods.STORED.read_text())


def test_the_committed_page_and_figure_are_written_from_what_is_stored(tmp_path):
    pods.main(["--page", "--out", str(tmp_path)])
    for name in ("pods.md", *["pods.svg"] * pods.has_figure(STORED["results"])):
        assert (tmp_path / name).read_bytes() == (pods.RESULTS / name).read_bytes(), "python -m experiments.pods --page"


def test_what_is_stored_was_asked_for_and_fits():
    asked = [pods.key(*pair) for pair in pods.wanted()]
    assert len(set(asked)) == len(asked) and set(asked) >= STORED["results"].keys()
    assert all(found["train"]["fits"] for found in STORED["results"].values())


def test_devices_of_a_slice_do_what_one_does_alone():
    """The operations of each are the same, and bytes to combine are those of the gradients, whatever the number of chips."""
    for network in pods.SCALED:
        names = {target: pods.key(network, target) for target in pods.TARGETS}
        found = {
            target: STORED["results"][name]["train"] for target, name in names.items() if name in STORED["results"]
        }
        for target, program in found.items():
            assert program["batch_size"] == network.images * targets.parse(target).count
            alone = found["tpu:v5e:1" if target.startswith("tpu") else "cuda:h100:1"]
            assert program["flops"] == pytest.approx(alone["flops"], rel=0.02)
            sent = program["collectives"].get("all-reduce", {"bytes": 0})["bytes"]
            assert (
                sent == 0 if program is alone else sent >= program["memory"]["state"] / 2 * 0.99
            )  # weights and momentum


def test_a_row_by_hand(monkeypatch):
    def program(seconds, count):
        parts = {"compute_seconds": 0.001, "memory_seconds": 0.002, "collective_seconds": seconds}
        bound = {"seconds": max(parts.values()), "images_per_second": 8 * count / max(parts.values()), **parts}
        sent = {"all-reduce": {"number": 3, "bytes": 2**21}} if count > 1 else {}
        return {"train": {"batch_size": 8 * count, "memory": {"peak": 2**30}, "collectives": sent, "bound": bound}}

    network = pods.Network("Net", "net", (8, 8, 1), 10, 8)
    monkeypatch.setattr(pods, "TARGETS", ("tpu:v5e:1", "tpu:v5e:4", "tpu:v5e:16"))
    results = {pods.key(network, "tpu:v5e:1"): program(0.0, 1), pods.key(network, "tpu:v5e:4"): program(0.004, 4)}
    assert [*pods.scaling_rows(network, results)] == [
        ["Net, tpu:v5e:1", "8", "1.00", "0", "0.0", "1.000", "2.000", "0.000", "memory", "4,000", "100.0 %"],
        ["Net, tpu:v5e:4", "32", "1.00", "3", "2.0", "1.000", "2.000", "4.000", "links", "8,000", "50.0 %"],
    ]
