"""Augmentation with few images: 80 of each of four classes, LeNet-5 with and without random rotation and shift.

python -m experiments.few_images [--scale smoke|small|full]
"""

from experiments.study import Scale, Study, main

CLASSES = ("T-shirt/top", "Pullover", "Coat", "Shirt")
ROTATION, JITTER = {"augment.rotation": 20.0}, {"augment.shift": 5.0}

STUDY = Study(
    name="few_images",
    title="Augmentation with 80 images a class",
    config={
        "dataset": {
            "name": "fashion_mnist",
            "classes": CLASSES,
            "examples_per_class": 80,
            "pad": (32, 32),
        },
        "model": {"name": "lenet5", "activation": "relu", "pooling": "max"},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"name": "cosine"},
        "evaluate": {"checkpoint": "last"},
        "log": {"tensorboard": False},
    },
    axes={
        "as they are": {},
        "rotated by up to 20 degrees": ROTATION,
        "shifted by up to 5 pixels": JITTER,
        "rotated and shifted": {**ROTATION, **JITTER},
        "shifted by up to 1 pixel": {"augment.shift": 1.0},
    },
    scales={
        "smoke": Scale(
            "Fashion-MNIST, 4 classes, 8 a class",
            {
                "dataset.examples_per_class": 8,
                "dataset.test_split": "test[:200]",
                "train.batch_size": 16,
                "train.epochs": 1,
            },
            1,
        ),
        "small": Scale(
            f"Fashion-MNIST, 80 a class of {', '.join(CLASSES)}",
            {"train.batch_size": 32, "train.epochs": 60, "evaluate.every": 60},
            3,
        ),
        "full": Scale(
            f"Fashion-MNIST, 80 a class of {', '.join(CLASSES)}", {"train.batch_size": 32, "train.epochs": 300}, 20
        ),
    },
    published={},
    findings="",
    seed_fields=("seed", "dataset.split_seed"),
)

if __name__ == "__main__":
    main(STUDY)
