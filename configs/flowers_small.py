"""Few images: 80 photographs of each of five flowers, rotated by up to 20 degrees and shifted by up to 5 pixels.

    cnnjax train --config configs/flowers_small.py
    cnnjax train --config configs/flowers_small.py --config.augment.rotation=0 --config.augment.shift=0    # without

Result: not run here, the data must be downloaded (218 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "tf_flowers", "resize": (64, 64), "examples_per_class": 80},
        "augment": {"rotation": 20.0, "shift": 5.0, "fill": "reflect"},
        "model": {
            "name": "pattern",
            "plan": "conv 32 pool | conv 64 pool | conv 64 pool | fc 128",
            "dense_dropout_rate": 0.5,
        },
        "optimizer": {"learning_rate": 0.01, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 40, "epochs": 100},
    }
