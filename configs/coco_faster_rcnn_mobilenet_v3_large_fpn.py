"""Faster R-CNN on MobileNetV3-Large with a feature pyramid on COCO by torchvision's recipe, which gave its weights COCO_V1.

    cnnjax train --config configs/coco_faster_rcnn_mobilenet_v3_large_fpn.py:coco  # a folder with annotations/, train2017/ and val2017/

The recipe of `coco_faster_rcnn_resnet50_fpn`, and what differs from torchvision there, with the encoder's layers up to a stride of 8 frozen.
Published result: a box AP of 32.8 % on val2017.

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
        "model": {"name": "fasterrcnn_mobilenet_v3_large_fpn"},
        "initial": {
            "weights": "torchvision:IMAGENET1K_V1",
            "frozen": ("encoder/stem", "encoder/block[1-6]"),
        },
        "optimizer": {"learning_rate": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "decayed": "all"},
        "schedule": {"name": "step", "epochs": (16, 22), "factor": 0.1, "warmup_epochs": 0.14, "warmup_factor": 0.001},
        "train": {"batch_size": 16, "epochs": 26},
        "evaluate": {"batch_size": 16},
    }
