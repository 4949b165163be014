"""What is wrong with a run, in words: each fault a rule, a pure function of what the run logged.

A rule looks at the curves (`metrics.jsonl`), the config, how many classes there are and how often each comes, and, where the run
was trained with `log.probes`, at its layers. What it compares has no unit and is of no data set: accuracy between guessing
and perfection, losses with that of guessing or with one another, differences with their own sampling error.

Sources: Stanford's CS231n, "Neural networks part 3" (loss curves, ratio of updates to weights) and "part 1" (dead ReLUs);
Glorot and Bengio, AISTATS 2010 (saturation, gradients through layers); He et al., ICCV 2015 (initialisation for ReLU);
Prechelt, "Early stopping - but when?", 1998 (how far the validation loss has risen from its least).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnjax.runs import Run, network_shape, stored_config
from cnnjax.training import run_directory
from cnnjax.training.loop import build, state_shapes

# Fewer epochs show no shape of a curve.
CURVE_EPOCHS = 4
# A difference of accuracies counts from so many standard errors on: of 1000 comparisons of equals, one or two do so.
STANDARD_ERRORS = 3.0
# Skill is accuracy from guessing (0) to perfection (1). Below the first nothing was learned; from the second on a network
# has fitted, as far as a curve can tell: what it lacks may be in the data.
NO_SKILL, FITTED = 0.05, 0.8
# Skill on training above that on validation: a gap worth a remedy, and one so wide that it is a fault by itself.
GAP, WIDE_GAP = 0.05, 0.2
# From this skill on training nothing is left to learn there: a gap of a tenth cannot close any more, risen loss or not.
LEARNED_BY_HEART, LASTING_GAP = 0.99, 0.1
# Prechelt's generalisation loss: validation loss over its least, minus one. He stops at 0.01 to 0.05; four times that is past
# a curve's own noise.
RISEN = 0.2
# A curve goes on falling if, at its last pace, another quarter of the run would take so much of what is left.
STILL_FALLING = 0.1
# Of a low learning rate CS231n says that the loss falls linearly: the second half of the rate's sum brings so much of the first's.
# It falls in four of five epochs, then.
LINEAR, MOSTLY = 0.4, 0.8
# A training loss whose rises, each by a tenth or more and beyond its accuracy's sampling error, together double it, swings.
RISE, SWING = 0.1, 2.0
# A loss so near that of guessing is that of guessing.
AT_GUESSING = 0.01
# CS231n: an update is usually about 1e-3 of the weights. With a tenth of it at most in every layer the rate is low.
USUAL_UPDATE, SMALL_UPDATE = 1e-3, 1e-4
# Training must lower the loss from that of guessing to nearly nothing. A run whose steps, were each straight downhill, would
# add up to a quarter of that way cannot arrive: its steps are too small. Where they add up to the whole way they are not.
SHORT_OF_REACH, IN_REACH = 0.25, 1.0
# Where the loss fell by half of that sum or more, the steps did go nearly straight downhill: none was too long, and longer ones
# would have gone further.
STRAIGHT = 0.5
# Units that never answer, or values on the flat ends of their activation function, where they are half of a layer or more.
# (CS231n speaks of up to 40 % with a rate too high; networks that learn well have been seen with as many.)
DEAD = SATURATED = 0.5
# |g| |w| is what a layer's weights would change the loss by, to first order, if they went by their own size along the gradient;
# here in units of the loss of guessing. An update is usually a thousandth of the weights: where |g| |w| is beyond a thousand, it
# may cost as much as guessing; where it is below a tenth, it gains less than a ten-thousandth of that.
EXPLODING, VANISHING = 1 / USUAL_UPDATE, 0.1
# A mean loss of an epoch from which the network was wrong with confidence rather than ignorant: twice that of guessing. What the
# usual initialisations begin with is below (an output of variance 2 for each of 10 classes costs 1.3 times guessing).
CONFIDENTLY_WRONG = 2.0
# Epochs in which training's figures are of images met for the first or second time, so that nothing was learned by heart.
UNLEARNED_EPOCHS = 2


# What a layer's step is known by, where all of it was finite.
MOVED = {"update_ratio", "weight_norm", "gradient_norm"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault.

    Attributes:
      name: such as "over-fitting".
      words: one sentence for a person.
      evidence: the figures it rests on.
      advice: what to try.
    """

    name: str
    words: str
    evidence: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Course:
    """How a training went: its curves, an array with an entry for each epoch that was measured, and its layers.

    Attributes:
      config: resolved.
      epochs: that training figures are of.
      train_loss: nats for cross-entropy; the penalty is in it, and in augmented and dropout training their effect.
      train_accuracy: likewise.
      rates: the learning rate at each epoch's end.
      valid_epochs: that validation figures are of.
      valid_loss: without penalty.
      valid_accuracy: 0 to 1.
      layers: (epoch, {layer: {quantity: value}}), from epoch 0, before the first step.
      classes: how many.
      guess: the accuracy of always naming the most frequent class.
      guess_loss: the loss of predicting every class as often as it comes.
      train_examples: of an epoch.
      valid_examples: of the validation split.
      image_shape: of a prepared image.
      finished: whether it went to its end, or was stopped early as the config says.
      error: what ended the training, where its loss was no longer finite.
    """

    config: ConfigDict
    epochs: Float[np.ndarray, "epoch"]
    train_loss: Float[np.ndarray, "epoch"]
    train_accuracy: Float[np.ndarray, "epoch"]
    rates: Float[np.ndarray, "epoch"]
    valid_epochs: Float[np.ndarray, "valid"]
    valid_loss: Float[np.ndarray, "valid"]
    valid_accuracy: Float[np.ndarray, "valid"]
    layers: Sequence[tuple[float, Mapping[str, Mapping[str, float]]]]
    classes: int
    guess: float
    guess_loss: float
    train_examples: int
    valid_examples: int
    image_shape: Sequence[int]
    finished: bool
    error: str | None

    def skill(self, accuracy: Any) -> Any:
        """From 0, guessing, to 1."""
        return (accuracy - self.guess) / (1 - self.guess) if self.guess < 1 else np.ones_like(accuracy)

    def sampling_error(self, accuracy: float, examples: int) -> float:
        """The standard error of an accuracy, a share of so many examples."""
        share = min(max(accuracy, self.guess), 1 - 1 / (examples + 2))
        return math.sqrt(share * (1 - share) / max(examples, 1))

    @cached_property
    def fitted(self) -> float:
        """The skill at the end: on training or validation, whichever is more, for augmentation and dropout lower the first."""
        accuracies = [curve[-1] for curve in (self.train_accuracy, self.valid_accuracy) if len(curve)]
        return float(self.skill(max(accuracies))) if accuracies else 0.0

    def skill_at(self, epoch: float) -> float:
        """The skill in an epoch, on training or validation; before the first none, unless weights were given."""
        if epoch == 0:
            return 1.0 if self.config.initial.run or self.config.initial.weights else 0.0
        pairs = (self.epochs, self.train_accuracy), (self.valid_epochs, self.valid_accuracy)
        return max(float(self.skill(curve[epochs == epoch][0])) for epochs, curve in pairs if epoch in epochs)

    @cached_property
    def decay_an_epoch(self) -> float:
        """By how many times e weight decay alone would shrink the weights in an epoch, at the highest rate, under SGD or AdamW."""
        optimizer = self.config.optimizer
        if optimizer.name not in ("sgd", "adamw") or not len(self.rates):
            return 0.0
        rate = self.rates.max() / (1 - optimizer.get("momentum", 0.0))
        return float(optimizer.weight_decay * rate * self.steps_per_epoch)

    @cached_property
    def gap(self) -> float:
        """By how much the skill on training is above that on validation, at the end; 0 where it is not known."""
        if not len(self.train_accuracy) or not len(self.valid_accuracy):
            return 0.0
        return float(self.skill(self.train_accuracy[-1]) - self.skill(self.valid_accuracy[-1]))

    @cached_property
    def gap_errors(self) -> float:
        """The gap in standard errors of the validation accuracy."""
        if not len(self.valid_accuracy):
            return 0.0
        return self.gap * (1 - self.guess) / self.sampling_error(self.valid_accuracy[-1], self.valid_examples)

    def learned_nothing(self, accuracy: Float[np.ndarray, "epoch"], examples: int) -> bool:
        """Whether the accuracy has always been that of guessing, as far as so many examples can tell."""
        if not len(accuracy):
            return False
        best = float(accuracy.max())
        beyond = (best - self.guess) / self.sampling_error(self.guess, examples)
        return self.skill(best) < NO_SKILL or beyond < STANDARD_ERRORS + 1

    @cached_property
    def knows_new_images(self) -> bool:
        """Whether it was better than guessing in the first epoch, on training images that it had not learned from yet."""
        if not len(self.epochs) or self.epochs[0] != 1:
            return False
        beyond = (self.train_accuracy[0] - self.guess) / self.sampling_error(self.guess, self.train_examples)
        return bool(beyond >= STANDARD_ERRORS + 1)

    @cached_property
    def knows_others(self) -> bool:
        """Whether it ends better than guessing on the validation images, in accuracy and in loss."""
        if not len(self.valid_loss) or self.valid_loss[-1] >= self.guess_loss:
            return False
        return not self.learned_nothing(self.valid_accuracy[-1:], self.valid_examples)

    @cached_property
    def explodes_from_the_start(self) -> bool:
        """Whether |g| |w| was too large before the first step."""
        return any(
            value >= EXPLODING
            for epoch, layers in self.layers
            if epoch == 0
            for value in self.elasticities(layers).values()
        )

    @cached_property
    def steps_per_epoch(self) -> int:
        """Whole batches of the training split."""
        return self.train_examples // self.config.train.batch_size

    @cached_property
    def updates(self) -> list[float]:
        """The largest |u| / |w| over the layers in each probed epoch; of the output layer by its usual weights' norm at least."""
        largest = []
        for _, layers in self.layers:
            scale = 1 / self.output_shortfall(layers)
            ratios = {name: layer["update_ratio"] for name, layer in layers.items() if "update_ratio" in layer}
            if ratios:
                *_, output = ratios
                largest.append(max(ratio * (scale if name == output else 1) for name, ratio in ratios.items()))
        return largest

    @cached_property
    def reach(self) -> float | None:
        """How far all steps together would take the loss if each were straight downhill, in units of the loss of guessing.

        A step lowers the loss by |u| |g| at most, to first order; between the probes this is interpolated.
        """
        slopes = [
            (epoch, sum(layer["update_ratio"] * layer["weight_norm"] * layer["gradient_norm"] for layer in moved))
            for epoch, layers in self.layers
            if (moved := [layer for layer in layers.values() if layer.keys() >= MOVED])
        ]
        if len(slopes) < 2:
            return None
        epochs, values = np.array(slopes).T
        return float(np.trapezoid(values, epochs) * self.steps_per_epoch / self.guess_loss)

    def output_shortfall(self, layers: Mapping[str, Mapping[str, float]]) -> float:
        """By how many times the output layer's weights are smaller than usual; 1 where they are not.

        Weights with a variance of one over the inputs have a norm of about the root of the outputs, here the classes. A network
        that begins at the loss of guessing has small output weights, and hence small gradients below them; these grow when the
        output weights do, so that they are judged as if they had.
        """
        norms = [layer["weight_norm"] for layer in layers.values() if layer.get("weight_norm", 0) > 0]
        return max(1.0, math.sqrt(self.classes) / norms[-1]) if norms else 1.0

    @cached_property
    def has_batch_statistics(self) -> bool:
        """Whether the network has batch normalisation, by its probes or else by its variables."""
        if self.layers:
            return any("statistics_drift" in layer for _, layers in self.layers for layer in layers.values())
        parts = build(self.config, [self.config.train.batch_size] * self.classes)
        return bool(state_shapes(parts, network_shape(self.config, self.image_shape)).batch_stats)

    def elasticities(self, layers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """|g| |w| / loss of guessing, of every layer that is trained and has weights other than 0."""
        return {
            name: layer["gradient_norm"] * layer["weight_norm"] / self.guess_loss
            for name, layer in layers.items()
            if layer.get("weight_norm", 0) > 0 and "gradient_norm" in layer
        }


def diagnose(run: Run) -> list[Finding]:
    """The faults that a run shows, causes before what follows from them; none where it went well."""
    return diagnose_history(run.history, run.config, run.described)


def diagnose_history(
    history: Sequence[Mapping[str, Any]], config: ConfigDict, described: Mapping[str, Any]
) -> list[Finding]:
    """As `diagnose`, from the lines of `metrics.jsonl`, the resolved config and what `dataset.json` holds.

    A run that failed before its first checkpoint has these and nothing else.
    """
    course = read(history, config, described)
    found = {rule: finding for rule in RULES if (finding := rule(course))}
    explained = {symptom for cause in found for symptom in EXPLAINS.get(cause, ())}
    return [finding for rule, finding in found.items() if rule not in explained]


def cannot_see(run: Run) -> list[str]:
    """What could not be judged, each with what would let it be."""
    return cannot_see_history(run.history, run.config, run.described)


def cannot_see_history(
    history: Sequence[Mapping[str, Any]], config: ConfigDict, described: Mapping[str, Any]
) -> list[str]:
    """As `cannot_see`; arguments as in `diagnose_history`."""
    course = read(history, config, described)
    if not len(course.epochs) and not course.error:
        return ["anything: no epoch has been measured; train for one at least"]
    unseen = []
    if len(course.epochs) < CURVE_EPOCHS and not course.error:
        unseen.append(
            "a learning rate too low or too high, under-fitting: the curves have "
            f"{_count(len(course.epochs), 'epoch')}; train for {CURVE_EPOCHS} or more"
        )
    if len(course.valid_epochs) < CURVE_EPOCHS:
        unseen.append(
            "when over-fitting began, whether more epochs would help: the validation split was measured "
            f"{_count(len(course.valid_epochs), 'time')}; train for {CURVE_EPOCHS} epochs or more, with evaluate.every=1"
        )
    if not course.finished and not course.error:
        unseen.append(
            f"whether it ends too early: {_count(len(course.epochs), 'epoch')} of {course.config.train.epochs} "
            "have been trained; resume it"
        )
    if not course.layers:
        unseen.append(
            "dead ReLUs, saturated activations, exploding and vanishing gradients: train with log.probes=True "
            "(it may be switched on when a run is resumed)"
        )
    else:
        watched = set().union(*(layer for _, layers in course.layers for layer in layers.values()))
        if not watched & {"dead", "saturated"}:
            unseen.append(
                "dead ReLUs, saturated activations: no activation function of cnnjax.layers.activation was met in the network"
            )
    return unseen


def read_logs(workdir: Path) -> tuple[list[dict[str, Any]], ConfigDict, dict[str, Any]]:
    """What `diagnose_history` takes, from a run directory; no checkpoint is needed.

    Raises:
      FileNotFoundError: the directory holds no run.
      ValueError: one of its files is damaged.
    """
    if not run_directory.is_run(workdir):
        raise FileNotFoundError(f"{workdir} holds no run ({run_directory.CONFIG} is missing)")
    return run_directory.read_history(workdir), stored_config(workdir), run_directory.read_description(workdir)


def read(history: Sequence[Mapping[str, Any]], config: ConfigDict, described: Mapping[str, Any]) -> Course:
    """What the rules look at; arguments as in `diagnose_history`."""

    def curve(key: str, lines: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.array([line[key] for line in lines], np.float64)

    trained = [line for line in history if "train/loss" in line]
    rated = [line for line in history if "valid/loss" in line and math.isfinite(line["valid/loss"])]
    classes = len(described["label_names"])
    counts = np.array(described["class_counts"] or [1] * classes, np.float64)
    shares = counts / counts.sum()
    return Course(
        config=config,
        epochs=curve("epoch", trained),
        train_loss=curve("train/loss", trained),
        train_accuracy=curve("train/accuracy", trained),
        rates=curve("learning_rate", trained),
        valid_epochs=curve("epoch", rated),
        valid_loss=curve("valid/loss", rated),
        valid_accuracy=curve("valid/accuracy", rated),
        layers=[(line["epoch"], layers) for line in history if (layers := _layers(line))],
        classes=classes,
        guess=float(shares.max()),
        guess_loss=_guess_loss(config.loss.name, shares),
        train_examples=described["examples"].get("train", 0),
        valid_examples=described["examples"].get("valid", 0),
        image_shape=described["image_shape"],
        finished=any("test/accuracy" in line for line in history)
        or (bool(trained) and trained[-1]["epoch"] >= config.train.epochs),
        error=next((line["error"] for line in history if "error" in line), None),
    )


def _layers(line: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    layers: dict[str, dict[str, float]] = {}
    for key, value in line.items():
        if key.startswith("probe/"):
            path, _, quantity = key.removeprefix("probe/").rpartition("/")
            layers.setdefault(path, {})[quantity] = value
    return layers


def _guess_loss(loss: str, shares: Float[np.ndarray, "class"]) -> float:
    """The least loss of a prediction that is the same for every example, the classes coming with these shares."""
    p = np.clip(shares, 1e-12, 1 - 1e-12)
    if loss == "binary_cross_entropy":
        return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).sum())
    if loss == "mean_squared_error":
        return float((p * (1 - p)).mean())
    return float(-(p * np.log(p)).sum())


# --- the rules ------------------------------------------------------------------------------------------------------


def unnormalised_images(course: Course) -> Finding | None:
    """Pixel values up to 255 reach a network that has not fitted.

    The usual initialisations keep the variance of inputs of variance one; here it is ten thousand times that, and so are the
    first layer's gradients.
    """
    dataset = course.config.dataset
    given = dataset.scale == "none" and dataset.normalize == "none" and not dataset.local_contrast
    if not given or (course.fitted >= FITTED and not course.error) or not (len(course.epochs) or course.error):
        return None
    return Finding(
        "images not normalised",
        "The network is given pixel values from 0 to 255, and initial weights and learning rates are made for values about 1.",
        f"dataset.scale='none', dataset.normalize='none'; {course.error or f'accuracy {_best(course):.3f} at the end'}",
        "Set dataset.normalize='dataset', or dataset.scale='unit' at least.",
    )


def exploding_gradients(course: Course) -> Finding | None:
    """|g| |w| beyond a thousand times the loss of guessing, in any layer before the first step, or later in an unfitted network."""
    found = [
        (value, name, epoch)
        for epoch, layers in course.layers
        if epoch == 0 or course.fitted < FITTED
        for name, value in course.elasticities(layers).items()
    ]
    value, name, epoch = max(found, default=(0.0, "", 0))
    if value < EXPLODING:
        return None if course.layers else _loss_far_above_guessing(course)
    began = next(at for value, _, at in found if value >= EXPLODING)
    return Finding(
        "exploding gradients",
        f"The gradients are so large that an update of a thousandth of {name}'s weights may cost as much as guessing does, "
        f"{_when(began)}{'' if began == epoch else f' and until epoch {epoch:.0f}'}.",
        f"gradient norm times weight norm of {name}: {value:,.0f} times the loss of guessing, {course.guess_loss:.3g}, "
        f"{_when(epoch)}{f'; {course.error}' if course.error else ''}",
        "Draw smaller initial weights (he_normal for ReLU, xavier_normal for tanh), normalise the images, add batch "
        "normalisation, or clip (optimizer.clip_norm=1)."
        if began == 0
        else "Lower the learning rate, warm it up, or clip the gradients (optimizer.clip_norm=1).",
    )


def _loss_far_above_guessing(course: Course) -> Finding | None:
    """What exploding gradients look like where no layer was probed."""
    if not len(course.valid_loss) or course.valid_loss.min() < 10 * course.guess_loss or course.fitted >= FITTED:
        return None
    return Finding(
        "exploding gradients",
        "The network is wrong with such confidence, from beginning to end, that its outputs and gradients must be far too large.",
        f"valid/loss {course.valid_loss.min():,.4g} at best; guessing costs {course.guess_loss:.3g}",
        "Draw smaller initial weights (he_normal for ReLU, xavier_normal for tanh), normalise the images, or add batch "
        "normalisation; log.probes=True shows where.",
    )


def vanishing_gradients(course: Course) -> Finding | None:
    """The network ends with little learned, and |g| |w| was never a tenth of the loss of guessing in the layers next to the images.

    These are the first third of the layers with weights. Gradients shrink on their way down, and where they vanish they do so
    there; above, one layer in a block may have a small one at any time.
    """
    probed = [layers for _, layers in course.layers if course.elasticities(layers)]
    if not probed or course.fitted > FITTED / 2:
        return None
    if max(_values(probed[0], "dead"), default=0.0) >= DEAD or 0 in _values(probed[-1], "weight_norm"):
        return None  # no gradient can pass, whatever its size
    judged = [
        {name: value * course.output_shortfall(layers) for name, value in course.elasticities(layers).items()}
        for layers in probed
    ]
    names = list(judged[-1])[: max(1, len(judged[-1]) // 3)]
    largest = max(values.get(name, 0.0) for values in judged for name in names)
    if largest >= VANISHING:
        return None
    return Finding(
        "vanishing gradients",
        f"Hardly any gradient reaches {names[0]}{_others(len(names) - 1)}: its weights do not learn.",
        f"gradient norm times weight norm of {', '.join(names)}: at most {largest:.2g} times the loss of guessing at any time; "
        f"at most {max(judged[-1].values()):.2g} in any layer {_when(course.layers[-1][0])}",
        "Draw larger initial weights (he_normal for ReLU, xavier_normal for tanh and sigmoid), use ReLU in place of sigmoid, "
        "add batch normalisation or residual connections.",
    )


def dead_relus(course: Course) -> Finding | None:
    """In the last epoch that was probed, a layer of which half or more are zero for the whole probe batch, in an unfitted network.

    One that has fitted can do without them; and of the probe's 128 examples a unit that answers to one in a hundred meets none
    in every fourth such batch, so that selective units look dead.
    """
    layers = _shares(course.layers, "dead", DEAD)
    if not layers or course.fitted >= FITTED:
        return None
    name, share = max(layers.items(), key=lambda item: item[1])
    first_epoch, first = course.layers[0]
    before = first.get(name, {}).get("dead", 0.0)
    from_start = first_epoch == 0 and before >= DEAD
    return Finding(
        "dead ReLUs",
        f"{share:.0%} of {name}'s units are zero for every example{_others(len(layers) - 1)}: they pass no gradient on and "
        f"learn no more; {'the initial weights made them so' if from_start else 'training has made them so'}.",
        f"dead share of {_listed(layers)}; of {name} {_when(first_epoch)} it was {before:.0%}",
        "Draw other initial weights (he_normal), normalise the images, use leaky_relu or batch normalisation."
        if from_start
        else "Lower the learning rate, warm it up, normalise the images, use leaky_relu or batch normalisation.",
    )


def saturated_activations(course: Course) -> Finding | None:
    """As long as the network had not fitted, a layer half of whose tanh or sigmoid values were beyond 0.97 of the bound.

    One that has fitted may be sure of its features.
    """
    unfitted = [(epoch, layers) for epoch, layers in course.layers if course.skill_at(epoch) < FITTED]
    layers = _shares(unfitted, "saturated", SATURATED)
    if not layers:
        return None
    name, share = max(layers.items(), key=lambda item: item[1])
    (first_epoch, first), (epoch, _) = unfitted[0], unfitted[-1]
    return Finding(
        "saturated activations",
        f"{share:.0%} of {name}'s activations are on the flat ends of the activation function{_others(len(layers) - 1)}: "
        "they pass hardly any gradient on.",
        f"saturated share of {_listed(layers)} {_when(epoch)}; of {name} {_when(first_epoch)} it was "
        f"{first.get(name, {}).get('saturated', 0.0):.0%}",
        "Draw smaller initial weights (xavier_normal), normalise the images, lower the learning rate, or use ReLU or batch "
        "normalisation.",
    )


def rate_too_high(course: Course) -> Finding | None:
    """The loss is no longer finite, or once was far above that of guessing and never recovered, or swings, or fell apart."""
    advice = "Lower optimizer.learning_rate by 3 to 10 times (`cnnjax find-lr` shows where the loss bursts), warm it up, or clip."
    finding = lambda words, evidence: Finding("learning rate too high", words, evidence, advice)  # noqa: E731
    loss, accuracy = course.train_loss, course.train_accuracy
    if course.explodes_from_the_start:
        return None  # whatever follows, its cause was there before the first step
    if course.error:
        return finding("The training diverged: its numbers were no longer finite.", course.error)
    if len(loss) < 2:
        return None
    if _diverged(course):
        worst = int(loss.argmax())
        return finding(
            "The loss diverged at the beginning and the network has not recovered.",
            f"train/loss {loss[worst]:.4g} in epoch {course.epochs[worst]:.0f} and {loss[-1]:.4g} at the end; guessing costs "
            f"{course.guess_loss:.3g}; train/accuracy {accuracy[-1]:.3f}",
        )
    best = int(accuracy.argmax())
    lost = course.fitted < course.skill(accuracy[best]) / 2 and loss[-1] > loss[best] and course.decay_an_epoch < 1
    if lost and course.skill(accuracy[best]) > 2 * NO_SKILL:
        return finding(
            f"What had been learned by epoch {course.epochs[best]:.0f} is lost again.",
            f"train/accuracy {accuracy[best]:.3f} in epoch {course.epochs[best]:.0f}, {accuracy[-1]:.3f} at the end",
        )
    rises = [
        number
        for number in range(1, len(loss))
        if loss[number] > (1 + RISE) * loss[number - 1]
        and accuracy[number - 1] - accuracy[number] > STANDARD_ERRORS * _difference_error(course, number)
    ]
    factor = math.prod(float(loss[number] / max(loss[number - 1], 1e-30)) for number in rises)
    if len(rises) >= 2 and factor >= SWING:
        return finding(
            "The training loss swings up and down instead of falling.",
            f"train/loss rose by {RISE:.0%} or more in {len(rises)} of {len(loss) - 1} epochs, {factor:.1f} times together: "
            + ", ".join(
                f"{loss[number - 1]:.3g} to {loss[number]:.3g} in epoch {course.epochs[number]:.0f}"
                for number in rises[:3]
            ),
        )
    return None


def _diverged(course: Course) -> bool:
    """The loss was far above that of guessing, and the network ends with little learned or worse than guessing.

    In the first epoch large initial weights look the same, but from them the loss falls slowly and the accuracy rises. Where the
    probes do not rule them out, divergence is what goes on later, or falls to less than half within an epoch and has learned
    nothing.
    """
    loss, accuracy = course.train_loss, course.train_accuracy
    if course.fitted >= FITTED or (course.skill(accuracy[-1]) >= FITTED / 2 and loss[-1] < course.guess_loss):
        return False
    if (
        len(course.valid_loss)
        and course.valid_loss.max() < CONFIDENTLY_WRONG * course.guess_loss
        and course.knows_others
    ):
        return False  # without dropout and augmentation the loss never was that high: they raise it in training
    worst = int(loss.argmax())
    if loss[worst] < CONFIDENTLY_WRONG * course.guess_loss:
        # Steps that made it worse than guessing for a while and then silent for ever: no epoch after the first changes anything.
        above = loss[0] - loss[-1]
        stuck = len(loss) > 2 and worst == 0 and loss[1] - loss[-1] < above / 10
        return bool(stuck and above > course.guess_loss / 4 and course.learned_nothing(accuracy, course.train_examples))
    if course.updates:
        return max(course.updates) > SMALL_UPDATE
    return worst > 0 or bool(loss[1] < loss[0] / 2 and course.learned_nothing(accuracy, course.train_examples))


def rate_too_low(course: Course) -> Finding | None:
    """Far from fitted, and updates tiny in every layer, steps too short for the way, all straight downhill, or an even fall."""
    loss = course.train_loss
    if course.error or course.fitted >= FITTED or len(loss) < 2:
        return None
    advice = "Raise optimizer.learning_rate 3 to 10 times (`cnnjax find-lr` shows where the loss falls fastest)."
    finding = lambda words, evidence: Finding("learning rate too low", words, evidence, advice)  # noqa: E731
    curves = f"train/loss {loss[0]:.4g} in the first epoch, {loss[-1]:.4g} in the last"
    # Half of the time, so that a schedule may end at zero, but not fall there at once.
    usual = float(np.median(course.updates)) if course.updates else math.inf
    blocked = any(
        layer.get("dead", 0) == 1 or layer.get("weight_norm") == 0
        for _, layers in course.layers[-1:]
        for layer in layers.values()
    )
    if usual < SMALL_UPDATE and not blocked:
        if course.rates[-1] < course.rates.max() / 10:
            advice += f" Or let it fall later: schedule.name='{course.config.schedule.name}' has spent it."
        return finding(
            "The updates are so small that the weights hardly change.",
            f"in half of the epochs an update changes no layer's weights by more than {usual:.1g} of their norm (usual: about "
            f"1e-3); {curves}",
        )
    if course.reach is not None and course.reach < SHORT_OF_REACH and not blocked:
        return finding(
            "All steps of the training together are too short to get far.",
            f"straight downhill they would lower the loss by {course.reach:.1g} times that of guessing, "
            f"{course.guess_loss:.3g}; {curves}",
        )
    if course.reach is not None and course.reach > IN_REACH:
        return None
    guessing = len(course.valid_loss) and np.abs(course.valid_loss / course.guess_loss - 1).max() < AT_GUESSING
    if guessing and not course.layers:
        return None  # without probes a network that cannot learn looks the same
    fell = loss[0] - loss[-1]
    if len(course.valid_loss) and course.valid_loss[0] - course.valid_loss[-1] < fell / 2:
        return None  # what it learns holds for its training images alone, and more of it would not help
    straight = course.reach is not None and fell >= STRAIGHT * course.reach * course.guess_loss
    if straight and len(loss) >= CURVE_EPOCHS and np.mean(np.diff(loss) < 0) >= MOSTLY:
        return finding(
            "The steps go straight downhill, and all of them together are too short to arrive.",
            f"they could lower the loss by {course.reach:.2g} times that of guessing, {course.guess_loss:.3g}, at most, and lowered "
            f"it by {fell / course.guess_loss:.2g} times; {curves}",
        )
    measured = [("train", loss, course.train_accuracy)]
    if np.array_equal(course.valid_epochs, course.epochs):
        measured.append(("valid", course.valid_loss, course.valid_accuracy))
    for name, loss, accuracy in measured:
        if len(loss) >= CURVE_EPOCHS and _falls_evenly(loss, course.rates):
            return finding(
                "The loss falls slowly and evenly, with no steep beginning, and is far from its end.",
                f"{name}/loss {loss[0]:.4g} in epoch {course.epochs[0]:.0f}, {loss[len(loss) // 2]:.4g} in epoch "
                f"{course.epochs[len(loss) // 2]:.0f}, {loss[-1]:.4g} in epoch {course.epochs[-1]:.0f}; {name}/accuracy "
                f"{accuracy[-1]:.3f}",
            )
    return None


def _falls_evenly(loss: Float[np.ndarray, "epoch"], rates: Float[np.ndarray, "epoch"]) -> bool:
    """Nearly always, by less than half in all, and as fast in the second half of the rates' sum as in the first, nearly."""
    spent = np.cumsum(rates)
    middle = int(np.searchsorted(spent, (spent[0] + spent[-1]) / 2))
    first, second = loss[0] - loss[middle], loss[middle] - loss[-1]
    falls = np.mean(np.diff(loss) < 0)
    return bool(falls >= MOSTLY and second > 0 and second >= LINEAR * first and loss[-1] > loss[0] / 2)


def not_learning(course: Course) -> Finding | None:
    """Accuracy never above that of guessing: on both splits, or on validation alone."""
    if not len(course.epochs):
        return None
    on_train = course.learned_nothing(course.train_accuracy, course.train_examples)
    on_valid = course.learned_nothing(course.valid_accuracy, course.valid_examples)
    if not (on_valid if len(course.valid_accuracy) else on_train):
        return None
    evidence = f"train/accuracy at most {course.train_accuracy.max():.3f}"
    if len(course.valid_accuracy):
        evidence += f", valid/accuracy at most {course.valid_accuracy.max():.3f} of {course.valid_examples:,} examples"
    evidence += f"; always naming the most frequent class gives {course.guess:.3f}"
    zero = [name for _, layers in course.layers[-1:] for name, layer in layers.items() if layer.get("weight_norm") == 0]
    if zero:
        evidence += f"; the weights of {', '.join(zero)} are all zero"
    works = course.reach is not None and course.reach > IN_REACH
    if works:
        evidence += f"; its steps would have lowered the loss by {course.reach:.1f} times that of guessing"
    if course.gap > WIDE_GAP and course.gap_errors > STANDARD_ERRORS:
        return Finding(
            "not learning",
            "The network learns its training images and does no better than guessing on the validation images.",
            evidence,
            "Compare the two splits (`cnnjax preview`): are the validation images prepared like the training images, and are "
            "their labels numbered alike?",
        )
    return Finding(
        "not learning",
        ("The optimiser works, and yet the" if works else "The")
        + " network does no better than guessing"
        + ("." if on_train else ", and little better on its training images."),
        evidence,
        "See whether it can learn a few images by heart (dataset.examples_per_class=2). If not: are all initial weights "
        "zero, is the learning rate of the right size (`cnnjax find-lr`), are layers frozen, do the images survive the "
        "augmentation (`cnnjax preview`)? If so: do the labels belong to the images?",
    )


def unrelated_labels(course: Course) -> Finding | None:
    """Training images are learned by heart: better than guessing on them, never on others, nor on them when they were new."""
    if not len(course.epochs) or not len(course.valid_loss) or course.knows_new_images:
        return None
    learned = (course.train_accuracy[-1] - course.guess) / course.sampling_error(course.guess, course.train_examples)
    # The mean of the epochs, of which none was chosen for being the best.
    valid = float(course.valid_accuracy.mean())
    beyond = (valid - course.guess) / course.sampling_error(course.guess, course.valid_examples)
    if learned < STANDARD_ERRORS + 1 or course.train_loss[-1] > (1 - AT_GUESSING) * course.guess_loss:
        return None
    if beyond >= STANDARD_ERRORS or course.valid_loss.min() < (1 - AT_GUESSING) * course.guess_loss:
        return None
    return Finding(
        "labels unrelated to the images",
        "The network learns its training images by heart and nothing that holds for others: the labels do not follow from the "
        "images.",
        f"train/accuracy {course.train_accuracy[0]:.3f} in epoch {course.epochs[0]:.0f}, {course.train_accuracy[-1]:.3f} at the "
        f"end; valid/accuracy {valid:.3f} in the mean of {course.valid_examples:,} examples, guessing gives {course.guess:.3f}; "
        f"valid/loss {course.valid_loss.min():.4g} at best, guessing costs {course.guess_loss:.3g}",
        "Look at some images with their labels (`cnnjax preview`): were they shuffled, or read in another order than the images? "
        "Another preparation of the validation images looks like this, too.",
    )


def unsettled_statistics(course: Course) -> Finding | None:
    """With batch normalisation, validation is far worse than training, and was so when the training images were new themselves.

    Over-fitting cannot be its cause then. Training normalises by each batch, validation by running averages, which begin at mean 0
    and variance 1, of which momentum ** steps is left, and which lag behind weights that change fast; through many layers the
    errors multiply.
    """
    if not len(course.train_loss) or not len(course.valid_loss):
        return None
    wide = course.gap >= WIDE_GAP and course.gap_errors >= STANDARD_ERRORS
    apart = course.train_loss[-1] < (1 - AT_GUESSING) * course.guess_loss < course.guess_loss < course.valid_loss[-1]
    if not (wide or apart):
        return None
    early = course.valid_epochs <= UNLEARNED_EPOCHS
    trained = np.interp(course.valid_epochs, course.epochs, course.train_loss)
    bound = CONFIDENTLY_WRONG * np.maximum(trained, course.guess_loss)
    wrong = early & (course.valid_loss > bound)
    # If the two losses have met since, the statistics have settled, and what came later is over-fitting.
    met = (course.valid_loss <= (1 + RISEN) * trained)[int(wrong.argmax()) :].any()
    wrong_from_the_first = bool(wrong.any() and not met)
    blind = course.learned_nothing(course.valid_accuracy, course.valid_examples) and course.knows_new_images
    if not (wrong_from_the_first or blind) or not course.has_batch_statistics:
        return None
    steps = int(course.epochs[-1] * course.steps_per_epoch)
    drifts = [max(values) for _, layers in course.layers if (values := _values(layers, "statistics_drift"))]
    drift = f"; the running statistics were up to {max(drifts[1:]):.2g} nats from a batch's" if drifts[1:] else ""
    return Finding(
        "batch statistics not settled",
        "Batch normalisation's running statistics do not fit the network yet, so that it predicts far worse than it trains.",
        f"train/accuracy {course.train_accuracy[-1]:.3f}, valid/accuracy {course.valid_accuracy[-1]:.3f}, valid/loss "
        f"{course.valid_loss[0]:.4g} in epoch {course.valid_epochs[0]:.0f} already (guessing costs {course.guess_loss:.3g}); "
        f"{steps} steps, averaged over the last 10 or so{drift}",
        "Train for more steps (more epochs, or smaller batches), and let the learning rate fall at the end (schedule.name='cosine'), "
        "so that the averages catch up with the weights; or begin with a lower rate.",
    )


def over_fitting(course: Course) -> Finding | None:
    """Better on training than on validation, and the validation loss has risen; or much better, with nothing left to learn."""
    if not len(course.valid_loss) or course.gap < GAP or course.gap_errors < STANDARD_ERRORS:
        return None
    train, valid = course.train_accuracy[-1], course.valid_accuracy[-1]
    least = int(course.valid_loss.argmin())
    risen = course.valid_loss[-1] > (1 + RISEN) * course.valid_loss[least]
    falling = course.train_loss[-1] < course.train_loss[course.epochs <= course.valid_epochs[least]][-1]
    rises = least < len(course.valid_loss) - 1 and risen and falling
    lasting = course.skill(train) >= LEARNED_BY_HEART and course.gap >= LASTING_GAP
    if not rises and not lasting and course.gap < WIDE_GAP:
        return None
    gaps = course.skill(np.interp(course.valid_epochs, course.epochs, course.train_accuracy)) - course.skill(
        course.valid_accuracy
    )
    since = course.valid_epochs[least] if rises else course.valid_epochs[int((gaps >= course.gap / 2).argmax())]
    evidence = f"train/accuracy {train:.3f}, valid/accuracy {valid:.3f}"
    if rises:
        evidence += (
            f"; valid/loss {course.valid_loss[least]:.4g} in epoch {since:.0f}, its least, and {course.valid_loss[-1]:.4g} in epoch "
            f"{course.valid_epochs[-1]:.0f}, while train/loss fell to {course.train_loss[-1]:.4g}"
        )
    return Finding(
        "over-fitting",
        f"From epoch {since:.0f} on the network learns its training images rather than what they have in common with others.",
        evidence,
        "More or augmented images, weight decay, dropout, label smoothing, a smaller network, or train.early_stopping.",
    )


def still_improving(course: Course) -> Finding | None:
    """At its last pace, a quarter more epochs would take a tenth or more of the loss that is left.

    Half as much is enough in a network that has not fitted: it is under-fitting otherwise, which says that it improves no longer.
    """
    measured = len(course.valid_loss) >= 2
    loss, epochs = (course.valid_loss, course.valid_epochs) if measured else (course.train_loss, course.epochs)
    accuracy = course.valid_accuracy if measured else course.train_accuracy
    if (
        course.error
        or not course.finished
        or len(loss) < 2
        or (loss <= 0).any()
        or course.skill(accuracy[-1]) < NO_SKILL
    ):
        return None
    last = max(2, math.ceil(len(loss) / 3))
    slope = np.polyfit(epochs[-last:], np.log(loss[-last:]), 1)[0]
    pace = 1 - math.exp(min(slope, 0) * epochs[-1] / 4)
    error = course.sampling_error(accuracy[-1], course.valid_examples if measured else course.train_examples)
    least = STILL_FALLING if course.fitted >= FITTED else STILL_FALLING / 2
    if pace < least or loss[-1] > loss.min() or 1 - accuracy[-1] < STANDARD_ERRORS * error:
        return None
    name = "valid" if measured else "train"
    return Finding(
        "still improving",
        "The training ended while the network was still getting better.",
        f"{name}/loss {loss[-last]:.4g} in epoch {epochs[-last]:.0f}, {loss[-1]:.4g} in epoch {epochs[-1]:.0f}, the last; at that "
        f"pace another {_count(max(1, round(epochs[-1] / 4)), 'epoch')} would take {pace:.0%} of it",
        f"Train longer: more than train.epochs={course.config.train.epochs} (a run can be resumed with more), or raise the "
        "learning rate if the loss falls evenly.",
    )


def under_fitting(course: Course) -> Finding | None:
    """Well above guessing and well below perfection on training and validation alike, and no longer improving."""
    if len(course.train_loss) < CURVE_EPOCHS or course.error or course.fitted >= FITTED:
        return None
    if course.gap > (1 - course.fitted) / 2:
        return None
    config, regularised = course.config, []
    if config.optimizer.weight_decay:
        regularised.append(f"optimizer.weight_decay={config.optimizer.weight_decay:g}")
    regularised += [
        f"model.{key}={value:g}" for key, value in config.model.items() if key.endswith("dropout_rate") and value
    ]
    if config.loss.get("label_smoothing"):
        regularised.append(f"loss.label_smoothing={config.loss.label_smoothing:g}")
    weaken = f"less regularisation ({', '.join(regularised)}), " if regularised else ""
    return Finding(
        "under-fitting",
        "The network no longer improves and cannot even learn the images that it is trained on.",
        f"train/accuracy {course.train_accuracy[-1]:.3f}"
        + (f", valid/accuracy {course.valid_accuracy[-1]:.3f}" if len(course.valid_accuracy) else "")
        + f"; train/loss {course.train_loss[-1]:.4g} at the end, guessing costs {course.guess_loss:.3g}",
        f"A larger network, {weaken}or weaker augmentation; see whether many labels are wrong (`cnnjax preview`). If the data are "
        "hard, more of them do not help before this does.",
    )


Rule = Callable[[Course], Finding | None]
# In the order in which they are told: causes first.
RULES: tuple[Rule, ...] = (
    unnormalised_images,
    rate_too_high,
    exploding_gradients,
    vanishing_gradients,
    dead_relus,
    saturated_activations,
    rate_too_low,
    unrelated_labels,
    unsettled_statistics,
    not_learning,
    over_fitting,
    under_fitting,
    still_improving,
)
NONE_FOUND = f"none of the {len(RULES)} known faults was found"
# What follows from a fault and is not told beside it.
UNFINISHED: tuple[Rule, ...] = (rate_too_low, not_learning, under_fitting, still_improving)
EXPLAINS: Mapping[Rule, tuple[Rule, ...]] = {
    unnormalised_images: (
        rate_too_high, exploding_gradients, vanishing_gradients, dead_relus, saturated_activations, *UNFINISHED,
    ),
    rate_too_high: (exploding_gradients, vanishing_gradients, unrelated_labels, unsettled_statistics, *UNFINISHED),
    exploding_gradients: UNFINISHED,
    vanishing_gradients: (dead_relus, *UNFINISHED),
    saturated_activations: (vanishing_gradients, rate_too_low, not_learning, under_fitting),
    rate_too_low: (not_learning, under_fitting, still_improving),
    # A network that learns by heart has units enough alive: what it lacks is not theirs to give.
    unrelated_labels: (dead_relus, over_fitting, *UNFINISHED),
    unsettled_statistics: (over_fitting, *UNFINISHED),
    not_learning: (over_fitting, under_fitting, still_improving),
    over_fitting: (still_improving,),
    still_improving: (under_fitting,),
}  # fmt: skip


def _shares(
    probed: Sequence[tuple[float, Mapping[str, Mapping[str, float]]]], quantity: str, least: float
) -> dict[str, float]:
    """The layers of which this share was so large in the last of these epochs."""
    layers = probed[-1][1] if probed else {}
    return {name: layer[quantity] for name, layer in layers.items() if layer.get(quantity, 0.0) >= least}


def _values(layers: Mapping[str, Mapping[str, float]], quantity: str) -> list[float]:
    """A quantity of every layer that has it."""
    return [layer[quantity] for layer in layers.values() if quantity in layer]


def _best(course: Course) -> float:
    """The accuracy at the end, on training or validation, whichever is more."""
    return max(
        [float(curve[-1]) for curve in (course.train_accuracy, course.valid_accuracy) if len(curve)], default=0.0
    )


def _difference_error(course: Course, number: int) -> float:
    """The standard error of the difference between the training accuracies of an epoch and the one before it."""
    pair = course.train_accuracy[number - 1 : number + 1]
    return math.hypot(*(course.sampling_error(accuracy, course.train_examples) for accuracy in pair))


def _when(epoch: float) -> str:
    return "before the first step" if epoch == 0 else f"in epoch {epoch:.0f}"


def _others(count: int) -> str:
    return f" (and {count} more {'layer' if count == 1 else 'layers'})" if count else ""


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
