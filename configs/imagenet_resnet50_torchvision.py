"""ResNet-50 on ImageNet by torchvision's classic recipe, which gave its weights IMAGENET1K_V1.

    cnnjax train --config configs/imagenet_resnet50_torchvision.py

The defaults of torchvision's `references/classification/train.py` on eight GPUs: batches of 8 x 32, a learning rate of 0.1 divided by 10
after 30 and 60 of 90 epochs, momentum 0.9, and a weight decay of 1e-4 on all parameters, those of batch norm too. Crops of 8 to 100 % of
the area are resized to 224, and mirrored at random. The test resizes the shorter side to 256 and takes the central 224.
Published result: 76.130 % top-1 and 92.862 % top-5 accuracy. Different here: kernels are drawn by the number of inputs (torchvision's
by the number of outputs), and the last incomplete batch of an epoch is left out.

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`), whose images are decoded in each epoch.
"""


def get_config():
    return {
        "dataset": {
            "name": "imagenet2012",
            "streaming": True,
            "resize": (256, 256),
            "normalize": "fixed",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        },
        "augment": {"crop": (224, 224), "resized_crop": (0.08, 1.0), "flip_horizontal": True},
        "model": {"name": "resnet50_torchvision"},
        "optimizer": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "decayed": "all"},
        "schedule": {"name": "step", "epochs": (30, 60), "factor": 0.1},
        "train": {"batch_size": 256, "epochs": 90},
    }
