"""Drawn roads with the curvature to steer: `roads`, a regression data set that needs no download.

A picture is the view of a camera 1.3 m above a road of two lanes, which bends with a constant curvature; the car is in the right lane, to
one side of its middle and turned by a small angle. The label is the curvature of the arc that leads to the middle of the lane 15 m ahead
("pure pursuit"; Coulter, "Implementation of the pure pursuit path tracking algorithm", 1992), in units of 1/(100 m), positive to the right:

    c(z) = offset + angle z + curvature z^2 / 2        the middle of the lane, z ahead of the car
    label = 100 * 2 c(15) / (15^2 + c(15)^2)

Colours, light, shadows, the phase of the dashes, the horizon and grain differ. Road n of a split is a function of the split and n.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.data import sources

NAME, VERSION = "roads", "1.0.0"
EXAMPLES: Mapping[str, int] = {"train": 2400, "validation": 300, "test": 300}
# The size of PilotNet's images (Bojarski et al., 2016), and the factor by which a picture is drawn larger and then reduced.
HEIGHT, WIDTH, OVERSAMPLING = 66, 200, 2
# Metres: the camera's height, a lane's width, a line's width, a dash and its period, the distance at which the car aims.
CAMERA, LANE, LINE, DASH, PERIOD, AHEAD = 1.3, 3.5, 0.18, 3.0, 9.0, 15.0
# The focal length as a share of the picture's width.
FOCAL = 0.6


def road_source() -> sources.Source:
    """The source of drawn roads."""

    def record(split: str, position: int) -> tuple[np.ndarray, np.ndarray, str]:
        image, steering = draw_road(split, position)
        return image, np.array([steering], np.float32), f"{NAME} {split}[{position}]"

    def read(split: str) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        return (record(split, position) for position in range(EXAMPLES[split]))

    def opened(split: str) -> Callable[[int], tuple[np.ndarray, str]]:
        return lambda position: record(split, position)[::2]

    return sources.Source(
        name=NAME,
        identity=f"{NAME}/{VERSION}",
        label_names=("curvature in 1/(100 m)",),
        counts=EXAMPLES,
        channels=3,
        read=read,
        open=opened,
    )


def draw_road(split: str, position: int) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
    """The picture at a position in a split, and its label."""
    seed = [("test", "train", "validation").index(split), position]
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    offset, angle = generator.uniform(-1, 1), generator.uniform(-0.1, 0.1)
    curvature = generator.uniform(-0.02, 0.02)
    return picture(offset, angle, curvature, generator), steering(offset, angle, curvature)


def steering(offset: float, angle: float, curvature: float) -> float:
    """The label: 100 times the curvature of the arc to the middle of the lane 15 m ahead, in 1/m."""
    aim = middle(offset, angle, curvature, AHEAD)
    return float(100 * 2 * aim / (AHEAD**2 + aim**2))


def middle(
    offset: float, angle: float, curvature: float, ahead: Float[np.ndarray, "*shape"] | float
) -> Float[np.ndarray, "*shape"] | float:
    """How far the middle of the lane is to the right of the car's axis, some metres ahead of it."""
    return offset + angle * ahead + curvature * ahead**2 / 2


def picture(
    offset: float, angle: float, curvature: float, generator: np.random.RandomState
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a road as the car's camera sees it."""
    height, width = HEIGHT * OVERSAMPLING, WIDTH * OVERSAMPLING
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    horizon = height * generator.uniform(0.2, 0.3)
    ground = rows > horizon
    # The ground that a pixel shows: metres ahead of the camera, and to the right of the lane's middle there.
    ahead = FOCAL * width * CAMERA / np.maximum(rows - horizon, 0.5)
    side = (columns - width / 2) * ahead / (FOCAL * width) - middle(offset, angle, curvature, ahead)
    sky, grass = generator.uniform((120, 140, 170), (200, 215, 255)), generator.uniform((50, 70, 20), (130, 140, 80))
    asphalt, paint = generator.uniform(60, 120) * np.ones(3), generator.uniform(190, 250) * np.ones(3)
    image = np.where(ground[..., None], grass, sky + (rows / height)[..., None] * 40)
    image = np.where((ground & (side > -1.5 * LANE - 0.3) & (side < 0.5 * LANE + 0.3))[..., None], asphalt, image)
    dashed = (ahead + generator.uniform(0, PERIOD)) % PERIOD < DASH
    lines = [np.abs(side - 0.5 * LANE), np.abs(side + 1.5 * LANE), np.where(dashed, np.abs(side + 0.5 * LANE), np.inf)]
    image = np.where((ground & (np.min(lines, axis=0) < LINE / 2))[..., None], paint, image)
    for _ in range(generator.randint(0, 4)):  # shadows across the road
        begin, depth, slant = generator.uniform(4, 40), generator.uniform(1, 6), generator.uniform(-1, 1)
        inside = ground & (ahead + slant * side > begin) & (ahead + slant * side < begin + depth)
        image = np.where(inside[..., None], image * generator.uniform(0.4, 0.8), image)
    image = image.reshape(HEIGHT, OVERSAMPLING, WIDTH, OVERSAMPLING, 3).mean((1, 3))
    image = generator.uniform(0.6, 1.05) * image + generator.normal(0, 6, image.shape)
    return np.rint(image).clip(0, 255).astype(np.uint8)
