"""EfficientNetV2: fused convolutions in the early stages of `efficientnet`, narrower blocks, found by a search for training speed.

Tan and Le, "EfficientNetV2: Smaller models and faster training", ICML 2021, table 4 (S), and M and L of the authors' code, in
torchvision's version.
"""

from functools import partial

from cnnjax.models.efficientnet import EfficientNet, Row, torchvision_module
from cnnjax.models.published import HALF, V1, Published, Torchvision, Weights

SMALL = (
    Row("FusedMBConv", 1, 3, 1, 24, 2),
    Row("FusedMBConv", 4, 3, 2, 48, 4),
    Row("FusedMBConv", 4, 3, 2, 64, 4),
    Row("MBConv", 4, 3, 2, 128, 6),
    Row("MBConv", 6, 3, 1, 160, 9),
    Row("MBConv", 6, 3, 2, 256, 15),
)
MEDIUM = (
    Row("FusedMBConv", 1, 3, 1, 24, 3),
    Row("FusedMBConv", 4, 3, 2, 48, 5),
    Row("FusedMBConv", 4, 3, 2, 80, 5),
    Row("MBConv", 4, 3, 2, 160, 7),
    Row("MBConv", 6, 3, 1, 176, 14),
    Row("MBConv", 6, 3, 2, 304, 18),
    Row("MBConv", 6, 3, 1, 512, 5),
)
LARGE = (
    Row("FusedMBConv", 1, 3, 1, 32, 4),
    Row("FusedMBConv", 4, 3, 2, 64, 7),
    Row("FusedMBConv", 4, 3, 2, 96, 7),
    Row("MBConv", 4, 3, 2, 192, 10),
    Row("MBConv", 6, 3, 1, 224, 19),
    Row("MBConv", 6, 3, 2, 384, 25),
    Row("MBConv", 6, 3, 1, 640, 7),
)
# torchvision 0.29.1, `models/efficientnet.py`; Keras at commit 0c07bd6, `applications/efficientnet_v2.py`.
DIFFERENCES = {
    "torchvision": "The same networks, with the same initial distributions. The weights of L are used with bicubic interpolation there, and "
    "take images normalised by means and deviations of 0.5.",
    "Keras": "`EfficientNetV2S`, `EfficientNetV2M` and `EfficientNetV2L` have the same layers, epsilon and momentum, and scale the images to "
    "-1..1 themselves. Strided convolutions are padded as TensorFlow does: one zero fewer at the top and at the left of maps of even size. "
    "Convolutions start truncated normal. `EfficientNetV2B0` to `EfficientNetV2B3` are not in torchvision.",
}
# Rows, dropout rate, torchvision's size of images, its multiply-adds and accuracy; parameters and multiply-adds as counted.
_ROWS = {
    "efficientnet_v2_s": (SMALL, 0.2, 384, 8_366_000_000, "84.228", (21_458_488, 8_365_617_152)),
    "efficientnet_v2_m": (MEDIUM, 0.3, 480, 24_582_000_000, "85.112", (54_139_356, 24_582_460_384)),
    "efficientnet_v2_l": (LARGE, 0.4, 480, 56_080_000_000, "85.808", (118_515_272, 56_079_699_008)),
}
PUBLISHED = {
    name: Published(
        partial(EfficientNet, rows=rows, stem=rows[0].features, last=1280, dropout_rate=dropout, epsilon=1e-3),
        (size, size, 3),
        1000,
        "Tan and Le, ICML 2021, and torchvision",
        parameters=counts[0],
        macs=macs,
        result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision)",
        counts=counts,
        torchvision=Torchvision(name, partial(torchvision_module, rows), ("fc",)),
    )
    for name, (rows, dropout, size, macs, accuracy, counts) in _ROWS.items()
}
TORCHVISION_WEIGHTS = (
    Weights("efficientnet_v2_s", V1, "efficientnet_v2_s-dd5fe13b.pth", 83, 84.228, 96.878, 384, 384),
    Weights("efficientnet_v2_m", V1, "efficientnet_v2_m-dc08266a.pth", 208, 85.112, 97.156, 480, 480),
    Weights("efficientnet_v2_l", V1, "efficientnet_v2_l-59c71312.pth", 455, 85.808, 97.788, 480, 480, HALF, HALF),
)
