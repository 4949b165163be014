"""Stacks of 3x3 convolutions against single large kernels with the same receptive field.

python -m experiments.kernel_sizes [--scale smoke|laptop|full]
"""

from experiments.study import COMMON, SMOKE_CLOTHES, Scale, Study, main

STUDY = Study(
    name="kernel_sizes",
    title="Stacks of 3x3 convolutions against large kernels",
    question="Two or three convolutions of 3x3, or one of 5x5 or 7x7?",
    answer="Not run yet.",
    exercise=(
        "Count the weights of three 3x3 convolutions and of one 7x7 with C maps each. Then give the single 7x7 as many "
        "maps as that allows, and run it."
    ),
    config={
        **COMMON,
        "dataset": {"name": "fashion_mnist"},
        "model": {"name": "pattern", "plan": "conv 8 pool | conv 16 pool | fc 32"},
        "optimizer": {"learning_rate": 0.02},
    },
    axes={
        "two of 3x3": {"model.plan": "conv 8 8 pool | conv 16 16 pool | fc 32"},
        "one of 5x5": {"model.kernel_size": 5},
        "three of 3x3": {"model.plan": "conv 8 8 8 pool | conv 16 16 16 pool | fc 32"},
        "one of 7x7": {"model.kernel_size": 7},
        "one of 3x3": {},
    },
    scales={
        "smoke": SMOKE_CLOTHES,
        "laptop": Scale("Fashion-MNIST", {"train.epochs": 4, "evaluate.every": 4}, 5),
        "full": Scale("Fashion-MNIST", {"train.epochs": 20, "evaluate.every": 20}, 5),
    },
    smallest=0.003,
    published={
        "one of 5x5": "top-1 error 7 % higher than two 3x3 on ImageNet (Simonyan and Zisserman, 2015, section 4.1)"
    },
    findings="",
)

if __name__ == "__main__":
    main(STUDY)
