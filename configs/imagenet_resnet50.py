"""ResNet-50 on ImageNet after its paper (He, Zhang, Ren and Sun, CVPR 2016, section 3.4).

    cnnjax train --config configs/imagenet_resnet50.py

The batch size is 256, the momentum 0.9 and the weight decay 1e-4. The learning rate of 0.1 is divided by 10 when the error stops
improving, for up to 600,000 steps. Training uses mirror images and colour changes, the test ten crops. The paper resizes the shorter
side to 256..480 before the crop of 224; here a crop of 22 to 77 % of the area is resized, which shows the same share of the image.
Published result with ten crops: 22.85 % top-1 and 6.71 % top-5 error (table 3).

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`) and 252 GB of disk for the images at 256x256,
or --config.dataset.streaming=True, which decodes the images in each epoch.
"""


def get_config():
    return {
        "dataset": {"name": "imagenet2012", "resize": (256, 256)},
        "augment": {"crop": (224, 224), "resized_crop": (0.22, 0.77), "flip_horizontal": True, "lighting": 0.1},
        "model": {"name": "resnet50"},
        "optimizer": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"name": "plateau", "factor": 0.1, "patience": 5, "falls": 3},
        "train": {"batch_size": 256, "epochs": 120},
        "evaluate": {"views": "ten"},
    }
