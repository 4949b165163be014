"""What is wrong with components of one's own is one clear line, and no run directory is left behind."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import optax
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
    Whole: r"Whole.loss returned the sum 'whole' of shape \(\), expected \(6, \.\.\.\), one value per example",
    Square: r"Square.loss returned the sum 'square' whose shape depends on the batch: \(6, 6\) for 6 examples",
    Mean: r"Mean.loss returned a loss of shape \(\), expected one value per example, \(6,\)",
    Alone: "Alone.loss fails with model MLP .* too many values to unpack",
    WithoutLoss: "WithoutLoss.summarize returned {'accuracy': 1.0}: expected a dict of numbers that contains 'loss'",
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_before_anything_is_written(kind, digits_config, tmp_path):
    given = {"task": dataclasses.replace(kind())} if issubclass(kind, Classification) else {"model": kind(10)}
    with pytest.raises(ValueError, match=WRONG[kind]):
        cnnjax.train(digits_config, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_metric_that_does_not_exist_is_said_before_anything_is_written(digits_config, tmp_path):
    with pytest.raises(
        ValueError, match="evaluate.metric='f1' is not a metric of Classification: choose from loss, acc"
    ):
        cnnjax.train({**digits_config, "evaluate": {"metric": "f1", "mode": "max"}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- what only shows once something is computed


class NoNumbers(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return jnp.log(-jnp.abs(nn.Dense(self.num_classes)(x.reshape(len(x), -1))) - 1)


class Unsummarized(Classification):
    def summarize(self, sums):
        if sums["count"] != 1:  # of real data
            raise ZeroDivisionError("no example of class 3")
        return super().summarize(sums)


def no_callback(event):
    raise RuntimeError("the tracker is down")


def no_update(gradients, state, params=None):
    raise TypeError("no such leaf")


FAILING = {
    "model": (
        NoNumbers(10),
        FloatingPointError,
        r"the loss is nan at the first step, before any update: look for images",
    ),
    "task": (Unsummarized(), ZeroDivisionError, "no example of class 3"),
    "callbacks": ([no_callback], RuntimeError, "the tracker is down"),
    "optimizer": (optax.GradientTransformation(lambda params: (), no_update), TypeError, "no such leaf"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_what_fails_before_anything_is_recorded_leaves_nothing_behind(kind, digits_config, tmp_path):
    given, error, message = FAILING[kind]
    with pytest.raises(error, match=message) as caught:
        cnnjax.train(digits_config, tmp_path / "deep" / "run", **{kind: given})
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_what_was_there_before_a_failure_stays(digits_config, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for name in ("empty", "mine"):
        with pytest.raises((FloatingPointError, ValueError)):
            cnnjax.train(digits_config, tmp_path / name, model=NoNumbers(10))
    assert not list((tmp_path / "empty").iterdir())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    once = cnnjax.train({**digits_config, "train": {"batch_size": 128, "epochs": 1}}, tmp_path / "run")
    with pytest.raises(RuntimeError, match="the tracker is down"):
        cnnjax.train(digits_config, tmp_path / "run", callbacks=[no_callback])
    assert cnnjax.load_run(tmp_path / "run").history == once.history[:1]
