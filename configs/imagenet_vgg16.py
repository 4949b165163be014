"""VGG16 on ImageNet as published (Simonyan and Zisserman, ICLR 2015, section 3), at one scale, S = 256.

    cnnjax train --config configs/imagenet_vgg16.py

Training uses random crops of 224 from images whose shorter side is 256, mirror images and colour changes. The batch size is 256 and the
dropout rate 0.5. The learning rate is divided by 10 three times in 74 epochs, when the validation accuracy stops improving. Layers start
from He's initialisation, whereas the paper initialised deep networks with the layers of a shallower one. Published result for one scale,
S = 256: 27.0 % top-1 and 8.8 % top-5 error (table 3, D).

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`) and 252 GB of disk for the images at 256x256,
or --config.dataset.streaming=True, which decodes the images in each epoch.
"""


def get_config():
    return {
        "dataset": {"name": "imagenet2012", "resize": (256, 256)},
        "augment": {"crop": (224, 224), "flip_horizontal": True, "lighting": 0.1},
        "model": {"name": "vgg16"},
        "optimizer": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "plateau", "factor": 0.1, "patience": 5, "falls": 3},
        "train": {"batch_size": 256, "epochs": 74},
        "evaluate": {"views": "ten"},
    }
