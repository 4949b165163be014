"""The network of 1989 on the embedded digits (LeCun et al., "Backpropagation applied to handwritten zip code recognition", 1989).

    cnnjax train --config configs/digits_lecun1989.py

Images of 16x16 with values of -1 to 1, targets of 1 and -1, the mean squared error, weights drawn between -2.4 / F and 2.4 / F, an update
for each image, 23 passes: as in the paper. Different here: the digits are scikit-learn's (1,442 for training and validation), and the
optimiser is plain gradient descent instead of a Newton method with a diagonal approximation of the Hessian.

Result: a test accuracy of 0.983 (one run of two minutes on two cores of an AMD EPYC beside other work, 27 November 2026); the paper's was 0.950
on its zip codes.
"""


def get_config():
    return {
        "dataset": {"name": "digits", "resize": (16, 16), "scale": "signed", "normalize": "none"},
        "model": {"name": "lecun1989"},
        "loss": {"name": "mean_squared_error", "signed": True},
        "optimizer": {"learning_rate": 0.03, "momentum": 0.0},
        "train": {"batch_size": 1, "epochs": 23},
    }
