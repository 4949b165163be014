"""LeNet-5 on the embedded digits: no network, under half a minute.

cnnjax train --config configs/quickstart.py
"""


def get_config():
    return {
        "dataset": {"name": "digits"},
        "model": {"name": "lenet5", "activation": "relu", "pooling": "max"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 1e-2},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 32, "epochs": 30},
    }
