"""GoogLeNet on ImageNet after its paper (Szegedy et al., CVPR 2015, section 6).

    cnnjax train --config configs/imagenet_googlenet.py

Training uses crops of 8 to 100 % of the image's area with aspect ratios of 3/4 to 4/3, and photometric distortions. The momentum is 0.9,
and the learning rate falls by 4 % every 8 epochs. Averaged weights are used at the end (Polyak). The weight of the auxiliary losses is
0.3. The paper does not give the batch size, the initial rate and the weight decay; those here are BVLC Caffe's. Crops are cut from the
central 256x256 pixels. Published result: 10.07 % top-5 error with one network and one crop.

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`) and 252 GB of disk for the images at 256x256,
or --config.dataset.streaming=True, which decodes the images in each epoch.
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
