"""A small Faster R-CNN on the same scenes of digits as `digit_scenes_retinanet`: proposals first, then a class and a box of each.

cnnjax train --config configs/digit_scenes_faster_rcnn.py
"""


def get_config():
    return {
        "dataset": {"name": "digit_scenes_128", "labels": "boxes"},
        "task": {"name": "detection"},
        "model": {
            "name": "fasterrcnn",
            "encoder": "resnet18",
            "encoder_options": (("features", 24),),
            "encoder_maps": 3,
            "further_maps": 0,
            "features": 48,
            "hidden": 128,
            "anchor_scale": 3.0,
            "candidates": (200, 100),
            "proposals": (100, 50),
            "samples": 64,
            "proposal_samples": 64,
            "max_detections": 50,
        },
        "optimizer": {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-3},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "train": {"batch_size": 8, "epochs": 12},
        "evaluate": {"batch_size": 50},
    }
