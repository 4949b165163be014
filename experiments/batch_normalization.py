"""Batch normalisation: LeNet-5 with and without it, at several learning rates and batch sizes.

python -m experiments.batch_normalization [--scale smoke|small|full]
"""

from experiments.study import Scale, Study, main

STUDY = Study(
    name="batch_normalization",
    title="LeNet-5 with and without batch normalisation, by learning rate and batch size",
    config={
        "dataset": {"normalize": "image"},
        "model": {"name": "lenet5"},
        "schedule": {"name": "constant"},
        "evaluate": {"checkpoint": "last"},
        "log": {"tensorboard": False},
    },
    axes={
        f"{'with' if batch_norm else 'without'}, rate {rate}, batches of {size}": {
            "model.batch_norm": batch_norm,
            "optimizer.learning_rate": rate,
            "train.batch_size": size,
        }
        for size in (16, 128)
        for rate in (0.01, 0.1, 0.5)
        for batch_norm in (False, True)
    },
    scales={
        "smoke": Scale(
            "digits, 16 a class", {"dataset.name": "digits", "dataset.examples_per_class": 16, "train.epochs": 1}, 1
        ),
        "small": Scale("digits", {"dataset.name": "digits", "train.epochs": 10}, 3),
        "full": Scale(
            "Fashion-MNIST", {"dataset.name": "fashion_mnist", "dataset.pad": (32, 32), "train.epochs": 20}, 5
        ),
    },
    published={},
    findings="",
)

if __name__ == "__main__":
    main(STUDY)
