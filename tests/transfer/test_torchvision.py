"""Against torchvision 0.28; MobileNetV3, the networks for segmentation and those in the later files against 0.29.1.

`torchvision_state_dicts.json` has its models' tensors, names and shapes in order; `torchvision_logits.npz` the logits, in
double precision, for weights and images that `made_tensors` makes again. `torchvision_segmentation.npz` has every eighth
pixel's logits of the first image's corner of 65x97 pixels, of the main and the auxiliary head: computed in double precision, stored in
single. Of later networks `torchvision_digests.json` has the SHA-256 of the tensors' names and shapes, one a line, sorted, and
`torchvision_later_logits.npz` the logits for weights and images made with another salt: computed in double precision, stored in single.
"""

import hashlib
import json
import re
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import resize_bilinear
from cnnjax.models import MODELS, create_model
from cnnjax.models.fcn_resnet import FCNHead
from cnnjax.transfer.torchvision import NETWORKS, export_torchvision, load_torchvision
from tests.models.families import DEEPER
from tests.transfer import made_tensors
from tests.transfer.made_tensors import images

HERE = Path(__file__).parent
LAYOUTS = json.loads((HERE / "torchvision_state_dicts.json").read_text())
DIGESTS = json.loads((HERE / "torchvision_digests.json").read_text())
SALT, LATER_SALT = 20261121, 20261124

IMAGES = images(224, SALT)
tensor = partial(made_tensors.tensor, salt=SALT)
CLASSIFIERS = [name for name, ours in NETWORKS.items() if MODELS[ours].task == "classification"]


@lru_cache(maxsize=2)
def weights(name):
    return {key: tensor(key, tuple(shape)) for key, shape in dict(LAYOUTS[name]).items()}


def empty(name):
    """The right shapes, without their memory."""
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in dict(LAYOUTS[name]).items()}


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v3_small", "fcn_resnet50"])
def test_the_order_of_a_files_tensors_does_not_matter(name):
    """Tensors by name, as safetensors files have them, where the stem is not the first convolution."""
    tensors = dict(sorted(empty(name).items(), reverse=name == "mobilenet_v3_small"))
    loaded, _ = load_torchvision(name, tensors)
    assert loaded == create_model(NETWORKS[name], loaded.num_classes)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "googlenet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("alexnet", "vgg16", "resnet50", "mobilenet_v3_large", "mobilenet_v3_small")
        ),
    ],
)
def test_the_logits_are_torchvisions_and_the_weights_come_back(name):
    state_dict = weights(name)
    model, variables = load_torchvision(name, state_dict)
    logits = np.asarray(jax.jit(model.apply)(variables, IMAGES.transpose(0, 2, 3, 1)))
    with np.load(HERE / "torchvision_logits.npz") as reference:
        expected = reference[name]
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-5
    exported = export_torchvision(name, variables)
    assert exported.keys() == state_dict.keys()
    for key, value in state_dict.items():
        assert exported[key].tobytes() == value.tobytes(), key


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith("lraspp") else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(NETWORKS)
        if MODELS[NETWORKS[name]].task == "segmentation"
    ],
)
def test_the_pixels_logits_are_torchvisions_and_the_weights_come_back(name):
    state_dict = weights(name)
    model, variables = load_torchvision(name, state_dict)
    corner = IMAGES[:1, :, :65, :97].transpose(0, 2, 3, 1)

    @jax.jit
    def outputs(variables, images):
        def part(which):
            return {collection: values[which] for collection, values in variables.items() if which in values}

        logits = {"out": model.apply(variables, images)}
        if "auxiliary" in variables["params"]:
            maps = model.encoder(num_classes=0).apply(part("encoder"), images, method="feature_maps")
            head = FCNHead(model.num_classes, True, jnp.float32).apply(
                part("auxiliary"), maps[model.auxiliary_map], False
            )
            logits["aux"] = resize_bilinear(head, (65, 97))
        return logits

    computed = outputs(variables, corner)
    with np.load(HERE / "torchvision_segmentation.npz") as reference:
        expected = {key.split("/")[1]: reference[key] for key in reference if key.startswith(f"{name}/")}
    assert computed.keys() == expected.keys()
    for key, values in expected.items():
        ours = np.asarray(computed[key]).transpose(0, 3, 1, 2)[..., ::8, ::8]
        assert np.abs(ours - values).max() / np.abs(values).max() < 1e-4
    exported = export_torchvision(name, variables)
    assert exported.keys() == state_dict.keys()
    assert all(exported[key].tobytes() == value.tobytes() for key, value in state_dict.items())


@pytest.mark.parametrize(
    "name",
    [
        name if name == "resnet34" else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(LAYOUTS)
        if name.startswith(("resnet", "vgg"))
    ],
)
def test_the_logits_are_those_of_the_same_network_in_pytorch(name):
    """The networks without a stored reference too, at a size that is no multiple of theirs."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: five networks' logits are stored")
    from tests.transfer import pytorch_networks

    state_dict = weights(name)
    images = np.random.RandomState(0).randn(2, 3, 72, 97).astype(np.float32)
    forward = pytorch_networks.resnet if name.startswith("resnet") else pytorch_networks.vgg
    with torch.no_grad():
        expected = forward(
            {key: torch.tensor(value) for key, value in state_dict.items()}, torch.tensor(images)
        ).numpy()
    model, variables = load_torchvision(name, state_dict)
    logits = np.asarray(jax.jit(model.apply)(variables, images.transpose(0, 2, 3, 1)))
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-4
    exported = export_torchvision(name, variables)
    assert all(exported[key].tobytes() == value.tobytes() for key, value in state_dict.items())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if NETWORKS[name] in DEEPER else ()) for name in sorted(LAYOUTS)]
)
def test_every_networks_tensors_are_found(name):
    model, variables = load_torchvision(name, empty(name))
    assert model.num_classes == (1000 if name in CLASSIFIERS else 21)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == sum(value.size for value in empty(name).values())


LATER = sorted(DIGESTS.keys() & NETWORKS.keys())


def later_weights(name, made):
    """A network's tensors, by the names and shapes that its export has."""
    published = MODELS[NETWORKS[name]]
    images = jax.ShapeDtypeStruct((1, *published.image_shape), jnp.float32)
    model = create_model(NETWORKS[name], published.num_classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return made_tensors.tensors(published.torchvision, shapes, made)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if NETWORKS[name] in DEEPER else ()) for name in LATER]
)
def test_every_later_networks_tensors_have_torchvisions_names_and_shapes(name):
    shapes = later_weights(name, lambda key, shape: shape)
    lines = "\n".join(f"{key} {' '.join(map(str, shape))}" for key, shape in sorted(shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == DIGESTS[name], lines


with np.load(HERE / "torchvision_later_logits.npz") as reference:
    LATER_LOGITS = {name: reference[name] for name in reference if name in NETWORKS}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in LATER_LOGITS])
def test_the_logits_of_later_networks_are_torchvisions_and_the_weights_come_back(name):
    state_dict = later_weights(name, partial(made_tensors.tensor, salt=LATER_SALT))
    model, variables = load_torchvision(name, state_dict)
    x = images(MODELS[NETWORKS[name]].image_shape[0], LATER_SALT).transpose(0, 2, 3, 1)
    logits = np.asarray(jax.jit(model.apply)(variables, x))
    assert np.abs(logits - LATER_LOGITS[name]).max() / np.abs(LATER_LOGITS[name]).max() < 1e-4
    exported = export_torchvision(name, variables)
    assert exported.keys() == state_dict.keys()
    assert all(exported[key].tobytes() == value.tobytes() for key, value in state_dict.items())


def test_names_in_older_files_are_read():
    """torchvision's published DenseNets have `norm.1` for today's `norm1`."""
    state_dict = later_weights("densenet121", lambda key, shape: np.broadcast_to(np.float32(0), shape))
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in state_dict.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    model, variables = load_torchvision("densenet121", older)
    assert model.num_classes == 1000 and export_torchvision("densenet121", variables).keys() == state_dict.keys()


def test_all_networks_are_known():
    assert LAYOUTS.keys() <= NETWORKS.keys() <= LAYOUTS.keys() | DIGESTS.keys()


def test_another_number_of_classes_and_googlenet_without_its_heads():
    state_dict = {key: value for key, value in empty("googlenet").items() if not key.startswith("aux")}
    state_dict |= {"fc.weight": np.zeros((7, 1024), np.float32), "fc.bias": np.zeros(7, np.float32)}
    state_dict["bn.num_batches_tracked"] = np.array(3)
    model, variables = load_torchvision("googlenet", state_dict)
    assert model.num_classes == 7 and not any(key.startswith("auxiliary") for key in variables["params"])


def test_what_does_not_fit_is_listed_and_refused():
    state_dict = empty("resnet18")
    del state_dict["layer1.0.conv1.weight"]
    state_dict["extra.weight"] = np.zeros(3)
    state_dict["conv1.weight"] = np.zeros((64, 3, 3, 3), np.float32)
    with pytest.raises(ValueError) as caught:
        load_torchvision("resnet18", state_dict)
    message = str(caught.value)
    assert "1 missing (layer1.0.conv1.weight)" in message and "1 unexpected (extra.weight)" in message
    assert "conv1.weight is (64, 3, 3, 3), expected (64, 3, 7, 7)" in message
    with pytest.raises(ValueError, match="last layer's classifier.6.bias is missing"):
        load_torchvision("vgg16", state_dict)
    with pytest.raises(ValueError, match="unknown torchvision model 'resnet17': did you mean 'resnet1"):
        load_torchvision("resnet17", state_dict)


@pytest.mark.parametrize("value", [np.nan, np.inf, "x"])
def test_what_is_no_finite_number_is_refused(value):
    state_dict = empty("resnet18") | {"fc.bias": np.full(1000, value)}
    with pytest.raises(ValueError, match=r"weights of resnet18 do not fit: 1 not of finite numbers \(fc.bias\)"):
        load_torchvision("resnet18", state_dict)


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (bytes(range(256)) * 20, "cannot be read: .+")])
def test_a_file_of_nothing_or_noise_is_refused(ending, content, message, tmp_path):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"weights{ending} {message}") as caught:
        load_torchvision("resnet18", path)
    assert "unsafe" not in str(caught.value) and "allow_pickle" not in str(caught.value)


def test_weight_files(tmp_path):
    from safetensors.numpy import save_file

    state_dict = {key: np.ascontiguousarray(value) for key, value in empty("resnet18").items()}
    state_dict["fc.bias"] = np.arange(1000, dtype=np.float32)
    save_file(state_dict, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **state_dict)
    (tmp_path / "W.NPZ").write_bytes((tmp_path / "w.npz").read_bytes())
    for path in (tmp_path / "w.safetensors", tmp_path / "w.npz", tmp_path / "W.NPZ"):
        _, variables = load_torchvision("resnet18", path)
        np.testing.assert_array_equal(variables["params"]["fc"]["bias"], state_dict["fc.bias"])
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match=f"{path.name} cannot be read"):
            load_torchvision("resnet18", path)
    with pytest.raises(FileNotFoundError, match="nowhere.npz does not exist"):
        load_torchvision("resnet18", tmp_path / "nowhere.npz")
    (tmp_path / "w.txt").write_text("")
    with pytest.raises(ValueError, match="expected .safetensors, .npz, .pth, .pt"):
        load_torchvision("resnet18", tmp_path / "w.txt")


def test_pth_files_are_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, and writes the files")
    state_dict = {key: torch.tensor(value) for key, value in weights("resnet18").items()}
    torch.save(state_dict | {"bn1.num_batches_tracked": torch.tensor(3)}, tmp_path / "weights.pth")
    _, variables = load_torchvision("resnet18", tmp_path / "weights.pth")
    for key, value in export_torchvision("resnet18", variables).items():
        np.testing.assert_array_equal(value, state_dict[key])
    torch.save({"state_dict": state_dict, "epoch": 3}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="state_dict, epoch: not tensors"):
        load_torchvision("resnet18", tmp_path / "checkpoint.pth")
    for content in ([torch.ones(3)], torch.ones(3)):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(ValueError, match="other.pth cannot be read: it does not contain a state dict"):
            load_torchvision("resnet18", tmp_path / "other.pth")
    torch.save({"weight": np.ones(3)}, tmp_path / "objects.pth")
    with pytest.raises(ValueError, match="damaged, or holds more than tensors"):
        load_torchvision("resnet18", tmp_path / "objects.pth")
