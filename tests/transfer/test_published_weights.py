"""Published weights: from a server of our own, of files in the true format whose names have the beginning of their SHA-256."""

import dataclasses
import hashlib
import http.server
import re
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.transfer import published_weights
from cnnjax.transfer.published_weights import PUBLISHED_WEIGHTS, Weights, fetch, find
from cnnjax.transfer.torchvision import NETWORKS

CONTENT = bytes(range(256)) * 9000
FILE = f"resnet18-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that weights are put into."""
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server(monkeypatch):
    """{path: (status, content, length that is announced)} that a server answers with, and the paths it was asked for."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, content, length = answers.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        monkeypatch.setattr(published_weights, "ADDRESS", f"http://127.0.0.1:{started.server_port}/models")
        yield answers, asked
        started.shutdown()


def weights(file=FILE):
    return Weights("resnet18", "IMAGENET1K_V1", file, 2, 69.758, 89.078)


def test_a_file_is_downloaded_once_whole_and_checked(cache, server, capsys):
    answers, asked = server
    answers[f"/models/{FILE}"] = 200, CONTENT, len(CONTENT)
    assert fetch(weights()) == fetch(weights()) == cache / FILE
    assert (cache / FILE).read_bytes() == CONTENT and asked == [f"/models/{FILE}"]
    assert f"downloading {published_weights.ADDRESS}/{FILE} (2 MiB)" in capsys.readouterr().err
    (cache / FILE).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=f"{FILE} is not torchvision's file: its SHA-256 begins with .*: delete it"):
        fetch(weights())


def test_a_file_of_pytorchs_cache_is_used(cache, server, tmp_path):
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / FILE).write_bytes(CONTENT)
    assert fetch(weights()) == hub / FILE and not server[1]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((200, CONTENT[:-9], len(CONTENT) - 9), ValueError, "the download from .* is not torchvision's file"),
        (
            (200, CONTENT[:5000], len(CONTENT)),
            (ConnectionError, ValueError),
            "stopped before the end|cannot be reached",
        ),
        ((403, b"", 0), ConnectionError, "answers 403 Forbidden. Without a network"),
    ],
)
def test_what_is_not_the_file_leaves_nothing_behind(cache, server, answer, error, message):
    server[0][f"/models/{FILE}"] = answer
    with pytest.raises(error, match=message):
        fetch(weights())
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_without_a_network_it_is_said_what_to_put_where(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(published_weights, "ADDRESS", "http://127.0.0.1:9/models")  # the port `discard`: nobody answers
    with pytest.raises(ConnectionError) as caught:
        cnnjax.load_torchvision("resnet50", "torchvision:IMAGENET1K_V2")
    message = str(caught.value)
    assert (
        "weights IMAGENET1K_V2 of resnet50 (98 MiB): http://127.0.0.1:9/models/resnet50-11ad3fa6.pth cannot be reached"
        in message
    )
    assert f"put it into {cache} (or {tmp_path / 'torch' / 'hub' / 'checkpoints'})" in message


def test_names_of_weights():
    assert find("resnet50", "torchvision") == find("resnet50", "torchvision:IMAGENET1K_V1")
    assert find("resnet50", "torchvision:IMAGENET1K_V2").top1 == 80.858
    assert find("resnet50", "weights/torchvision.pth") is None
    with pytest.raises(
        ValueError, match="unknown torchvision's weights of resnet18 'IMAGENET1K_V2': did you mean 'IMAGENET1K_V1'"
    ):
        find("resnet18", "torchvision:IMAGENET1K_V2")


def test_weights_without_a_classifier_are_an_encoders(tmp_path, monkeypatch):
    """A file of a small network in place of VGG-16's, in which the classifier is NaN."""
    with pytest.raises(
        ValueError, match="IMAGENET1K_FEATURES are those of an encoder, without a classifier: set initial"
    ):
        cnnjax.load_torchvision("vgg16", "torchvision:IMAGENET1K_FEATURES")
    from tests.transfer.test_torchvision import empty

    row = Weights("mobilenet_v3_small", "FEATURES", "mobilenet_v3_small_features.npz", 5, empty="classifier.")
    monkeypatch.setattr(published_weights, "PUBLISHED_WEIGHTS", (row,))
    tensors = empty("mobilenet_v3_small")
    tensors |= {name: np.full(value.shape, np.nan) for name, value in tensors.items() if name.startswith("classifier.")}
    np.savez(tmp_path / row.file, **tensors)
    _, variables = cnnjax.load_torchvision("mobilenet_v3_small", tmp_path / row.file, encoder=True)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    with pytest.raises(ValueError, match="FEATURES are those of an encoder"):
        cnnjax.load_torchvision("mobilenet_v3_small", tmp_path / row.file)


def spelled_as_the_network(file):
    """A file's name with the network's name as torchvision spells it."""
    for theirs, ours in (("0.5", "0_5"), ("1.0", "1_0"), ("shufflenetv2", "shufflenet_v2"), ("v2_x1-", "v2_x1_0-")):
        file = file.replace(theirs, ours)
    return file


def test_every_network_has_weights_whose_names_have_their_digests():
    assert {weights.network for weights in PUBLISHED_WEIGHTS} == set(NETWORKS)
    for row in PUBLISHED_WEIGHTS:
        assert re.fullmatch(
            rf"{row.network}(-owt|_[\w.-]+)?-[0-9a-f]{{8,10}}\.pth", spelled_as_the_network(row.file)
        ), row
        if row.box_map is not None:
            assert 20 < row.box_map < 50 and row.resize in (300, 800)
        elif row.empty:
            assert row.top1 is None and row.name.endswith("_FEATURES")
        elif row.top1 is None:
            assert 50 < row.mean_iou < row.pixel_accuracy < 100 and row.resize == 520
        else:
            assert 50 < row.top1 < row.top5 < 100 and row.resize >= row.crop >= 224
    assert len({dataclasses.astuple(row)[2] for row in PUBLISHED_WEIGHTS}) == len(PUBLISHED_WEIGHTS)


def test_the_files_on_the_page_on_weights_have_their_figures():
    page = (Path(__file__).parents[2] / "docs/howto/weights.md").read_text("utf-8")
    lines = [(file, line) for line in page.splitlines() for file in re.findall(r"^\|.*`([\w-]+\.pth)`", line)]
    rows = {row.file: row for row in PUBLISHED_WEIGHTS}
    assert len(lines) >= 27
    for file, line in lines:
        assert str(rows[file].top1 or rows[file].mean_iou) in line, file


@pytest.mark.slow
def test_a_training_starts_from_published_weights(cache, server, tmp_path, monkeypatch):
    """From the address to the training: a file of ResNet-18 as PyTorch writes it, by its name in the config."""
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    from tests.transfer.test_torchvision import weights as made

    state_dict = made("resnet18")
    torch.save({key: torch.tensor(value) for key, value in state_dict.items()}, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    row = weights(f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    monkeypatch.setattr(published_weights, "PUBLISHED_WEIGHTS", (row,))
    server[0][f"/models/{row.file}"] = 200, content, len(content)
    config = {
        "model": {"name": "resnet18"},
        "initial": {"weights": "torchvision", "frozen": ("conv1",)},
        "dataset": {"name": "digits", "color_space": "rgb", "examples_per_class": 2},
        "train": {"batch_size": 10, "epochs": 1},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
    }
    run = cnnjax.train(config, tmp_path / "run")
    kernel = np.asarray(run.state.params["conv1"]["kernel"])
    np.testing.assert_array_equal(kernel, state_dict["conv1.weight"].transpose(2, 3, 1, 0))
