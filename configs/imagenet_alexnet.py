"""AlexNet on ImageNet as published (Krizhevsky, Sutskever and Hinton, NIPS 2012, sections 4 and 5).

    cnnjax train --config configs/imagenet_alexnet.py

The shorter side is resized to 256, and the central 256x256 pixels are used. Training uses random crops of 227 (the paper says 224, which
is not consistent with its layer sizes), mirror images and colour changes along the principal axes. The mean is subtracted, and values
keep their range of 0 to 255. The batch size is 128. The learning rate is divided by 10 three times, when the validation error stops
improving. The test uses ten crops. Published result: 40.7 % top-1 and 18.2 % top-5 error for one network on the validation set.

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`) and 252 GB of disk for the images at 256x256,
or --config.dataset.streaming=True, which decodes the images in each epoch.
"""


def get_config():
    return {
        "dataset": {
            "name": "imagenet2012",
            "resize": (256, 256),
            "scale": "none",
            "normalize": "fixed",
            "mean": (123.68, 116.779, 103.939),  # the mean of ImageNet's training images, as in Caffe's models
            "std": (1.0, 1.0, 1.0),
        },
        "augment": {"crop": (227, 227), "flip_horizontal": True, "lighting": 0.1},
        "model": {"name": "alexnet"},
        "optimizer": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "plateau", "factor": 0.1, "patience": 5, "falls": 3},
        "train": {"batch_size": 128, "epochs": 90},
        "evaluate": {"views": "ten"},
    }
