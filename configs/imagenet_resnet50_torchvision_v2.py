"""ResNet-50 on ImageNet by torchvision's new recipe, which gave its weights IMAGENET1K_V2.

    cnnjax train --config configs/imagenet_resnet50_torchvision_v2.py

The command in torchvision's `references/classification/README.md` (Vryniotis, "How to train state-of-the-art models using TorchVision's
latest primitives", 2021): 600 epochs in batches of 8 x 128, a learning rate of 0.5 that rises for 5 epochs from a hundredth and falls
along a cosine, a weight decay of 2e-5 without batch norm, label smoothing 0.1, mixup 0.2 or cutmix 1.0, TrivialAugment, random erasing
0.1, four repetitions of each image, and an average of the weights. Training uses crops of 176, the test the central 224 of images resized
to 232. Published result: 80.858 % top-1 and 95.434 % top-5 accuracy.

Different here: the rate and the average change at every step (there once an epoch, and every 32 steps with a decay of
1 - 2e-5 * 8 * 128 * 32 / 600, whose 32nd root is used here; the average there begins after the warm-up). Erased boxes have the mean
colour, which is 0 after normalisation as there.

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`), whose images are decoded in each epoch.
"""


def get_config():
    return {
        "dataset": {
            "name": "imagenet2012",
            "streaming": True,
            "resize": (232, 232),
            "normalize": "fixed",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        },
        "augment": {
            "crop": (176, 176),
            "resized_crop": (0.08, 1.0),
            "flip_horizontal": True,
            "trivialaugment": True,
            "erasing": 0.1,
            "erasing_mean": (123.675, 116.28, 103.53),
            "repeats": 4,
            "mixup": 0.2,
            "cutmix": 1.0,
        },
        "model": {"name": "resnet50_torchvision"},
        "loss": {"label_smoothing": 0.1},
        "optimizer": {
            "learning_rate": 0.5,
            "momentum": 0.9,
            "weight_decay": 2e-5,
            "decayed": "all",
            "groups": (("*bn*", "weight_decay", 0.0),),
        },
        "schedule": {"name": "cosine", "warmup_epochs": 5.0, "warmup_factor": 0.01},
        "train": {"batch_size": 1024, "epochs": 600, "ema": (1 - 2e-5 * 8 * 128 * 32 / 600) ** (1 / 32)},
        "evaluate": {"crop": (224, 224)},
    }
