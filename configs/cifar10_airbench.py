"""A network for CIFAR-10 that is trained in ten epochs, in the style of airbench94 (Jordan, arXiv:2404.00498, 2024).

    cnnjax train --config configs/cifar10_airbench.py

The network, batches of 1024, Nesterov momentum 0.85, the triangular schedule, label smoothing 0.2, shifts of up to two pixels with
reflected borders, mirror images and the test with a mirrored view are those of `airbench94.py`. Its rates are given there per 1024
examples and before momentum: 11.5 / (1024 (1 + 1 / (1 - 0.85))) for the sum of a batch's losses is 11.5 / (1 + 1 / 0.15) = 1.5 for their
mean, 64 times as much for the biases of batch norm, and the decay of 0.0153 is 0.0153 / 11.5 of the weights times the rate.
Published result: 94.01 % test accuracy.

Different here: the first layer is random and trained (in `airbench94.py` it whitens 2x2 patches of the training images), images are mirrored
at random in every epoch (instead of every second time), an average of the weights is kept beside them (instead of replacing them every
five steps), ten epochs instead of 9.9, a tenth of the training images is kept for validation, and the test has no shifted views.

Result: not run here, the data must be downloaded (162 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "cifar10"},
        "augment": {"pad": 2, "fill": "reflect", "flip_horizontal": True},
        "model": {"name": "airbench94"},
        "loss": {"label_smoothing": 0.2},
        "optimizer": {
            "learning_rate": 1.5,
            "momentum": 0.85,
            "nesterov": True,
            "weight_decay": 0.0153 / 11.5,
            "decayed": "all",
            "groups": (("*bn*", "learning_rate", 64.0), ("*bn*", "weight_decay", 1 / 64)),
        },
        "schedule": {"name": "triangular", "rise": 0.23, "start_factor": 0.2, "end_factor": 0.07},
        "train": {"batch_size": 1024, "epochs": 10, "ema": 0.95},
        "evaluate": {"views": "flip"},
    }
