"""FCOS on COCO by torchvision's recipe, which gave its weights COCO_V1.

    cnnjax train --config configs/coco_fcos_resnet50_fpn.py:coco  # a folder with annotations/, train2017/ and val2017/

The recipe of torchvision's `references/detection`: eight GPUs with two images each, a learning rate of 0.01 divided by 10 after 16 and 22 of
26 epochs and warmed up for 1,000 steps, momentum 0.9, a weight decay of 1e-4; ResNet-50 with ImageNet's weights (98 MB, downloaded once),
its batch normalisation frozen, and its first stages too; images are mirrored at random; mixed precision, here bfloat16. Published result: a
box AP of 39.2 % on val2017. Different here: all images are fitted into 1067x1067 pixels and padded with zeros, so that those of 640x480 have
torchvision's 1067x800 whichever way they lie (torchvision scales the shorter side to 800, the longer to 1333 at most); there are 80 classes
(91 numbers, of which 80 are used); images without objects are trained on, crowds are ignored (torchvision leaves both out); a twentieth of
train2017 is the validation split, val2017 the test split.

Result: not run here. It needs COCO's 118,287 training images, decoded in each epoch.
"""


def get_config(data="coco"):
    return {
        "dataset": {
            "name": data,
            "streaming": True,
            "resize": (1067, 1067),
            "resize_mode": "fit",
            "normalize": "fixed",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        },
        "task": {"name": "detection"},
        "augment": {"flip_horizontal": True},
        "model": {"name": "fcos_resnet50_fpn"},
        "initial": {"weights": "torchvision:IMAGENET1K_V1", "frozen": ("encoder/conv1", "encoder/conv2_*")},
        "optimizer": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "decayed": "all"},
        "schedule": {"name": "step", "epochs": (16, 22), "factor": 0.1, "warmup_epochs": 0.14, "warmup_factor": 0.001},
        "train": {"batch_size": 16, "epochs": 26, "precision": "bfloat16"},
        "evaluate": {"batch_size": 16},
    }
