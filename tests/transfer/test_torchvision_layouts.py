"""The tensors of torchvision's networks by digests, and logits, against torchvision 0.29.1.

`torchvision_layouts.json` has each network's number of tensors and the beginning of the SHA-256 of their sorted names and shapes.
`torchvision_layouts.npz` has logits for weights and images that `tensor` and `images` below make again; they were computed in double
precision, and are stored in single.
"""

import hashlib
import json
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.models import MODELS, create_model
from cnnjax.transfer.torchvision import NETWORKS, export_torchvision, load_torchvision
from tests.models.families import deeper_marked
from tests.transfer.torchvision_step import scaled

HERE = Path(__file__).parent
DIGESTS = json.loads((HERE / "torchvision_layouts.json").read_text())
SALT = 20261124


def layout(network):
    """The tensors' names and shapes."""
    published = MODELS[NETWORKS[network]]
    images = jax.ShapeDtypeStruct((1, *published.image_shape), "float32")
    shapes = jax.eval_shape(create_model(NETWORKS[network], 1000).init, jax.random.key(0), images)
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    return {name: tensor.shape for name, tensor in export_torchvision(network, empty).items()}


def tensor(name, shape):
    return scaled(np.random.Generator(np.random.PCG64([SALT, zlib.crc32(name.encode())])).standard_normal(shape), name)


def images(size):
    """Channels first."""
    return np.random.Generator(np.random.PCG64([SALT, 0])).standard_normal((2, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("network", deeper_marked(DIGESTS))
def test_the_tensors_are_torchvisions(network):
    rows = sorted(f"{name} {shape}" for name, shape in layout(network).items())
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
    assert [len(rows), digest] == DIGESTS[network]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    ["densenet121", "inception_v3", "regnet_y_400mf", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "wide_resnet50_2"],
)  # fmt: skip
def test_the_logits_are_torchvisions_and_the_weights_come_back(network):
    state_dict = {name: tensor(name, shape) for name, shape in layout(network).items()}
    model, variables = load_torchvision(network, state_dict)
    size = MODELS[NETWORKS[network]].image_shape[0]
    logits = np.asarray(jax.jit(model.apply)(variables, images(size).transpose(0, 2, 3, 1)))
    with np.load(HERE / "torchvision_layouts.npz") as stored:
        expected = stored[network]
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-5
    exported = export_torchvision(network, variables)
    assert all(exported[name].tobytes() == value.tobytes() for name, value in state_dict.items())


def test_names_in_older_files_are_read():
    """torchvision's published DenseNets have `norm.1` for today's `norm1`."""
    state_dict = {name: np.broadcast_to(np.float32(0), shape) for name, shape in layout("densenet121").items()}
    older = {name: value for name, value in state_dict.items()}
    for number in "12":
        older = {
            name.replace(f".norm{number}.", f".norm.{number}.").replace(f".conv{number}.", f".conv.{number}."): value
            for name, value in older.items()
        }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older and older.keys() != state_dict.keys()
    loaded, variables = load_torchvision("densenet121", older)
    assert loaded.num_classes == 1000 and export_torchvision("densenet121", variables).keys() == state_dict.keys()
