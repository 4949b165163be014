"""GoogLeNet on ImageNet after its paper (Szegedy et al., CVPR 2015, section 6).

    cnnjax train --config configs/imagenet_googlenet.py

Crops of 8 to 100 % of the image's area, aspect 3/4 to 4/3, photometric distortions; momentum 0.9, the rate 4 % lower
every 8 epochs; averaged weights at the end (Polyak); the auxiliary losses weigh 0.3. The paper gives neither batch size, first rate nor weight decay:
those here are BVLC Caffe's. Crops are cut from the central 256x256. The paper: 10.07 % top-5 error with one
network and one crop.

Result: not run here; needs imagenet2012 (by hand; `cnnjax datasets` says how) and 252 GB of disk for the images at 256x256,
or --config.dataset.streaming=True, which decodes them anew each epoch.
"""


def get_config():
    return {
        "dataset": {"name": "imagenet2012", "resize": (256, 256)},
        "augment": {
            "crop": (224, 224),
            "resized_crop": (0.08, 1.0),
            "flip_horizontal": True,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
        },
        "model": {"name": "googlenet"},
        "optimizer": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 2e-4},
        "schedule": {"name": "exponential", "factor": 0.96, "every": 8.0, "staircase": True},
        "train": {"batch_size": 32, "epochs": 250, "ema": 0.9999},
    }
