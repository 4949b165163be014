"""A U-Net whose encoder has learned to classify against one drawn at random, by the number of training scenes.

python -m experiments.pretrained_encoder [--scale smoke|small|full]

The encoder is the convolutional part of `cnn_8_16_32`, trained on 1,000 digits, or on 1,000 clothes, of 16x16 pixels; the digits of the
scenes, which are reduced to 32x32, are 11 to 17 pixels large. The scenes of a size are the first of the training split.
"""

from collections.abc import Iterable
from pathlib import Path

import cnnjax
from experiments.drawings import draw_intervals, panels
from experiments.scenes import CONFIG, FEW_TESTED
from experiments.study import Part, Results, Scale, Study, difference, main, markdown, spread

SIZES = (15, 50, 150)  # training scenes
SCRATCH = "scratch"
STARTS = {
    SCRATCH: {},
    "digits": {"initial.run": "digits"},
    "clothes": {"initial.run": "clothes"},
}


def variant(start: str, size: int) -> str:
    """The name of the variant with a given start and number of scenes."""
    return f"{start}, {size} scenes"


def sizes(results: Results) -> Iterable[Part]:
    """The test mean IoU by the number of scenes, with one line for each start."""
    table, data = results.table, results.scale.data
    values = {start: {size: list(table.values(variant(start, size)).values()) for size in SIZES} for start in STARTS}
    rows = []
    for start in STARTS:
        rows.append([start, *(spread(values[start][size]) for size in SIZES), data])
        if start != SCRATCH:
            points = (difference(table, variant(start, size), variant(SCRATCH, size)) for size in SIZES)
            rows.append([f"{start}, less {SCRATCH}", *points, data])
    figure, [axis] = panels(1, width=6)
    beside = {start: 1.04 ** (number - 1) for number, start in enumerate(STARTS)}  # keeps the bars from overlapping
    draw_intervals(axis, {start: {beside[start] * size: of for size, of in by.items()} for start, by in values.items()})
    axis.set_xscale("log")
    axis.set_xticks(SIZES, SIZES)
    axis.minorticks_off()
    axis.set_xlabel("training scenes")
    axis.set_ylabel("test mean IoU")
    axis.legend(frameon=False, fontsize=8)
    starts = [results.runs(variant(start, SIZES[0]))[0].config.initial.run for start in STARTS if start != SCRATCH]
    known = [(Path(run).name, cnnjax.load_run(run).metrics["test/accuracy"]) for run in starts]
    text = (
        f"Test accuracy of the pretrained networks on their own classes: {', '.join(f'{n} {100 * a:.1f} %' for n, a in known)}. "
        "The table has means ± standard deviations with 95 % confidence intervals, and paired differences in percentage points.\n\n"
        f"{markdown(['test mean IoU in %, training scenes', *map(str, SIZES), 'data'], rows)}"
    )
    yield Part("sizes", text, figure)


CLASSIFYING = {
    "task.name": "classification",
    "model.name": "cnn_8_16_32",
    "dataset.train_split": None,
    "dataset.valid_split": None,
    "dataset.test_split": None,
    "dataset.examples_per_class": 100,
    "dataset.resize": (16, 16),
    "train.batch_size": 50,
}
STUDY = Study(
    name="pretrained_encoder",
    title="An encoder that has learned to classify, by the number of training scenes",
    question="Does an encoder pretrained on classification help to segment?",
    answer="Not run yet.",
    exercise="Freeze the encoder (`initial.frozen=('encoder/*',)`). At which number of scenes does that cost more than it saves?",
    config={
        **CONFIG,
        "dataset": {"name": "digit_scenes", "resize": (32, 32)},
        "model": {"name": "unet", "encoder": "cnn_8_16_32", "features": 8, "batch_norm": True, "dropout_rate": 0.0},
    },
    axes={
        variant(start, size): {"dataset.train_split": f"train[:{size}]", **fields}
        for size in SIZES
        for start, fields in STARTS.items()
    },
    scales={
        "smoke": Scale("scenes of digits", {**FEW_TESTED, "train.batch_size": 5, "train.epochs": 1}, 1),
        "small": Scale("scenes of digits, 32x32", {"train.batch_size": 5, "train.epochs": 30, "evaluate.every": 30}, 3),
        "full": Scale("scenes of digits, 32x32", {"train.batch_size": 5, "train.epochs": 200}, 10),
    },
    published={},
    findings="",
    parts=sizes,
    sources={
        "digits": {**CLASSIFYING, "dataset.name": "digits"},
        "clothes": {**CLASSIFYING, "dataset.name": "fashion_mnist"},
    },
)

if __name__ == "__main__":
    main(STUDY)
