"""A small RetinaNet on scenes composed of the embedded digits: boxes and classes, without a download.

    cnnjax train --config configs/digit_scenes_retinanet.py

2,000 scenes of 128x128 with up to six digits of 24 to 56 pixels, twenty passes; RetinaNet on a narrow ResNet-18 (24 to 192 maps), three
maps (strides 8, 16 and 32) of 48 channels, heads of two convolutions, and anchors from 16 pixels on (1,790,118 parameters).

Result, over the seeds 0, 1 and 2: a test AP of 0.711 (0.684 to 0.737), AP50 of 0.906 (0.867 to 0.937) and AP75 of 0.833 (0.798 to 0.866).
The runs of seeds 1 and 2 took 14.3 and 13.2 minutes of one core's time (two cores of an AMD EPYC shared with other work, 27 November 2026).
After twelve passes another run had 0.664, 0.866 and 0.787.
"""


def get_config():
    return {
        "dataset": {"name": "digit_scenes_128", "labels": "boxes"},
        "task": {"name": "detection"},
        "model": {
            "name": "retinanet",
            "encoder": "resnet18",
            "encoder_options": (("features", 24),),
            "features": 48,
            "further_maps": 0,
            "head_depth": 2,
            "anchor_scale": 2.0,
            "candidates": 200,
            "max_detections": 50,
        },
        "optimizer": {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-3},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "train": {"batch_size": 8, "epochs": 20},
        "evaluate": {"batch_size": 50},
    }
