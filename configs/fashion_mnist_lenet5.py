"""LeNet-5 with ReLU and max-pooling on Fashion-MNIST padded to 32x32.

    cnnjax train --config configs/fashion_mnist_lenet5.py

RESULT
"""


def get_config():
    return {
        "dataset": {"name": "fashion_mnist", "pad": (32, 32)},
        "model": {"name": "lenet5", "activation": "relu", "pooling": "max"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 20},
    }
