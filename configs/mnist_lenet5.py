"""LeNet-5, in the form that is taught today, on MNIST padded to 32x32.

    cnnjax train --config configs/mnist_lenet5.py

After LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE, 1998: 0.95 % test error without distortions.
Result: not run here, the data must be downloaded (11 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "mnist", "pad": (32, 32)},
        "model": {"name": "lenet5"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 20},
    }
