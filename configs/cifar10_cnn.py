"""The tutorials' small convolutional network on CIFAR-10.

    cnnjax train --config configs/cifar10_cnn.py

Result: not run here, the data must be downloaded (162 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "cifar10"},
        "model": {"name": "cnn_small"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 30},
    }
