"""ConvNeXt-T on ImageNet by its paper's recipe (Liu et al., "A ConvNet for the 2020s", CVPR 2022, table 5, and the authors' code).

    cnnjax train --config configs/imagenet_convnext_tiny.py

300 epochs in batches of 4096 with AdamW (learning rate 4e-3, weight decay 0.05 of kernels), 20 epochs of warm-up and a cosine down to
1e-6, label smoothing 0.1, mixup 0.8 or cutmix 1.0, timm's rand-m9-mstd0.5-inc1, random erasing 0.25 with normal noise, stochastic depth
0.1 (0.4 for S, 0.5 for B and L), layer scale 1e-6, and an average of the weights of decay 0.9999. The test resizes the shorter side to 256
and takes the central 224. Published result: 82.1 % top-1 accuracy.

Different here: images are interpolated bilinearly (there bicubically, or at random either way in RandAugment), and the average forgets
its first weights faster (see `train.ema`). With less memory, --config.optimizer.accumulate=32 --config.train.batch_size=128 gives
updates of 4096 examples.

Result: not run here. It needs imagenet2012 (downloaded by hand, see `cnnjax datasets`), whose images are decoded in each epoch.
"""


def get_config():
    return {
        "dataset": {
            "name": "imagenet2012",
            "streaming": True,
            "resize": (256, 256),
            "normalize": "fixed",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        },
        "augment": {
            "crop": (224, 224),
            "resized_crop": (0.08, 1.0),
            "flip_horizontal": True,
            "randaugment_increasing": (2, 9.0, 0.5),
            "erasing": 0.25,
            "erasing_mean": (123.675, 116.28, 103.53),
            "erasing_std": (58.395, 57.12, 57.375),
            "mixup": 0.8,
            "cutmix": 1.0,
        },
        "model": {"name": "convnext_tiny", "stochastic_depth_rate": 0.1},
        "loss": {"label_smoothing": 0.1},
        "optimizer": {"name": "adamw", "learning_rate": 4e-3, "weight_decay": 0.05},
        "schedule": {"name": "cosine", "warmup_epochs": 20.0, "end_factor": 2.5e-4},
        "train": {"batch_size": 4096, "epochs": 300, "ema": 0.9999},
    }
