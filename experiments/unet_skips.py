"""U-Net with and without the maps that its contracting path hands to the expanding one.

python -m experiments.unet_skips [--scale smoke|small|full]
"""

from collections.abc import Iterable

from experiments.scenes import CONFIG, scales, sharpness
from experiments.study import Part, Results, Study, main


def parts(results: Results) -> Iterable[Part]:
    """The IoU near edges, with pictures."""
    yield sharpness(results, {"without": "with skips"})


STUDY = Study(
    name="unet_skips",
    title="U-Net with and without skips",
    question="What do U-Net's skips do?",
    answer="Not run yet.",
    exercise="Give only the smallest map to the expanding path, then only the largest. Which of the two is the edges' doing?",
    config={
        **CONFIG,
        "model": {"name": "unet_same", "features": 6, "depth": 3, "batch_norm": True, "dropout_rate": 0.0},
    },
    axes={
        "with skips": {},
        "without": {"model.skips": False},
    },
    scales=scales(32, 15, 8, {"model.features": 2, "model.depth": 1}),
    published={},
    findings="",
    parts=parts,
)

if __name__ == "__main__":
    main(STUDY)
