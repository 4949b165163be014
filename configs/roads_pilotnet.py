"""PilotNet on drawn roads: the curvature that a car should steer (Bojarski et al., arXiv:1604.07316, 2016).

    cnnjax train --config configs/roads_pilotnet.py

The network and the size and colour space of the images (YUV, here YCbCr) are the paper's; the roads are drawn (`cnnjax/data/roads.py`),
and the optimiser is a usual one, since the paper names none.

Result: a test MAE of 0.117 and R2 of 0.987, of labels with a standard deviation of 1.4 in units of 1/(100 m) (one run on two cores of an AMD EPYC
beside other work, 27 November 2026).
"""


def get_config():
    return {
        "dataset": {"name": "roads", "color_space": "ycbcr"},
        "task": {"name": "regression"},
        "model": {"name": "pilotnet"},
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "train": {"batch_size": 32, "epochs": 12},
    }
