"""The tutorials' small convolutional network on MNIST.

    cnnjax train --config configs/mnist_cnn.py

The Keras example of this network reports 99.25 % test accuracy after 12 epochs.
Result: not run here, the data must be downloaded (11 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "mnist"},
        "model": {"name": "cnn_small"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 12},
    }
