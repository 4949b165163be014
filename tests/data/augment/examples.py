"""What the tests of augmentation share: images, keys, and every augmentation with some strength."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions

generator = np.random.RandomState(0)
IMAGE = generator.randint(0, 256, (12, 12, 3)).astype(np.float32)
SMOOTH = np.asarray(Image.fromarray(IMAGE.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC), np.float32)
BATCH = generator.randint(0, 256, (8, 12, 12, 3)).astype(np.float32)
KEYS = augment.example_keys(0, jnp.array(0), jnp.arange(8))

EVERYTHING = {
    "pad": 2, "crop": (12, 12), "rotation": 20.0, "shift": 2.0, "stretch": 0.1, "shear": 5.0, "elastic": 2.0,
    "resized_crop": (0.5, 1.0), "zoom_out": 2.0, "flip_horizontal": True, "flip_vertical": True, "randaugment": (2, 9.0),
    "trivialaugment": True, "randaugment_increasing": (2, 7.0, 0.5), "photometric": 0.5,
    "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "greyscale": 0.1, "lighting": 0.1,
    "noise": 0.02, "cutout": 4, "erasing": 0.25,
}  # fmt: skip
ALONE = [{name: value} for name, value in EVERYTHING.items() if name not in ("pad", "crop")] + [
    {"pad": 2}, {"crop": (8, 9)},
]  # fmt: skip


@functools.cache
def compiled(options, dtype):
    return jax.jit(lambda images, keys: augment.augment(images, keys, options, dtype=dtype))


def apply(images=BATCH, keys=KEYS, dtype="uint8", **options):
    """The images, augmented by one program for each choice of options and sizes."""
    return np.asarray(compiled(AugmentOptions(**options), dtype)(images, keys))


def draws(monkeypatch, run):
    """What `run` draws: the function, its key and its result, as often as it is drawn."""
    found = []
    with monkeypatch.context() as patch:
        for name in ("uniform", "normal", "bernoulli", "randint", "beta"):
            draw = getattr(jax.random, name)

            def recorded(key, *arguments, draw=draw, name=name, **options):
                result = draw(key, *arguments, **options)
                found.append((name, jax.random.key_data(key).tobytes(), np.asarray(result).tobytes()))
                return result

            patch.setattr(jax.random, name, recorded)
        with jax.disable_jit():
            run()
    return found
