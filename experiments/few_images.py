"""Augmentation with few images: 80 of each of four classes, LeNet-5 with and without random rotation and shift.

python -m experiments.few_images [--scale smoke|small|full]
"""

from experiments.study import COMMON, Scale, Study, main

CLASSES = ("T-shirt/top", "Pullover", "Coat", "Shirt")
ROTATION, JITTER = {"augment.rotation": 20.0}, {"augment.shift": 5.0}

STUDY = Study(
    name="few_images",
    title="Augmentation with 80 images per class",
    question="Does augmentation help with 80 images per class?",
    answer=(
        "Not if it does not occur in the test: rotation and shifts together cost 7.6 points [3.8, 11.3] on "
        "upright clothes."
    ),
    exercise=(
        "Rotate and shift the test images too. By how much does the order of the variants change, and why is that "
        "the fairer question for photographs?"
    ),
    config={
        **COMMON,
        "dataset": {
            "name": "fashion_mnist",
            "classes": CLASSES,
            "examples_per_class": 80,
            "pad": (32, 32),
        },
        "model": {"name": "lenet5", "activation": "relu", "pooling": "max"},
        "optimizer": {"learning_rate": 0.02},
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
            "Fashion-MNIST, 4 classes, 8 per class",
            {
                "dataset.examples_per_class": 8,
                "dataset.test_split": "test[:200]",
                "train.batch_size": 16,
                "train.epochs": 1,
            },
            1,
        ),
        "small": Scale(
            f"Fashion-MNIST, 80 per class of {', '.join(CLASSES)}",
            {"train.batch_size": 32, "train.epochs": 60, "evaluate.every": 60},
            3,
        ),
        "full": Scale(
            f"Fashion-MNIST, 80 per class of {', '.join(CLASSES)}", {"train.batch_size": 32, "train.epochs": 300}, 20
        ),
    },
    published={},
    findings="""
Augmentation that does not occur in the test costs accuracy. These clothes are upright and fill their frames. With rotation by up to
20 degrees and shifts by up to 5 pixels together, the test accuracy is 7.6 points lower than without, interval -11.3 to -3.8; shifts
alone cost 3.4 points, -5.4 to -1.3. For rotation alone (-2.3 points, -5.9 to +1.4) and for shifts by one pixel (+0.9, -0.1 to +1.9)
three seeds do not determine the sign. A seed also draws other training images. The means are therefore uncertain; the differences,
between networks trained on the same images, are less so.

The training accuracy shows why: without augmentation the network memorises its 320 images; with the strongest augmentation it fits
only 72 % of the images it sees in the same 60 epochs. It has more to learn and was not trained longer. Averaging the three seeds,
which also saw different images, gains 2.5 to 4.7 points, more than any augmentation here.
""",
    seed_fields=("seed", "dataset.split_seed"),
)

if __name__ == "__main__":
    main(STUDY)
