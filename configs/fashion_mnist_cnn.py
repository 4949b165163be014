"""The tutorials' small convolutional network on Fashion-MNIST.

    cnnjax train --config configs/fashion_mnist_cnn.py

RESULT
"""


def get_config():
    return {
        "dataset": {"name": "fashion_mnist"},
        "model": {"name": "cnn_small"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 12},
    }
