"""Self-supervision: SimCLR on digits, then a classifier on a few labels from its weights.

    cnnjax train --config simclr.py --workdir runs/simclr
    cnnjax train --config simclr.py:finetune --workdir runs/few
"""

import dataclasses
from typing import ClassVar

import cnnjax
import jax
import jax.numpy as jnp
import optax
from cnnjax.data.augment import AugmentOptions, augment
from cnnjax.training import all_examples


@dataclasses.dataclass(frozen=True)
class SimCLR(cnnjax.Task):
    temperature: float = 0.2
    views: ClassVar = AugmentOptions(rotation=15.0, shift=3.0)
    monitor, mode = "loss", "min"

    def inputs(self, batch, keys, train, prepared):
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        images = batch["image"].astype(jnp.float32)
        both = jnp.concatenate([augment(images, first, self.views), augment(images, second, self.views)])
        return {**batch, "image": prepared.normalize(both)}

    def loss(self, net, batch, train):
        z = net(batch["image"], train)
        first, second = jnp.split(z / jnp.linalg.norm(z, axis=-1, keepdims=True), 2)
        # Negatives are the whole batch's, whatever the number of devices; a padded example is nobody's.
        firsts, seconds, mask, index = (all_examples(a) for a in (first, second, batch["mask"], batch["index"]))
        own = batch["index"][:, None] == index
        loss = 0.0
        for anchors, others, same in ((first, seconds, firsts), (second, firsts, seconds)):
            to_same = jnp.where(own, -1e9, anchors @ same.T / self.temperature)
            scores = jnp.concatenate([anchors @ others.T / self.temperature, to_same], axis=1)
            scores = jnp.where(jnp.tile(mask, 2) > 0, scores, -1e9)
            loss += optax.softmax_cross_entropy_with_integer_labels(scores, own.argmax(1)) / 2
        return loss, {}

    def summarize(self, sums):
        return {"loss": sums["loss"] / sums["count"]}

    def predict(self, net, batch):
        first, second = jnp.split(net(batch["image"]), 2)
        return (first + second) / 2


def get_config(argument="pretrain"):
    shared = {"dataset": {"name": "digits"}, "model": {"name": "cnn_8_16_32"}, "train": {"batch_size": 64, "epochs": 5}}
    if argument == "pretrain":
        return {**shared, "task": {"name": "./simclr.py:SimCLR"}, "optimizer": {"name": "adam", "learning_rate": 0.001}}
    few = {"name": "digits", "examples_per_class": 5}
    return {**shared, "dataset": few, "initial": {"run": "runs/simclr", "head": "new"}, "train": {"batch_size": 10, "epochs": 20}}
