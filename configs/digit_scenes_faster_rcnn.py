"""A small Faster R-CNN on the same scenes of digits as `digit_scenes_retinanet`: proposals first, then a class and a box for each.

    cnnjax train --config configs/digit_scenes_faster_rcnn.py

Twelve passes over 2,000 scenes; Faster R-CNN on a narrow ResNet-18 (24 to 192 maps), three maps (strides 8, 16 and 32) of 48 channels,
anchors from 24 pixels on, 100 proposals per image, of which 64 enter the losses, and dense layers of 128 units (1,998,734 parameters).

Result, over the seeds 0, 1 and 2: a test AP of 0.773 (0.769 to 0.778), AP50 of 0.954 (0.949 to 0.960) and AP75 of 0.903 (0.899 to 0.910). A run
takes 8.6 to 8.9 minutes of one core's time, 15 to 26 minutes on two cores of an AMD EPYC shared with much other work (27 November 2026).
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
