"""Does `cnnjax diagnose` name the fault? Small trainings with planted faults, and healthy trainings.

python -m experiments.diagnosis [--workdir FOLDER]

A case defines a data set, a network, the fields that plant the fault, and the expected finding. The cases of DEVELOPMENT were used
while the rules of `cnnjax.report.diagnosis` were written. Those of FORMERLY_HELD_OUT were written after these rules, which were then
improved on their mistakes. Those of FRESH were written after that. All cases are trained in one process, each once: existing runs are
not trained again. The page and the measured histories, on which the tests run the rules, are written to `experiments/results`.
"""

import argparse
import contextlib
import dataclasses
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

import cnnjax
from cnnjax.ablation.trials import digest
from cnnjax.config import load_config, to_json
from cnnjax.core import files
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.report.diagnosis import diagnose_history, read_logs
from cnnjax.training import run_directory
from experiments.study import RESULTS, hardware, markdown

HISTORIES = RESULTS / "diagnosis_histories.json.gz"
KEPT_PROGRAMS = 8  # JAX keeps every compiled program; they are released after this many runs

HIGH, LOW, SHORT = "learning rate too high", "learning rate too low", "still improving"
OVER, UNDER, NOTHING = "over-fitting", "under-fitting", "not learning"
DEAD, SATURATED, EXPLODING, VANISHING = (
    "dead ReLUs", "saturated activations", "exploding gradients", "vanishing gradients",
)  # fmt: skip
LABELS, STATISTICS, RAW = "labels unrelated to the images", "batch statistics not settled", "images not normalised"

COMMON = {
    "devices": 1,
    "log.probes": True,
    "log.progress": "off",
    "log.tensorboard": False,
    "checkpoint.keep": 1,
    "evaluate.checkpoint": "last",
    "schedule.name": "cosine",
}
CLOTHES = {
    "dataset.name": "fashion_mnist",
    "dataset.train_split": "train[:50000]",
    "dataset.valid_split": "train[59400:]",
    "dataset.test_split": "test[:300]",
}
# 1,298 training and 144 validation images of digits; 900 and 100 points on four spirals; 600 validation images of clothes.
DATA: Mapping[str, Mapping[str, Any]] = {
    "digits": {"dataset.name": "digits", "dataset.test_split": "test[:100]"},
    "digits 16x16": {"dataset.name": "digits", "dataset.resize": (16, 16), "dataset.test_split": "test[:100]"},
    "spirals": {"dataset.name": "spirals", "dataset.test_split": "test[:100]"},
    "clothes": CLOTHES,
    "clothes 16x16": {**CLOTHES, "dataset.resize": (16, 16)},
    "clothes 32x32": {**CLOTHES, "dataset.pad": (32, 32)},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A training and its expected diagnosis.

    Attributes:
      name: a description of the case.
      data: a name in DATA.
      model: the model's name.
      fields: config fields in addition to those of COMMON and of the data.
      expected: the expected finding; None for a healthy training.
      beside: further findings that are allowed because they are consequences of the fault.
      wrong_labels: the share of labels in every split that are exchanged among the examples.
    """

    name: str
    data: str
    model: str
    fields: Mapping[str, Any]
    expected: str | None
    beside: frozenset[str] = frozenset()
    wrong_labels: float = 0.0


def _case(
    name: str,
    data: str,
    model: str,
    rate: float,
    epochs: int,
    batch: int,
    expected: str | None,
    beside: Sequence[str] = (),
    wrong: float = 0.0,
    **fields: Any,
) -> Case:
    """Makes a case from a row of the tables below; a dot in a field is written as two underscores."""
    given = {
        "optimizer.learning_rate": rate,
        "train.epochs": epochs,
        "train.batch_size": batch,
        **{key.replace("__", "."): value for key, value in fields.items()},
    }
    return Case(name, data, model, given, expected, frozenset(beside), wrong)


ADAM = {"optimizer__name": "adam"}
FLAT = {"schedule__name": "constant"}
FC = {"model__plan": "fc 64 64"}
DEEP_FC = {"model__plan": "fc 64 64 64 64 64"}
CONV = {"model__plan": "conv 8 pool | conv 16 pool | fc 32"}
CONV_BN = {"model__plan": "conv 8 8 pool | conv 16 16 pool", "model__norm": "batch"}

DEEP_BN = {"model__plan": "conv 8 8 8 8 8 8 pool | conv 16 16 16 16 16 16 pool", "model__norm": "batch"}

# name, data, model, learning rate, epochs, batch size, expected finding, further findings that are allowed
DEVELOPMENT = (
    _case("rate 30", "digits 16x16", "mlp", 30.0, 6, 64, HIGH, (DEAD,), **FLAT),
    _case("Adam at 0.3", "clothes", "mlp", 0.3, 6, 64, HIGH, (DEAD,), dataset__examples_per_class=60, **FLAT, **ADAM),
    _case("rate 3, diverges in the first epoch", "digits", "lenet5", 3.0, 6, 64, HIGH, (SATURATED, DEAD), **FLAT),
    _case("rate 0.5, diverges in the first epoch", "digits 16x16", "pattern", 0.5, 6, 32, HIGH, (DEAD,), **CONV, **FLAT),
    _case("rate 0.5 under tanh, oscillates", "digits 16x16", "pattern", 0.5, 10, 64, HIGH, (SATURATED,),
          model__activation="tanh", **FC, **FLAT),
    _case("rate 30", "digits 16x16", "resnet20", 30.0, 5, 64, HIGH, (DEAD,), dataset__examples_per_class=40, **FLAT),
    _case("rate 1e-5", "digits 16x16", "resnet20", 1e-5, 6, 64, LOW, dataset__examples_per_class=50, **FLAT),
    _case("rate 3e-4", "digits 16x16", "resnet20", 3e-4, 6, 64, LOW, dataset__examples_per_class=50, **FLAT),
    _case("rate 1e-4", "digits", "lenet5", 1e-4, 8, 64, LOW, **FLAT),
    _case("Adam at 1e-5", "spirals", "mlp", 1e-5, 20, 50, LOW, **ADAM, **FLAT),
    _case("rate 1e-5", "clothes", "mlp", 1e-5, 8, 50, LOW, dataset__examples_per_class=60, **FLAT),
    _case("the rate falls to nothing at once", "digits 16x16", "pattern", 0.003, 12, 64, LOW,
          schedule__name="exponential", schedule__factor=0.2, **FC),
    _case("shuffled labels, learned by heart", "digits 16x16", "mlp", 1e-3, 30, 50, LABELS, wrong=1.0,
          dataset__examples_per_class=40, **ADAM),
    _case("shuffled labels", "digits 16x16", "resnet20", 0.05, 12, 50, LABELS, wrong=1.0, dataset__examples_per_class=40),
    _case("shuffled labels", "digits", "lenet5", 0.02, 10, 50, LABELS, wrong=1.0),
    _case("shuffled labels", "clothes", "pattern", 0.01, 12, 50, LABELS, wrong=1.0, dataset__examples_per_class=60,
          **FC),
    _case("40 steps", "digits 16x16", "resnet20", 0.1, 2, 64, STATISTICS, **FLAT),
    _case("54 steps", "clothes 16x16", "resnet20", 0.1, 3, 32, STATISTICS, dataset__examples_per_class=60, **FLAT),
    _case("twelve layers, 40 steps", "digits 16x16", "pattern", 0.1, 2, 64, STATISTICS, (DEAD,), **DEEP_BN, **FLAT),
    _case("five sigmoids", "digits 16x16", "pattern", 0.05, 8, 64, VANISHING, model__activation="sigmoid", **DEEP_FC),
    _case("small weights", "digits", "lenet5", 0.01, 8, 64, VANISHING, initial__scale=0.05),
    _case("small weights", "clothes", "pattern", 0.02, 8, 50, VANISHING, model__initializer="small_normal",
          dataset__examples_per_class=60, **DEEP_FC),
    _case("large weights under ReLU", "digits 16x16", "pattern", 1e-7, 8, 64, EXPLODING,
          model__initializer="unit_normal", **DEEP_FC),
    _case("large weights", "clothes", "mlp", 0.01, 8, 50, EXPLODING, (DEAD,), initial__scale=30.0,
          dataset__examples_per_class=60),
    _case("large weights under tanh", "digits 16x16", "pattern", 0.01, 8, 64, SATURATED, (EXPLODING,),
          model__initializer="unit_normal", model__activation="tanh", **DEEP_FC),
    _case("a rate that kills units", "digits 16x16", "pattern", 0.2, 10, 64, DEAD, (HIGH, UNDER), **FC, **FLAT),
    _case("five images a class", "digits 16x16", "mlp", 0.05, 60, 50, OVER, dataset__examples_per_class=5),
    _case("ten images a class", "clothes 32x32", "lenet5", 0.003, 40, 50, OVER, dataset__examples_per_class=10, **ADAM),
    _case("half of the labels wrong", "digits 16x16", "mlp", 1e-3, 30, 50, UNDER, (OVER,), wrong=0.5, **ADAM),
    _case("a line for spirals", "spirals", "mlp", 0.05, 20, 50, UNDER, (NOTHING,), model__features=()),
    _case("two units", "digits 16x16", "pattern", 0.02, 20, 64, UNDER, (DEAD,), model__plan="fc 2"),
    _case("dropout 0.9", "digits 16x16", "pattern", 0.02, 12, 64, UNDER, (DEAD,), model__plan="fc 64",
          model__dense_dropout_rate=0.9),
    _case("weight decay 1", "digits 16x16", "mlp", 0.02, 15, 64, UNDER, (VANISHING,), optimizer__weight_decay=1.0),
    _case("augmentation that hides the images", "digits 16x16", "pattern", 0.02, 12, 64, UNDER, augment__rotation=180.0,
          augment__shift=0.5, augment__erasing=1.0, **CONV_BN),
    _case("pixels from 0 to 255", "digits 16x16", "pattern", 0.02, 6, 64, RAW, dataset__normalize="none",
          dataset__scale="none", **CONV),
    _case("pixels from 0 to 255", "clothes", "mlp", 0.02, 6, 64, RAW, dataset__examples_per_class=60,
          dataset__normalize="none", dataset__scale="none"),
    _case("zero weights", "digits 16x16", "pattern", 0.05, 6, 64, NOTHING, (DEAD,), model__initializer="zeros", **FC),
    _case("four epochs", "clothes 32x32", "lenet5", 0.005, 4, 50, SHORT, dataset__examples_per_class=100, **FLAT),
    # healthy
    _case("SGD", "digits 16x16", "mlp", 0.05, 15, 64, None),
    _case("Adam", "digits 16x16", "mlp", 1e-3, 15, 64, None, **ADAM),
    _case("SGD", "digits", "lenet5", 0.05, 12, 64, None),
    _case("Adam", "digits", "lenet5", 2e-3, 12, 64, None, **ADAM),
    _case("SGD", "digits", "lenet5_bn", 0.05, 12, 64, None),
    _case("SGD", "digits 16x16", "resnet20", 0.1, 10, 64, None),
    _case("SGD and weight decay", "digits 16x16", "pattern", 0.02, 15, 64, None, optimizer__weight_decay=1e-3, **CONV),
    _case("batch normalisation", "digits 16x16", "pattern", 0.05, 12, 64, None, **CONV_BN),
    _case("Adam", "spirals", "mlp", 0.01, 60, 50, None, model__features=(64, 64), **ADAM),
    _case("tanh", "spirals", "pattern", 0.01, 60, 50, None, model__activation="tanh", **FC, **ADAM),
    _case("SGD", "clothes", "mlp", 0.01, 12, 64, None, dataset__examples_per_class=400, optimizer__weight_decay=1e-3),
    _case("dropout", "clothes 32x32", "lenet5", 0.01, 20, 64, None, dataset__examples_per_class=300),
)  # fmt: skip
# Written after the rules of commit 2ad24ad and first diagnosed with these; then the rules were improved on these cases. One case was
# dropped because its fault did not occur: resnet20 on digits, 40 steps of Adam at 0.01, with validation at 55.6 % and training at 57.4 %.
FORMERLY_HELD_OUT = (
    _case("rate 2", "clothes 32x32", "lenet5", 2.0, 6, 50, HIGH, (SATURATED,), dataset__examples_per_class=60, **FLAT),
    _case("Adam at 0.1", "clothes", "pattern", 0.1, 6, 50, HIGH, (DEAD,), dataset__examples_per_class=60, **CONV, **FLAT,
          **ADAM),
    _case("rate 5", "spirals", "mlp", 5.0, 15, 50, HIGH, (DEAD,), **FLAT),
    _case("rate 3", "digits 16x16", "mlp", 3.0, 6, 32, HIGH, (DEAD,), model__features=(128, 64)),
    _case("rate 2 under leaky ReLU", "digits 16x16", "pattern", 2.0, 6, 64, HIGH, model__activation="leaky_relu", **FC,
          **FLAT),
    _case("Adam at 1e-7", "clothes 16x16", "resnet20", 1e-7, 5, 64, LOW, dataset__examples_per_class=60, **FLAT, **ADAM),
    _case("rate 1e-5", "clothes", "pattern", 1e-5, 8, 50, LOW, dataset__examples_per_class=60, **CONV),
    _case("rate 1e-5", "digits", "lenet5_bn", 1e-5, 6, 64, LOW, **FLAT),
    _case("Adam at 3e-6", "digits 16x16", "mlp", 3e-6, 8, 32, LOW, **FLAT, **ADAM),
    _case("rate 1e-4 under tanh", "spirals", "pattern", 1e-4, 15, 50, LOW, model__activation="tanh", **FC, **FLAT),
    _case("shuffled labels", "digits", "lenet5_bn", 0.05, 14, 40, LABELS, wrong=1.0, dataset__examples_per_class=40),
    _case("shuffled labels", "clothes", "mlp", 1e-3, 20, 50, LABELS, wrong=1.0, dataset__examples_per_class=60, **ADAM),
    _case("shuffled labels", "digits 16x16", "pattern", 3e-3, 25, 50, LABELS, wrong=1.0, dataset__examples_per_class=50,
          **CONV, **ADAM),
    _case("shuffled labels", "clothes 16x16", "resnet20", 0.02, 14, 50, LABELS, wrong=1.0,
          dataset__examples_per_class=40),
    _case("40 steps at 0.2", "clothes 16x16", "resnet20", 0.2, 2, 64, STATISTICS, (DEAD,), dataset__examples_per_class=130,
          **FLAT),
    _case("twelve layers, 32 steps", "clothes", "pattern", 0.2, 2, 50, STATISTICS, (DEAD,), dataset__examples_per_class=80,
          **DEEP_BN, **FLAT),
    _case("eight sigmoids", "clothes 16x16", "pattern", 0.1, 8, 50, VANISHING, dataset__examples_per_class=60,
          model__plan="fc 32 32 32 32 32 32 32 32", model__activation="sigmoid"),
    _case("six layers of small weights", "digits 16x16", "mlp", 0.02, 8, 64, VANISHING, initial__scale=0.1,
          model__features=(64,) * 6),
    _case("four convolutions under sigmoids", "digits 16x16", "pattern", 0.05, 8, 64, VANISHING,
          model__plan="conv 8 8 pool | conv 8 8 pool | fc 32 32", model__activation="sigmoid"),
    _case("large weights in convolutions", "digits 16x16", "pattern", 1e-6, 8, 64, EXPLODING, (DEAD,),
          model__initializer="unit_normal", **CONV),
    _case("large weights", "digits 16x16", "mlp", 1e-3, 8, 64, EXPLODING, (DEAD,), initial__scale=20.0,
          model__features=(64, 64)),
    _case("large weights under tanh", "digits", "lenet5", 0.005, 8, 64, SATURATED, (EXPLODING,), initial__scale=30.0),
    _case("large weights under sigmoid", "clothes", "mlp", 0.01, 8, 50, SATURATED, (EXPLODING,), initial__scale=50.0,
          dataset__examples_per_class=60, model__features=(64, 64), model__activation="sigmoid"),
    _case("a rate that kills units", "clothes", "pattern", 0.3, 8, 50, DEAD, (HIGH, NOTHING, UNDER),
          dataset__examples_per_class=100, **FC, **FLAT),
    _case("four images a class", "digits", "lenet5_bn", 3e-3, 40, 20, OVER, dataset__examples_per_class=4, **ADAM),
    _case("eight images a class", "clothes", "pattern", 0.02, 50, 40, OVER, dataset__examples_per_class=8, **CONV),
    _case("eight points an arm", "spirals", "mlp", 0.01, 150, 32, OVER, dataset__examples_per_class=8,
          model__features=(128, 128), **ADAM),
    _case("one unit", "clothes", "pattern", 0.02, 15, 50, UNDER, (DEAD,), dataset__examples_per_class=100,
          model__plan="fc 1"),
    _case("a line for spirals", "spirals", "pattern", 0.02, 20, 50, UNDER, (NOTHING,), model__plan=""),
    _case("weight decay 0.3 under tanh", "digits 16x16", "pattern", 0.02, 15, 64, UNDER, (VANISHING,),
          optimizer__weight_decay=0.3, model__activation="tanh", **FC),
    _case("dropout 0.98", "clothes", "mlp", 0.01, 12, 50, UNDER, (DEAD,), dataset__examples_per_class=100,
          model__dropout_rate=0.98),
    _case("augmentation that hides the clothes", "clothes", "mlp", 0.01, 12, 50, UNDER, dataset__examples_per_class=100,
          augment__rotation=180.0, augment__shift=0.5),
    _case("pixels from 0 to 255", "clothes", "pattern", 0.05, 6, 50, RAW, dataset__examples_per_class=60,
          dataset__normalize="none", dataset__scale="none", **CONV),
    _case("zero weights", "clothes", "mlp", 0.05, 6, 50, NOTHING, (DEAD,), dataset__examples_per_class=60,
          initial__scale=0.0),
    _case("three epochs", "clothes", "mlp", 0.002, 3, 50, SHORT, dataset__examples_per_class=100, **FLAT),
    # healthy
    _case("two layers, Adam", "digits 16x16", "mlp", 3e-3, 15, 32, None, model__features=(128, 64), **ADAM),
    _case("one layer of sigmoids", "digits 16x16", "pattern", 0.01, 20, 64, None, model__plan="fc 64",
          model__activation="sigmoid", **ADAM),
    _case("leaky ReLU", "digits 16x16", "pattern", 3e-3, 15, 64, None, model__activation="leaky_relu", **CONV, **ADAM),
    _case("SGD", "digits 16x16", "pattern", 0.03, 15, 64, None, **FC),
    _case("batch normalisation, Adam", "digits 16x16", "pattern", 3e-3, 12, 64, None, **CONV_BN, **ADAM),
    _case("Adam", "digits", "lenet5_bn", 2e-3, 10, 64, None, **ADAM),
    _case("a lower rate", "digits 16x16", "resnet20", 0.03, 8, 64, None),
    _case("ReLU", "digits", "lenet5", 0.02, 12, 64, None, model__activation="relu"),
    _case("Adam", "clothes 32x32", "lenet5", 1e-3, 12, 64, None, dataset__examples_per_class=300, **ADAM),
    _case("dropout", "clothes", "pattern", 2e-3, 12, 64, None, dataset__examples_per_class=300,
          model__dense_dropout_rate=0.3, **CONV, **ADAM),
    _case("one wide layer", "spirals", "mlp", 0.03, 60, 50, None, model__features=(256,), **ADAM),
    _case("SGD", "spirals", "pattern", 0.05, 60, 50, None, **FC),
)  # fmt: skip
# Written after the rules were improved on the other two groups, committed before any was trained, and trained once.
FRESH = (
    _case("Adam at 1", "spirals", "mlp", 1.0, 12, 50, HIGH, (DEAD,), model__features=(64, 64), **FLAT, **ADAM),
    _case("rate 10", "digits", "lenet5", 10.0, 6, 64, HIGH, (SATURATED, DEAD), **FLAT),
    _case("rate 5", "clothes", "pattern", 5.0, 6, 50, HIGH, (DEAD,), dataset__examples_per_class=80, **CONV, **FLAT),
    _case("rate 1e-6", "digits 16x16", "resnet20", 1e-6, 5, 64, LOW, dataset__examples_per_class=40, **FLAT),
    _case("rate 3e-5", "spirals", "pattern", 3e-5, 20, 50, LOW, **FC, **FLAT),
    _case("Adam at 1e-6", "clothes 32x32", "lenet5", 1e-6, 6, 50, LOW, dataset__examples_per_class=60, **FLAT, **ADAM),
    _case("rate 3e-6", "digits 16x16", "pattern", 3e-6, 7, 32, LOW, **CONV),
    _case("shuffled labels, Adam", "clothes 32x32", "lenet5", 3e-3, 25, 40, LABELS, wrong=1.0,
          dataset__examples_per_class=40, **ADAM),
    _case("shuffled labels, one wide layer", "digits 16x16", "mlp", 0.05, 40, 30, LABELS, wrong=1.0,
          dataset__examples_per_class=30, model__features=(256,)),
    _case("shuffled labels, batch normalisation", "digits 16x16", "pattern", 3e-3, 20, 50, LABELS, wrong=1.0,
          dataset__examples_per_class=45, **CONV_BN, **ADAM),
    _case("30 steps at 0.3", "digits 16x16", "resnet20", 0.3, 3, 128, STATISTICS, (DEAD,), **FLAT),
    _case("twelve layers, 36 steps", "clothes 16x16", "pattern", 0.15, 2, 50, STATISTICS, (DEAD,),
          dataset__examples_per_class=90, **DEEP_BN, **FLAT),
    _case("nine sigmoids", "clothes", "mlp", 0.05, 8, 50, VANISHING, dataset__examples_per_class=60,
          model__features=(32,) * 9, model__activation="sigmoid"),
    _case("weights of a thirtieth", "clothes 32x32", "lenet5", 0.02, 8, 50, VANISHING, initial__scale=0.03,
          dataset__examples_per_class=60),
    _case("ten sigmoids", "spirals", "pattern", 0.1, 12, 50, VANISHING, model__activation="sigmoid",
          model__plan="fc 32 32 32 32 32 32 32 32 32 32"),
    _case("large weights under ReLU", "clothes", "pattern", 1e-8, 8, 50, EXPLODING, (DEAD,), model__initializer="unit_normal",
          dataset__examples_per_class=60, **DEEP_FC),
    _case("large weights under tanh", "clothes", "pattern", 0.005, 8, 50, SATURATED, (EXPLODING,),
          model__initializer="unit_normal", model__activation="tanh", dataset__examples_per_class=80,
          model__plan="fc 64 64 64"),
    _case("large weights under sigmoid", "digits 16x16", "pattern", 0.01, 8, 64, SATURATED, (EXPLODING,),
          model__initializer="unit_normal", model__activation="sigmoid", **FC),
    _case("three images a class", "digits 16x16", "pattern", 3e-3, 40, 30, OVER, dataset__examples_per_class=3, **CONV,
          **ADAM),
    _case("six images a class", "clothes", "mlp", 0.02, 60, 30, OVER, dataset__examples_per_class=6),
    _case("five images a class", "clothes 32x32", "lenet5_bn", 3e-3, 40, 25, OVER, dataset__examples_per_class=5, **ADAM),
    _case("two units for spirals", "spirals", "pattern", 0.02, 40, 50, UNDER, model__plan="fc 2",
          model__activation="tanh", **ADAM),
    _case("pixels from 0 to 255", "digits 16x16", "mlp", 0.1, 6, 64, RAW, dataset__normalize="none",
          dataset__scale="none"),
    _case("zero weights", "digits", "lenet5", 0.05, 6, 64, NOTHING, initial__scale=0.0),
    # healthy
    _case("one layer of 96, Adam", "digits 16x16", "mlp", 2e-3, 20, 32, None, model__features=(96,), **ADAM),
    _case("SGD at 0.03", "digits", "lenet5", 0.03, 14, 32, None),
    _case("SGD at 0.02", "digits", "lenet5_bn", 0.02, 12, 32, None),
    _case("tanh, Adam", "digits 16x16", "pattern", 2e-3, 15, 64, None, model__activation="tanh", **FC, **ADAM),
    _case("Adam", "digits 16x16", "resnet20", 2e-3, 8, 64, None, **ADAM),
    _case("leaky ReLU, Adam", "spirals", "pattern", 5e-3, 60, 50, None, model__activation="leaky_relu",
          model__plan="fc 96 96", **ADAM),
    _case("128 and 64 units", "spirals", "mlp", 5e-3, 60, 50, None, model__features=(128, 64), **ADAM),
    _case("Adam at 1e-3", "clothes", "pattern", 1e-3, 10, 64, None, dataset__examples_per_class=400, **CONV, **ADAM),
)  # fmt: skip
FINDINGS = """
The fresh cases were written after the rules were final, and were trained and diagnosed once. 22 of their 24 planted faults are named
correctly (92 %, 95 % interval 73 to 99 %), and none of their 8 healthy runs has a finding. No rule was changed afterwards. Both
mistakes name dead ReLUs instead of the planted fault. In the first, 36 steps of a network with twelve layers and batch normalisation,
the validation loss is 3,450 and then 62, but both splits are so close to guessing that "not learning" is reported instead of unsettled
statistics. In the second, with three images per class, the dense layer has 53 % dead units and training ends at 73 %, validation at
56 %: a gap of 19.7 points in skill, just below the 20 that count as over-fitting on their own.

The development cases were used while the rules were written; the second group was held out at first. In its first evaluation 29 of 36
planted faults were named correctly, and no healthy run had a finding. Its mistakes were then used to improve the rules, so that the
figures of both groups are development figures and not estimates for other trainings.

One case of the second group was dropped because its fault did not occur: after 40 steps of Adam there was no difference between
training (57.4 %) and validation (55.6 %). One mistake remains: a network with a single unit, which died. Dead ReLUs and "not learning"
are found, but curves cannot show that one unit is too few. Without probes only the curves are available: they show that a network does
not learn, but less often why.
"""
ANSWER = """
**How often is the diagnosis right?** It names 22 of 24 faults that were planted in small trainings after its rules were final, and finds no
fault in 8 healthy trainings.
"""
EXERCISE = """
**Exercise.** Plant a fault of your own: train `quickstart` with `--config.optimizer.learning_rate=5` or `--config.optimizer.learning_rate=1e-6`,
and run `cnnjax diagnose`. Which evidence does it show, and which other fault would have the same curves?
"""
PARTS: Mapping[str, Sequence[Case]] = {
    "development": DEVELOPMENT,
    "formerly held out": FORMERLY_HELD_OUT,
    "fresh": FRESH,
}


def config(case: Case, workdir: Path) -> ConfigDict:
    """The resolved config of a case; images with exchanged labels are first written to a folder in `workdir`."""
    seed = 1 + sum(map(ord, plain(case))) % 1000
    fields = {**COMMON, **DATA[case.data], "model.name": case.model, **case.fields, "seed": seed}
    if case.wrong_labels:
        chosen = {key: value for key, value in fields.items() if key.startswith("dataset.")}
        folder = workdir / "data" / plain(case)
        if not folder.exists():
            write_with_wrong_labels(load_config({}, chosen), case.wrong_labels, folder)
        fields = {key: value for key, value in fields.items() if key not in chosen} | {"dataset.name": str(folder)}
    return load_config({}, fields)


def words(case: Case) -> str:
    """The description of a case."""
    return f"{case.model}, {case.data}, {case.name}"


def plain(case: Case) -> str:
    """The description of a case in letters, digits and hyphens."""
    return "".join(letter if letter.isalnum() else "-" for letter in f"{case.model} {case.data} {case.name}".lower())


def identifier(case: Case) -> str:
    """The name of a case's run directory: its description, and a digest of its fields."""
    return f"{plain(case)}-{digest({**DATA[case.data], **case.fields, 'wrong': case.wrong_labels})}"


def write_with_wrong_labels(chosen: Any, share: float, folder: Path) -> None:
    """Writes the images of a data set as `folder/<split>/<class>/<number>.png`, with a share of the labels exchanged."""
    dataset = load_dataset(DatasetOptions(**chosen.dataset))
    draw = np.random.RandomState(0)
    for name, split in dataset.splits.items():
        labels = np.array(split.labels)
        exchanged = draw.permutation(len(labels))[: round(share * len(labels))]
        labels[exchanged] = labels[draw.permutation(exchanged)]
        for number, (image, label) in enumerate(zip(split.images, labels, strict=True)):
            path = folder / name / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(image).squeeze(-1)).save(path)


Record = Mapping[str, Any]  # a run's history, config and description of its data: the arguments of `diagnose_history`


def measure(case: Case, workdir: Path) -> Record:
    """Trains a case if it has not been trained, and returns its record."""
    directory = workdir / identifier(case)
    logged = directory / run_directory.METRICS
    failed = logged.exists() and any("error" in line for line in run_directory.read_history(directory))
    if not failed and not (directory / run_directory.DONE).exists():
        with contextlib.suppress(FloatingPointError):  # recorded in the last line of the history
            cnnjax.train(config(case, workdir), directory)
    history, resolved, described = read_logs(directory)
    stored = to_json(resolved)
    if case.wrong_labels:
        stored["dataset"]["name"] = "digits with wrong labels"  # the folder exists only on this machine
    return shortened({"history": history, "config": stored, "described": described})


def shortened(value: Any) -> Any:
    """A record without times and with numbers to three digits, which are enough for the rules."""
    if isinstance(value, Mapping):
        return {key: shortened(part) for key, part in value.items() if not key.startswith("time/")}
    if isinstance(value, list):
        return [shortened(part) for part in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def found(record: Record, probes: bool = True) -> list[str]:
    """The names of the findings, with or without the measurements of `log.probes`."""
    history = record["history"]
    if not probes:
        curves = [{key: value for key, value in line.items() if not key.startswith("probe/")} for line in history]
        history = [line for line in curves if line["step"]]
    return [finding.name for finding in diagnose_history(history, load_config(record["config"]), record["described"])]


def is_right(case: Case, names: Sequence[str]) -> bool:
    """Whether the planted fault was named with no findings except its consequences; for a healthy run, whether there are none."""
    if case.expected is None:
        return not names
    return case.expected in names and set(names) <= {case.expected} | case.beside


def read_records() -> dict[str, Record]:
    """The committed histories, by the identifiers of the cases."""
    return json.loads(gzip.decompress(HISTORIES.read_bytes()))


def write_records(records: Mapping[str, Record]) -> None:
    """Writes the histories, with equal bytes for equal histories."""
    HISTORIES.write_bytes(gzip.compress(json.dumps(records).encode(), mtime=0))


def measured(cases: Sequence[Case], records: Mapping[str, Record]) -> list[Case]:
    """The cases that have been trained."""
    return [case for case in cases if identifier(case) in records]


def count(cases: Sequence[Case], records: Mapping[str, Record], probes: bool) -> tuple[str, str]:
    """The number of planted faults that were named, and of healthy runs without a finding, as "27 of 30"."""
    right = [(case, is_right(case, found(records[identifier(case)], probes))) for case in measured(cases, records)]
    planted = [said for case, said in right if case.expected]
    healthy = [said for case, said in right if not case.expected]
    return f"{sum(planted)} of {len(planted)}", f"{sum(healthy)} of {len(healthy)}"


def page(records: Mapping[str, Record]) -> str:
    """The tables in Markdown."""
    totals = [
        (f"{part}{'' if probes else ', without probes'}", *count(cases, records, probes))
        for part, cases in PARTS.items()
        for probes in (True, False)
    ]
    tables = []
    for part, cases in PARTS.items():
        rows = []
        for case in measured(cases, records):
            names, blind = (found(records[identifier(case)], probes) for probes in (True, False))
            beside = f" (also allowed: {', '.join(sorted(case.beside))})" if case.beside else ""
            rows.append(
                (
                    words(case),
                    (case.expected or "healthy") + beside,
                    ", ".join(names) or "none",
                    "right" if is_right(case, names) else "**wrong**",
                    "same" if blind == names else ", ".join(blind) or "none",
                )
            )
        head = ("network, data, planted fault", "expected", "found", "", "found without probes")
        tables.append(f"## {part.capitalize()}\n\n{markdown(head, rows)}")
    return (
        "\n\n".join(
            [
                "# Does `cnnjax diagnose` name the fault?",
                ANSWER.strip(),
                f"`python -m experiments.diagnosis`: small trainings of one seed each; {hardware()}, JAX {jax.__version__}.",
                EXERCISE.strip(),
                markdown(("cases", "planted faults named correctly", "healthy runs without a finding"), totals),
                f"{FINDINGS.strip()}",
                *tables,
            ]
        )
        + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the cases that have not been trained, and writes the histories and the page."""
    parser = argparse.ArgumentParser(prog="python -m experiments.diagnosis", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/studies/diagnosis"), help="the folder of the runs")
    options = parser.parse_args(arguments)
    cnnjax.configure_runtime()
    records = {}
    for part, cases in PARTS.items():
        for case in cases:
            record = records[identifier(case)] = measure(case, options.workdir)
            names = found(record)
            said = "right" if is_right(case, names) else "WRONG"
            print(f"{part}: {said}: {words(case)}: expected {case.expected}, found {names}", flush=True)
            if len(records) % KEPT_PROGRAMS == 0:
                jax.clear_caches()
    write_records(records)
    files.write_atomically(RESULTS / "diagnosis.md", page(records))


if __name__ == "__main__":
    main()
