"""SSD300 on COCO by torchvision's recipe, which gave its weights COCO_V1.

    cnnjax train --config configs/coco_ssd300_vgg16.py:coco  # a folder with annotations/, train2017/ and val2017/

The recipe of torchvision's `references/detection`: eight GPUs with four images each, a learning rate of 0.002 divided by 10 after 80 and 110 of
120 epochs and warmed up for 1,000 steps, momentum 0.9, a weight decay of 5e-4; VGG-16 with weights of ImageNet for the paper's input
(528 MB, downloaded once), its first two layers frozen. Images are changed as in the paper (Liu et al., ECCV 2016, sections 2.2 and 3.6): photometric
distortion, a canvas of up to 4 times the sides in ImageNet's mean colour, a crop around objects, and reflection. Published result: a box AP
of 25.1 % on val2017. Different here:

- images are resized to 300x300 first and changed then, so that crops have fewer pixels to be made of, their aspect of 1/2 to 2 is that
  after resizing, and the canvas's colour is distorted too;
- the overlap of a crop with an object is chosen from those that were found in 40 draws each, as in the authors' code; torchvision chooses
  again where it finds none;
- there are 80 classes (91 numbers, of which 80 are used); images without objects are trained on, crowds are ignored (torchvision leaves both
  out); a twentieth of train2017 is the validation split, val2017 the test split.

Result: not run here. It needs COCO's 118,287 training images, decoded in each epoch.
"""

MEAN = (123.0, 117.0, 104.0)


def get_config(data="coco"):
    return {
        "dataset": {
            "name": data,
            "streaming": True,
            "resize": (300, 300),
            "resize_mode": "stretch",
            "normalize": "fixed",
            "mean": tuple(value / 255 for value in MEAN),
            "std": (1 / 255,) * 3,
        },
        "task": {"name": "detection", "visible": 0.0},
        "augment": {
            "photometric": 0.5,
            "zoom_out": 4.0,
            "fill": "constant",
            "fill_values": MEAN,
            "iou_crop": (0.3, 1.0),
            "flip_horizontal": True,
        },
        "model": {"name": "ssd300_vgg16"},
        "initial": {"weights": "torchvision:IMAGENET1K_FEATURES", "frozen": ("encoder/conv1_*",)},
        "optimizer": {"learning_rate": 0.002, "momentum": 0.9, "weight_decay": 5e-4, "decayed": "all"},
        "schedule": {"name": "step", "epochs": (80, 110), "factor": 0.1, "warmup_epochs": 0.28, "warmup_factor": 0.001},
        "train": {"batch_size": 32, "epochs": 120},
        "evaluate": {"batch_size": 32},
    }
