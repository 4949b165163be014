"""A training step of networks with torchvision's weights is torchvision's."""

import jax
import numpy as np
import pytest

from cnnjax.models import MODELS, create_model
from cnnjax.tasks import Classification
from cnnjax.training.optimizers import make_optimizer
from cnnjax.training.parallel import over_devices
from cnnjax.training.state import start_from
from cnnjax.training.step import plain_inputs, train_step
from cnnjax.transfer.torchvision import NETWORKS, export_torchvision, load_torchvision
from tests.transfer import torchvision_step


@pytest.mark.slow
@pytest.mark.parametrize("network", torchvision_step.NETWORKS)
def test_a_training_step_is_torchvisions(network):
    """In single precision, each tensor's change to 1e-3 of its norm; torchvision's is computed in double precision."""
    model = create_model(NETWORKS[network], torchvision_step.CLASSES)
    images, labels = torchvision_step.batch(network)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(images.shape, "float32"))
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    before = {
        name: torchvision_step.tensor(network, name, value.shape)
        for name, value in export_torchvision(network, empty).items()
    }
    _, variables = load_torchvision(network, before)
    optimizer = make_optimizer("sgd", lambda step: torchvision_step.LEARNING_RATE)
    inputs = plain_inputs(Classification(), lambda images: images, {"num_classes": torchvision_step.CLASSES})
    step = over_devices(train_step(model, optimizer, Classification(), inputs, 0), jax.local_devices()[:1])
    index, mask = np.arange(len(images), dtype=np.int32), np.ones(len(images), np.float32)
    batch = {"image": images, "label": labels, "mask": mask, "index": index}
    state = start_from(variables["params"], variables["batch_stats"], optimizer)
    state, metrics = step(state, {}, {name: value[None] for name, value in batch.items()})
    after = export_torchvision(network, jax.device_get(state.variables))
    changes = np.array(
        [torchvision_step.summarized(network, name, after[name] - before[name]) for name in sorted(before)]
    )
    with np.load(torchvision_step.STORED) as stored:
        np.testing.assert_allclose(metrics["loss"] / len(images), stored[f"{network}/loss"], rtol=1e-4)
        expected = stored[f"{network}/changes"]
    norms = expected[:, :1]
    assert (norms > 0).all() and MODELS[NETWORKS[network]].torchvision.name == network
    errors = np.abs(changes - expected) / norms
    print(f"{errors.max():.2e}")
    assert errors.max() < 1e-3
