"""FCN-32s, FCN-16s and FCN-8s: whether the scores of earlier maps sharpen the edges.

python -m experiments.fcn_strides [--scale smoke|small|full]

The networks are narrow: VGG-16's five stages with two convolutions each of 8 to 64 maps, batch norm, and padded convolutions in place
of 100 zeros around the image, for scenes whose sides are multiples of 32. Scores and their enlargement are as in `fcn32s`,
`fcn16s` and `fcn8s`, whose 134 million parameters are too many to train on two cores.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import positive
from experiments.scenes import CONFIG, scales, sharpness
from experiments.study import Part, Results, Study, main


class NarrowFCN(nn.Module):
    """[[conv 3x3 - batch norm - ReLU]*2 - max-pool 2]*5 - conv 3x3 - scores, enlarged and added to those of earlier maps."""

    num_classes: int
    stride: Annotated[Literal[32, 16, 8], "pixels between the scores that are enlarged to the images"] = 32
    features: Annotated[int, "maps of the first stage", positive] = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch height width class"]:
        def block(x: Array, features: int, name: str) -> Array:
            he = layers.initializer("he_normal")
            x = layers.Conv(
                features, 3, padding=1, use_bias=False, kernel_init=he, dtype=self.dtype, name=f"conv{name}"
            )(x)
            return layers.activation("relu")(layers.BatchNorm(name=f"bn{name}")(x, train))

        def score(x: Array, name: str) -> Array:
            zeros = layers.initializer("zeros")
            return layers.Conv(self.num_classes, 1, kernel_init=zeros, dtype=self.dtype, name=f"score_{name}")(x)

        def enlarge(x: Array, factor: int, name: str) -> Array:
            settings = {"use_bias": False, "kernel_init": layers.initializers.bilinear, "dtype": self.dtype}
            return layers.ConvTranspose(
                self.num_classes, 2 * factor, factor, factor // 2, **settings, name=f"enlarge_{name}"
            )(x)

        maps = []
        for stage, factor in enumerate((1, 2, 4, 8, 8), start=1):
            x = block(block(x, factor * self.features, f"{stage}_1"), factor * self.features, f"{stage}_2")
            x = layers.max_pool(x, 2, name=f"pool{stage}")
            maps.append(x)
        x = score(block(x, 16 * self.features, "6"), "last")
        for number in {32: (), 16: (4,), 8: (4, 3)}[self.stride]:
            x = enlarge(x, 2, f"pool{number}") + score(maps[number - 1], f"pool{number}")
        return enlarge(x, self.stride, "images")


def parts(results: Results) -> Iterable[Part]:
    """The IoU near edges, with pictures."""
    first, second, third = results.table.variants
    yield sharpness(results, {second: first, third: second})


STUDY = Study(
    name="fcn_strides",
    title="FCN-32s, 16s and 8s",
    question="Does a skip sharpen, as in FCN-32s, 16s and 8s?",
    answer=(
        "With scores of 2x2 for a scene (stride 32) the mean IoU is 8.5 %, hardly above that of background everywhere (7.3 %). The scores "
        "of an earlier map (pool4, stride 16) add 16.0 points [12.0, 20.1], and 10.3 [7.9, 12.7] within a pixel of an edge; those of pool3 "
        "(stride 8) add 10.5, with an interval that contains zero."
    ),
    exercise=(
        "Add `score_pool2` and `score_pool1` (strides of 4 and 2). Where does the gain end, and which pixels do the last ones change?"
    ),
    config={**CONFIG, "model": {"name": "experiments.fcn_strides:NarrowFCN"}},
    axes={
        "stride 32": {},
        "stride 16, with pool4": {"model.stride": 16},
        "stride 8, with pool4 and pool3": {"model.stride": 8},
    },
    scales=scales(64, 30, 8, {"model.features": 2}),
    # Shelhamer et al., PAMI 2017, table 3, on VOC 2011's validation images that no training had
    published={
        "stride 32": "63.6 % (FCN-32s, VOC 2011, Shelhamer et al., 2017)",
        "stride 16, with pool4": "65.0 % (FCN-16s)",
        "stride 8, with pool4 and pool3": "65.5 % (FCN-8s)",
    },
    findings="""
At a stride of 32 the last map of a scene of 64x64 pixels is 2x2, for up to six digits of 22 to 34 pixels. The network hardly finds them: its
mean IoU of 8.5 % is little more than the 7.3 % of predicting background everywhere, which is right for 80.2 % of the test pixels. The scores
of pool4 (4x4) raise the mean IoU by 16.0 points (12.0 to 20.1), those of pool3 (8x8) by another 10.5; with three seeds the interval of the
latter, -2.2 to +23.3, contains zero, and so do the intervals near and far from edges. On photographs of 500 pixels, most of whose objects are
larger than 32, the same skips gained 1.4 and 0.5 points (Shelhamer et al., 2017).

The edges gain: within a pixel of an edge pool4's scores add 10.3 points (7.9 to 12.7). But farther than four pixels from any edge they add
23.4 (16.5 to 30.2): at these sizes a skip says what an item is, not only where it ends. The networks are narrow and were trained from random
weights: they have at most 718,707 parameters, of which 495,616 enlarge the scores at a stride of 32. They saw each scene eight times, and
their training IoU (9, 28 and 39 %) was still rising. Whether longer training changes the order was not tried.
""",
    parts=parts,
)

if __name__ == "__main__":
    main(STUDY)
