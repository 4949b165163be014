"""AlexNet on ImageNet as published (Krizhevsky, Sutskever and Hinton, NIPS 2012, sections 4 and 5).

    cnnjax train --config configs/imagenet_alexnet.py

The shorter side to 256 and the central 256x256; random crops of 227 (the paper says 224, for which its figures do not
come out) and mirror images; colours changed along the principal axes; the mean subtracted, values left at 0 to 255;
batches of 128; the rate divided by 10 when the validation error stops improving, three times; ten crops in the test.
The paper: 40.7 % top-1 and 18.2 % top-5 error for one network on the validation set.

Result: not run here; needs imagenet2012 (by hand; `cnnjax datasets` says how) and 252 GB of disk for the images at 256x256,
or --config.dataset.streaming=True, which decodes them anew each epoch.
"""


def get_config():
    return {
        "dataset": {
            "name": "imagenet2012",
            "resize": (256, 256),
            "scale": "none",
            "normalize": "fixed",
            "mean": (123.68, 116.779, 103.939),  # of ImageNet's training images, as Caffe's models have it
            "std": (1.0, 1.0, 1.0),
        },
        "augment": {"crop": (227, 227), "flip_horizontal": True, "lighting": 0.1},
        "model": {"name": "alexnet"},
        "optimizer": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "plateau", "factor": 0.1, "patience": 5, "falls": 3},
        "train": {"batch_size": 128, "epochs": 90},
        "evaluate": {"views": "ten"},
    }
