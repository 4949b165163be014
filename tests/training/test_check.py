"""What is wrong with components of one's own is one clear line, and no run directory is left behind."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import pytest

import cnnjax
from cnnjax.tasks import Classification


class Positions(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.num_classes)(x)


class Named(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return {"logits": nn.Dense(self.num_classes)(x.reshape(len(x), -1))}


class Whole(Classification):
    def loss(self, net, batch, train):
        values, sums = super().loss(net, batch, train)
        return values, {**sums, "whole": values.sum()}


class Square(Classification):
    def loss(self, net, batch, train):
        values, sums = super().loss(net, batch, train)
        return values, {**sums, "square": jnp.outer(values, values)}


class Mean(Classification):
    def loss(self, net, batch, train):
        values, sums = super().loss(net, batch, train)
        return values.mean(), sums


class Alone(Classification):
    def loss(self, net, batch, train):
        return super().loss(net, batch, train)[0]


class WithoutLoss(Classification):
    def summarize(self, sums):
        return {"accuracy": float(sums["correct"] / sums["count"])}


WRONG = {
    Positions: r"Classification.loss fails with model Positions .* shapes=\[\(6, 10\), \(6, 32, 32, 10\)\]",
    Named: "Classification.loss fails with model Named .* 'dict' object has no attribute 'astype'",
    Whole: r"Whole.loss returned the sum 'whole' of shape \(\), expected \(6, \.\.\.\), a value an example",
    Square: r"Square.loss returned the sum 'square' whose shape depends on the batch: \(6, 6\) of 6 examples",
    Mean: r"Mean.loss returned a loss of shape \(\), expected one value an example, \(6,\)",
    Alone: "Alone.loss fails with model MLP .* too many values to unpack",
    WithoutLoss: "WithoutLoss.summarize returned {'accuracy': 1.0}: expected a dict of numbers with 'loss' among them",
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_before_anything_is_written(kind, digits_config, tmp_path):
    given = {"task": dataclasses.replace(kind())} if issubclass(kind, Classification) else {"model": kind(10)}
    with pytest.raises(ValueError, match=WRONG[kind]):
        cnnjax.train(digits_config, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_metric_that_does_not_exist_is_said_before_anything_is_written(digits_config, tmp_path):
    with pytest.raises(ValueError, match="evaluate.metric='f1' is no metric of Classification: choose from loss, acc"):
        cnnjax.train({**digits_config, "evaluate": {"metric": "f1", "mode": "max"}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
