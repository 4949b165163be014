"""A small RetinaNet on scenes composed of the embedded digits: boxes and classes, without a download.

    cnnjax train --config configs/digit_scenes_retinanet.py

2,000 scenes of 128x128 with up to six digits of 24 to 56 pixels, eight passes of Muon; RetinaNet on a narrow ResNet-18 (24 to 192 maps),
three maps (strides 8, 16 and 32) of 48 channels, heads of two convolutions, and anchors from 16 pixels on (1,790,118 parameters).

Result, over the seeds 0, 1 and 2: a test AP of 0.754 (0.743 to 0.765), AP50 of 0.963 (0.960 to 0.967) and AP75 of 0.881 (0.869 to 0.891).
A run took 10.0, 10.0 and 11.6 minutes of processor time (two cores of an AMD EPYC beside other work, 27 November 2026). With AdamW (a
learning rate of 2e-3, a weight decay of 1e-3) and twenty passes of 13 to 14 minutes the means were 0.711 (0.684 to 0.737), 0.906 (0.867 to
0.937) and 0.833 (0.798 to 0.866).
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
        "optimizer": {"name": "muon", "learning_rate": 0.02, "weight_decay": 0.05},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "train": {"batch_size": 8, "epochs": 8},
        "evaluate": {"batch_size": 50},
    }
