"""ResNet-18 with a 3x3 stem on Fashion-MNIST, for a GPU.

    cnnjax train --config configs/fashion_mnist_resnet18.py

Others report 0.949 for a ResNet-18 with augmentation (github.com/zalandoresearch/fashion-mnist, "Benchmark").
Result: not run here, needs a GPU.
"""


def get_config():
    return {
        "dataset": {"name": "fashion_mnist"},
        "augment": {"pad": 2, "flip_horizontal": True, "erasing": 0.25},
        "model": {"name": "resnet18", "stem": "3x3"},
        "loss": {"label_smoothing": 0.1},
        "optimizer": {"learning_rate": 0.1, "nesterov": True, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 2.0},
        "train": {"batch_size": 128, "epochs": 60, "precision": "bfloat16", "ema": 0.999},
        "evaluate": {"views": "flip"},
    }
