"""A small detector, named by tests as "tests.tasks.detector:Detector"."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnjax.detection import Detections
from cnnjax.detection.boxes import area, clip
from cnnjax.detection.losses import sigmoid_focal_loss, smooth_l1
from cnnjax.detection.suppression import best_detections

STRIDE = 4


class Detector(nn.Module):
    """Four convolutions to a map of every fourth pixel, which says for each place the class and how far the sides of its box are.

    A place is an object's if its middle is in the middle half of the box, of several objects the smallest one's.
    """

    num_classes: int = 2
    features: int = 16
    count: int = 10

    @nn.compact
    def __call__(self, x, train=False):
        for stride in (2, 2, 1):
            x = nn.relu(nn.Conv(self.features, (5, 5), (stride, stride))(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        logits = nn.Conv(self.num_classes, (3, 3), bias_init=nn.initializers.constant(-2.0))(x)
        sides = nn.softplus(nn.Conv(4, (3, 3))(x)) * 2 * STRIDE
        return logits.reshape(x.shape[0], -1, self.num_classes), sides.reshape(x.shape[0], -1, 4)

    def middles(self, image):
        y, x = jnp.meshgrid(*(jnp.arange(-(-side // STRIDE)) * STRIDE + STRIDE / 2 for side in image), indexing="ij")
        return jnp.stack([x.ravel(), y.ravel()], -1)

    def losses(self, images, objects, train=False):
        logits, sides = self(images, train)
        middles = self.middles(images.shape[1:3])[None, :, None]  # (1, place, 1, 2)
        boxes = objects.boxes[:, None]
        near, far = middles - boxes[..., :2], boxes[..., 2:] - middles
        size = boxes[..., 2:] - boxes[..., :2]
        inside = ((jnp.minimum(near, far) >= size / 4).all(-1)) & objects.wanted[:, None]
        chosen = jnp.where(inside, area(objects.boxes)[:, None], jnp.inf).argmin(-1)
        found = inside.any(-1)
        of = lambda values: jax.vmap(lambda own, place: own[place])(values, chosen)  # noqa: E731
        targets = jax.nn.one_hot(of(objects.classes), self.num_classes) * found[..., None]
        count = jnp.maximum(found.sum(1), 1)
        own = of(objects.boxes)
        wanted = jnp.concatenate([middles[..., 0, :] - own[..., :2], own[..., 2:] - middles[..., 0, :]], -1)
        distance = smooth_l1((sides - wanted) / STRIDE, 1.0).sum(-1)
        return {
            "classification": sigmoid_focal_loss(logits, targets).sum((1, 2)) / count,
            "regression": jnp.where(found, distance, 0).sum(1) / count,
        }

    def detections(self, images) -> Detections:
        logits, sides = self(images)
        scores, best = jax.lax.top_k(jax.nn.sigmoid(logits).reshape(images.shape[0], -1), 60)
        places, classes = best // self.num_classes, best % self.num_classes
        middles = self.middles(images.shape[1:3])[places]
        own = jax.vmap(lambda values, place: values[place])(sides, places)
        boxes = clip(jnp.concatenate([middles - own[..., :2], middles + own[..., 2:]], -1), images.shape[1:3])
        return best_detections(boxes, scores, classes, scores > 0.05, 0.5, self.count)


class Brightest(nn.Module):
    """Finds one object: the smallest box around all that is brighter than half of the brightest pixel. There is nothing to learn."""

    num_classes: int = 1

    @nn.compact
    def __call__(self, x, train=False):
        return self.param("nothing", nn.initializers.ones, (1,)) * x.mean((1, 2, 3))[:, None]

    def losses(self, images, objects, train=False):
        return {"brightness": self(images, train)[:, 0]}

    def detections(self, images) -> Detections:
        bright = images.max(-1) > images.max((1, 2, 3))[:, None, None] / 2
        ends = [
            (along.argmax(1), along.shape[1] - along[:, ::-1].argmax(1)) for along in (bright.any(1), bright.any(2))
        ]
        box = jnp.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], -1).astype(jnp.float32)
        one = jnp.ones((images.shape[0], 1))
        return Detections(box[:, None], one, jnp.zeros(one.shape, jnp.int32), one > 0)
