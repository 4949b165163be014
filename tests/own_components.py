"""A model of Flax's own layers, a loss, and two tasks, as a user has them in a file; `test_own_components.py` trains them.

The task `ByClass` has a loss by example and sums beside it; the loss of `Contrast` is over the batch, on however many devices.
"""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

import cnnjax
from cnnjax.training import all_examples


class Net(nn.Module):
    num_classes: int
    width: int = 4
    norm: bool = True
    dropout_rate: float = 0.2

    @nn.compact
    def __call__(self, x, train=False):
        for name in ("first", "second"):
            x = nn.Conv(self.width, (3, 3), strides=2, use_bias=not self.norm, name=f"{name}_conv")(x)
            if self.norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.8, name=f"{name}_norm")(x)
            x = nn.avg_pool(nn.relu(x), (2, 2), (2, 2))
        if self.norm:
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1))


def focal(
    logits,
    targets,
    *,
    gamma: Annotated[float, cnnjax.Traceable] = 2.0,
    label_smoothing: Annotated[float, cnnjax.Traceable] = 0.0,
):
    targets = (1 - label_smoothing) * targets + label_smoothing / targets.shape[-1]
    log_p = jax.nn.log_softmax(logits)
    return -(targets * (1 - jnp.exp(log_p)) ** gamma * log_p).sum(-1)


@dataclasses.dataclass(frozen=True)
class ByClass(cnnjax.Task):
    monitor, mode = "recall", "max"

    def outputs(self, dataset):
        return {"num_classes": len(dataset.label_names)}

    def loss(self, net, batch, train):
        logits = net(batch["image"], train)
        targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        values = (self.criterion.train if train else self.criterion.evaluate)(logits, targets)
        correct = logits.argmax(-1) == batch["label"]
        return values, {"hits": targets * correct[:, None], "examples": targets}

    def summarize(self, sums):
        recall = sums["hits"] / sums["examples"].clip(1)
        return {"loss": sums["loss"] / sums["count"], "recall": recall.mean()}


@dataclasses.dataclass(frozen=True)
class Contrast(cnnjax.Task):
    """Khosla et al., NeurIPS 2020: examples of a class attract each other, within the batch."""

    temperature: float = 0.5

    def outputs(self, dataset):
        return {"num_classes": 8}

    def loss(self, net, batch, train):
        z = net(batch["image"], train)
        z = z / jnp.sqrt((z**2).sum(-1, keepdims=True) + 1e-6)
        others, labels, mask, index = (all_examples(x) for x in (z, batch["label"], batch["mask"], batch["index"]))
        usable = (mask > 0) & (index != batch["index"][:, None])
        same = usable & (labels == batch["label"][:, None])
        log_p = jax.nn.log_softmax(jnp.where(usable, z @ others.T / self.temperature, -1e9))
        pairs = same.sum(-1)
        return -jnp.where(same, log_p, 0).sum(-1) / pairs.clip(1), {"pairs": pairs}

    def summarize(self, sums):
        return {name: sums[name] / sums["count"] for name in ("loss", "pairs")}


def get_config(argument="ByClass"):
    config = {
        "task": {"name": f"./own_components.py:{argument}"},
        "dataset": {"name": "digits", "examples_per_class": 12},
        "model": {"name": "./own_components.py:Net"},
        "optimizer": {"learning_rate": 0.1},
        "train": {"batch_size": 24, "epochs": 2},  # of 5 steps
        "evaluate": {"batch_size": 50},  # which neither 3, 4 nor 8 devices can share equally
        "log": {"progress": "off", "tensorboard": False},
    }
    return config | ({"loss": {"name": "./own_components.py:focal"}} if argument == "ByClass" else {})
