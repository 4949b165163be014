"""ResNet-50 on ImageNet by procedure A3 of "ResNet strikes back" (Wightman, Touvron and Jégou, arXiv:2110.00476, 2021, table 2).

    cnnjax train --config configs/imagenet_resnet50_a3.py

The shortest procedure: 100 epochs on crops of 160 in batches of 2048 with LAMB (learning rate 8e-3, weight decay 0.02 without batch norm
and biases, gradients clipped to norm 1, and no scaling of parameters that do not decay, as in timm), a cosine with 5 epochs of warm-up,
timm's rand-m6-mstd0.5-inc1, mixup 0.1 or cutmix 1.0, and binary cross-entropy with targets of 0 or 1 (above 0.2). The test takes the
central 95 % of the image at 224. Published result: 78.1 % top-1 accuracy.

Different here: images are interpolated bilinearly (there bilinearly or bicubically at random, and bicubically in the test), and the
rate changes at every step (there once an epoch).

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`), whose images are decoded in each epoch.
"""


def get_config():
    return {
        "dataset": {
            "name": "imagenet2012",
            "streaming": True,
            "resize": (235, 235),
            "normalize": "fixed",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        },
        "augment": {
            "crop": (160, 160),
            "resized_crop": (0.08, 1.0),
            "flip_horizontal": True,
            "randaugment_increasing": (2, 6.0, 0.5),
            "mixup": 0.1,
            "cutmix": 1.0,
        },
        "model": {"name": "resnet50_torchvision"},
        "loss": {"name": "binary_cross_entropy", "reduction": "mean", "threshold": 0.2},
        "optimizer": {
            "name": "lamb",
            "learning_rate": 8e-3,
            "weight_decay": 0.02,
            "clip_norm": 1.0,
            "scaled": "kernels",
        },
        "schedule": {"name": "cosine", "warmup_epochs": 5.0, "warmup_factor": 0.0125, "end_factor": 1.25e-4},
        "train": {"batch_size": 2048, "epochs": 100},
        "evaluate": {"crop": (224, 224)},
    }
