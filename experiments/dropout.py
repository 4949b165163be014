"""Dropout in convolutional layers: the seven methods of Park and Kwak, and the ensemble of five networks of each.

python -m experiments.dropout [--scale smoke|laptop|full]
"""

from experiments.study import COMMON, Scale, Study, main

# Method, rate and what the paper reports: mean ± standard deviation of five networks, and their ensemble.
METHODS = {
    "none": ("none", 0.0, "0.604 ± 0.083, 0.57"),
    "dropout 0.2": ("dropout", 0.2, "0.430 ± 0.021, 0.38"),
    "spatial dropout 0.1": ("spatial", 0.1, "0.504 ± 0.049, 0.42"),
    "max-drop of each map 0.2": ("max_map", 0.2, "0.488 ± 0.066, 0.42"),
    "max-drop across channels 0.5": ("max_channels", 0.5, "0.502 ± 0.015, 0.40"),
    "rate drawn from N(0.2, 0.05)": ("stochastic_normal", 0.2, "0.410 ± 0.012, 0.38"),
    "rate drawn from U(0, 0.4)": ("stochastic_uniform", 0.2, "0.448 ± 0.036, 0.42"),
}

STUDY = Study(
    name="dropout",
    title="Dropout in convolutional layers",
    question="Dropout in convolutional layers?",
    answer=(
        "Not with 200 images and 120,290 parameters: of Park and Kwak's six methods none is better than no dropout (70.9 %) in "
        "its mean, -0.4 to -4.2 points, and five seeds leave each undecided; only spatial dropout could still gain a point."
    ),
    exercise=(
        "Repeat with 2,000 images per class, `dataset.examples_per_class`, and a tenth of the epochs. Which of the methods gains there, "
        "and is the gain larger than the seeds' spread?"
    ),
    config={
        **COMMON,
        "model": {"name": "maxdrop_cnn"},
        "optimizer": {"learning_rate": 0.01},
    },
    axes={name: {"model.method": method, "model.rate": rate} for name, (method, rate, _) in METHODS.items()},
    scales={
        "smoke": Scale(
            "digits, 4 per class, 1 to 8 maps",
            {
                "dataset.name": "digits",
                "dataset.examples_per_class": 4,
                "dataset.test_split": "test[:50]",
                "model.features": 1,
                "train.batch_size": 20,
                "train.epochs": 1,
            },
            1,
        ),
        "laptop": Scale(
            "Fashion-MNIST, 20 per class, 8 to 64 maps where the paper has 64 to 512",
            {
                "dataset.name": "fashion_mnist",
                "dataset.pad": (32, 32),
                "dataset.examples_per_class": 20,
                "model.features": 8,
                # Nine ReLU layers with Xavier initialisation halve the variance of the signal nine times, so that this few steps
                # of SGD stay at chance. Adam's steps do not shrink with the gradient.
                "optimizer.name": "adam",
                "optimizer.learning_rate": 5e-4,
                "train.batch_size": 20,
                "train.epochs": 150,
                "evaluate.every": 150,
            },
            5,
        ),
        "full": Scale("MNIST", {"dataset.name": "mnist", "dataset.pad": (32, 32), "train.epochs": 60}, 5),
    },
    smallest=0.01,
    seed_fields=("seed", "dataset.split_seed"),
    published={
        name: f"error {figures} % (MNIST, Park and Kwak, 2016, mean ± sd of 5, their ensemble)"
        for name, (_, _, figures) in METHODS.items()
    },
    findings="""
With 20 images of each class the network without dropout in the convolutions fits 93.4 % of its training images and 70.9 % of the test
images: there is much overfitting to reduce. The six methods reduce it, to 75 to 90 % of the training images, measured with dropped values,
but the test accuracy does not rise: the means are 0.4 points (spatial dropout, -2.2 to +1.4) to 4.2 points lower (max-drop across
channels, -6.6 to -1.7, p 0.057 after Holm's correction). No method is told from none by five seeds, each of which draws other images; a
gain of a point lies outside all intervals but that of spatial dropout. 19 to 67 seeds would tell. Park and Kwak's improvement, from 0.60
to 0.41 % error, is for maps 8 times as many on 60,000 digits; only the scale `full` could show it. The scale was chosen after trials with
one seed: with 100 images of each class and 60 epochs the network fits too little of the training images for dropout to matter.

Averaging the probabilities of five networks gains 4.0 to 6.1 points in every row, far more than any method of dropout changes. Each of the
five was trained on 200 images of its own, so that the ensemble has seen up to 1,000. The ensemble without dropout is first (76.4 %) and
max-drop of each map second (76.1 %). In the paper, too, every ensemble is better than the mean of its networks.
""",
)

if __name__ == "__main__":
    main(STUDY)
