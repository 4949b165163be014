"""Simard's multilayer perceptron, 784-800-10, on MNIST.

    cnnjax train --config configs/mnist_mlp.py

After Simard, Steinkraus and Platt, ICDAR 2003: 1.6 % test error with cross-entropy and no distortions.
Result: not run here, the data must be downloaded (11 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "mnist"},
        "model": {"name": "mlp", "features": (800,)},
        "optimizer": {"learning_rate": 0.1},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 30},
    }
