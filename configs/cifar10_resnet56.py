"""ResNet-56 on CIFAR-10 as published (He, Zhang, Ren and Sun, CVPR 2016, section 4.2).

    cnnjax train --config configs/cifar10_resnet56.py

Four pixels around, random crops of 32 and mirror images; batches of 128, a rate of 0.1 divided by 10 after 32,000 and
48,000 of 64,000 steps, weight decay 1e-4; 45,000 images to train on and 5,000 to validate. Images are normalised by channel, where
the paper subtracts a mean for each pixel. The paper: 6.97 % error.

Result: not run here, the data need the network (162 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "cifar10"},
        "augment": {"pad": 4, "flip_horizontal": True},
        "model": {"name": "resnet56"},
        "optimizer": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "step", "epochs": (91.0, 137.0), "factor": 0.1},  # of 351 steps
        "train": {"batch_size": 128, "epochs": 182},
    }
