"""VGG16 with batch normalisation on CIFAR-10.

    cnnjax train --config configs/cifar10_vgg16_bn.py

Others report about 94 %.

Result: not run here, the data must be downloaded (162 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "cifar10"},
        "augment": {"pad": 4, "flip_horizontal": True},
        "model": {"name": "vgg16_bn"},
        "optimizer": {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "step", "every": 30.0, "factor": 0.5},
        "train": {"batch_size": 128, "epochs": 300},
    }
