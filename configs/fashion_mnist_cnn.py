"""The tutorials' small convolutional network on Fashion-MNIST.

    cnnjax train --config configs/fashion_mnist_cnn.py

Result: test accuracy 0.9272 (the checkpoint of epoch 11) in 16 minutes, beside other work, on 2 cores of an Intel Xeon. It was
measured with an earlier version, in which the same seed drew other initial weights. Others report 0.916 to 0.939 for networks with two
convolutions (github.com/zalandoresearch/fashion-mnist, "Benchmark").
"""


def get_config():
    return {
        "dataset": {"name": "fashion_mnist"},
        "model": {"name": "cnn_small"},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "train": {"batch_size": 128, "epochs": 12},
    }
