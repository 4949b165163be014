"""Segmentation, had it not been there: which pixels of a digit are ink, under noise.

    python pixels.py
"""

import cnnjax
import flax.linen as nn
import jax
import numpy as np
import optax


class Ink(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for _ in range(3):
            x = nn.Conv(16, (5, 5))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))  # 200 steps are few for 0.99
        return nn.Conv(1, (1, 1))(x)[..., 0]


class Segmentation(cnnjax.Task):
    monitor, mode = "iou", "max"

    def loss(self, net, batch, train):
        logits, mask = net(batch["image"], train), batch["label"]
        ink = logits > 0
        sums = {"both": (ink & (mask > 0)).sum((1, 2)), "either": (ink | (mask > 0)).sum((1, 2))}
        return optax.sigmoid_binary_cross_entropy(logits, mask).mean((1, 2)), sums

    def summarize(self, sums):
        return {"loss": sums["loss"] / sums["count"], "iou": sums["both"] / sums["either"]}

    def predict(self, net, batch):
        return jax.nn.sigmoid(net(batch["image"]))


def composed(split, seed):
    clean = cnnjax.load_dataset("digits").splits[split].images
    noise = np.random.default_rng(seed).normal(0, 60, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8), (clean[..., 0] > 127).astype(np.float32)


if __name__ == "__main__":
    data = cnnjax.from_arrays(train=composed("train", 0), valid=composed("valid", 1), test=composed("test", 2))
    config = {"optimizer": {"name": "adam", "learning_rate": 0.003}, "train": {"batch_size": 32, "epochs": 5}}
    run = cnnjax.train(config, "runs/pixels", dataset=data, model=Ink(), task=Segmentation())
    assert run.metrics["test/iou"] > 0.9, run.metrics
    again = cnnjax.load_run("runs/pixels", model=Ink(), task=Segmentation())
    assert again.predict(data.splits["test"].images[:3]).shape == (3, 32, 32)
