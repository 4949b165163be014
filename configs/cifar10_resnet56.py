"""ResNet-56 on CIFAR-10 as published (He, Zhang, Ren and Sun, CVPR 2016, section 4.2).

    cnnjax train --config configs/cifar10_resnet56.py

Images are padded by 4 pixels, cropped at random to 32x32 and flipped horizontally. The batch size is 128, the learning rate 0.1,
divided by 10 after 32,000 and 48,000 of 64,000 steps, the weight decay 1e-4. 45,000 images are for training and 5,000 for validation.
Images are normalised by channel, whereas the paper subtracts the mean of each pixel. Published result: 6.97 % error.

Result: not run here, the data must be downloaded (162 MiB).
"""


def get_config():
    return {
        "dataset": {"name": "cifar10"},
        "augment": {"pad": 4, "flip_horizontal": True},
        "model": {"name": "resnet56"},
        "optimizer": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "step", "epochs": (91.0, 137.0), "factor": 0.1},  # an epoch has 351 steps
        "train": {"batch_size": 128, "epochs": 182},
    }
