"""Networks of `keras.applications` with repeatable weights: what they are made of, and their logits.

    KERAS_BACKEND=jax python -m tests.transfer.keras_networks

writes `keras_layers.json`, for each network its layers with weights in Keras's order, (class, name, shapes), and `keras_logits.npz`.
With Keras 3.15 they are what is stored. Importing this file does not import Keras.
"""

import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CLASSES, SALT = 10, 20261127
# The height and width of the images; of VGG the published ones, for which its dense layers are made.
SIZES = {"VGG16": 224, "ResNet50": 64, "DenseNet121": 64, "Xception": 96}


def weights(layer, shapes):
    """The weights of a layer by its name, in Keras's order: normal numbers, which repeat where there are more than a million."""
    kinds = ["gamma", "beta", "mean", "variance"] if len(shapes) == 4 else [None] * len(shapes)
    return [
        _array(f"{layer}/{number}", kind, shape) for number, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))
    ]


def _array(name, kind, shape):
    generator = np.random.Generator(np.random.PCG64([SALT, zlib.crc32(name.encode())]))
    size = int(np.prod(shape))
    z = np.resize(generator.standard_normal(min(size, 1_000_003)), size).reshape(shape)
    if kind == "variance":
        z = 1 + 0.1 * np.abs(z)
    elif kind == "gamma":
        z = 1 + 0.1 * z
    elif len(shape) == 1:
        z = 0.1 * z
    else:  # of a depthwise kernel (height, width, channel, 1) an output sees one channel
        z = z * np.sqrt(2 / (np.prod(shape[:2]) if shape[-1] == 1 else np.prod(shape[:-1])))
    return z.astype(np.float32)


def images(name):
    """Two images as the network takes them."""
    size = SIZES[name]
    return np.random.Generator(np.random.PCG64([SALT, size])).standard_normal((2, size, size, 3)).astype(np.float32)


def build(name):
    """Keras's network with these weights, without the softmax."""
    import keras

    size = SIZES[name]
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None, name=name)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(weights(layer.name, [tuple(weight.shape) for weight in layer.weights]))
    return model


def layers(model):
    """The layers with weights of a network of Keras's: class, name and shapes."""
    return [
        [type(layer).__name__, layer.name, [list(weight.shape) for weight in layer.weights]]
        for layer in model.layers
        if layer.weights
    ]


def main():
    found, logits = {}, {}
    for name in SIZES:
        import keras

        keras.backend.clear_session()  # names of unnamed layers begin anew
        model = build(name)
        found[name] = layers(model)
        logits[name] = np.asarray(model.predict(images(name), verbose=0), np.float64)
    lines = ",\n".join(
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(layer)}" for layer in network) + "\n ]"
        for name, network in found.items()
    )
    (HERE / "keras_layers.json").write_text(f"{{\n{lines}\n}}\n")
    np.savez(HERE / "keras_logits.npz", **logits)


if __name__ == "__main__":
    main()
