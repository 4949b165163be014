"""The neocognitron on digits: what its last cells respond to after learning without a teacher.

    python -m experiments.neocognitron            seconds: writes experiments/results/neocognitron.md
    python -m experiments.neocognitron --page     writes the page from what is stored

Fukushima, "Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected by shift in position",
Biological Cybernetics 36, 1980, pages 193 to 202. The equations are numbered as there; u are the outputs of excitatory cells, v those of
inhibitory ones, n is a cell's place and v a place relative to it:

    (1) u_S(k, n) = r phi[(1 + sum_j sum_v a(j, v, k) u_C(j, n + v)) / (1 + 2 r / (1 + r) b(k) v_C(n)) - 1],   phi[x] = max(x, 0)
    (3) v_C(n)    = sqrt(sum_j sum_v c(v) u_C(j, n + v)^2)
    (4) u_C(k, n) = psi[(1 + sum_v d(v) u_S(k, n + v)) / (1 + v_S(n)) - 1],   psi[x] = phi[x / (alpha + x)]
    (6) v_S(n)    = mean_k sum_v d(v) u_S(k, n + v)
    (7) da(j, v, k) = q c(v) u_C(j, n + v),   (8) db(k) = q / 2 v_C(n)     for the representative (k, n) of each plane that has one

In each S-column, a neighbourhood in all planes, the S-cell with the largest output is a candidate; the candidate of a plane with the largest
output is its representative. Sizes, r, q, alpha and the number of presentations are the paper's (chapter 5). The paper leaves some choices open,
which are made here: c and d fall with distance as 0.9^|v| and 0.4^|v|, the pair of a dozen tried on the drawn digits with which the result
depended least on the order of the shifts. The sum of c
over all planes is 1; d is not scaled. The paper says that the density of cells decreases from module to module, but not where the cells lie:
here the C-cells of the first two modules are two S-cells apart, which is what 10 and 6 of them need to see every one of 16 and 8 S-cells as often,
by windows that reach beyond the border; planes lie over each other's middle. The initial a are tiny: those of the first module weakly prefer an
orientation that turns with k, those of the others weakly prefer planes with a number near k.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from cnnjax.core import files
from experiments.drawings import draw_picture, panels, save_svg, styled
from experiments.study import RESULTS, hardware, markdown

PLANES, WINDOW, ALPHA, WEAK = 24, 5, 0.5, 1e-4
# The factors by which the fixed synapses c and d fall per step of distance.
C_FALLS, D_FALLS = 0.9, 0.4
Planes = Float[np.ndarray, "height width plane"]


class Module(NamedTuple):
    """The figures of a module: a layer of S-cells and a layer of C-cells.

    Attributes:
      s_side: the height and width of an S-plane.
      c_side: the height and width of a C-plane.
      c_window: the height and width of the S-cells that a C-cell sees.
      spacing: the distance of neighbouring C-cells, in S-cells.
      column: the height and width of an S-column.
      r: the efficacy of inhibition.
      q: the speed of reinforcement.
    """

    s_side: int
    c_side: int
    c_window: int
    spacing: int
    column: int
    r: float
    q: float


MODULES = (
    Module(16, 10, WINDOW, 2, 5, 4.0, 1.0),
    Module(8, 6, WINDOW, 2, 5, 1.5, 16.0),
    Module(2, 1, 2, 1, 2, 1.5, 16.0),
)


class Network(NamedTuple):
    """The modifiable synapses of each module: excitatory a, (5, 5, planes before, planes), and inhibitory b, (planes,)."""

    a: tuple[Float[np.ndarray, "5 5 before plane"], ...]
    b: tuple[Float[np.ndarray, "plane"], ...]


class Response(NamedTuple):
    """The outputs of a module.

    Attributes:
      seen: the outputs of the cells before it that each S-cell sees, (height, width, 5, 5, planes before).
      v_c: the outputs of the inhibitory cells before it.
      u_s: the outputs of the S-cells.
      u_c: the outputs of the C-cells.
    """

    seen: Float[np.ndarray, "height width 5 5 before"]
    v_c: Float[np.ndarray, "height width"]
    u_s: Planes
    u_c: Planes


def falling(factor: float, side: int) -> Float[np.ndarray, "side side"]:
    """factor^|v| for every place v of a window."""
    steps = np.arange(side) - (side - 1) / 2
    return factor ** np.hypot(*np.meshgrid(steps, steps))


def c_weights(before: int) -> Float[np.ndarray, "5 5"]:
    """The fixed synapses c(v), whose sum over the places and planes is 1."""
    weights = falling(C_FALLS, WINDOW)
    return weights / (before * weights.sum())


def windows(planes: Planes, size: int, side: int, spacing: int = 1) -> Float[np.ndarray, "side side size size plane"]:
    """The windows of the given size around the cells of a plane of another side in the middle; 0 beyond the border.

    Args:
      planes: the planes that are seen.
      size: the height and width of a window.
      side: the height and width of the plane of the cells that see.
      spacing: the distance of these cells, in cells of the planes that are seen.
    """
    reach = spacing * (side - 1) + size
    margin = (reach - len(planes)) / 2  # by which the windows reach beyond the planes
    before, after = math.floor(margin), math.ceil(margin)
    padded = np.pad(planes, ((max(before, 0), max(after, 0)),) * 2 + ((0, 0),))
    begin = max(-before, 0)
    padded = padded[begin : begin + reach, begin : begin + reach]
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (0, 1))[::spacing, ::spacing]
    return np.moveaxis(views, 2, -1)


def initial() -> Network:
    """The network before it learns: tiny excitatory synapses, no inhibitory ones."""
    steps = np.arange(WINDOW) - WINDOW // 2
    y, x = np.meshgrid(steps, steps, indexing="ij")
    angle = np.arange(PLANES) * np.pi / PLANES
    distance = np.abs(x[..., None] * np.sin(angle) - y[..., None] * np.cos(angle))  # from a line through the middle
    first = WEAK * np.exp(-(distance**2))[:, :, None]
    apart = np.abs(np.arange(PLANES)[:, None] - np.arange(PLANES)) / PLANES
    later = WEAK * np.broadcast_to(np.exp(-apart), (WINDOW, WINDOW, PLANES, PLANES))
    return Network((first, later, later), (np.zeros(PLANES),) * 3)


def respond(network: Network, pattern: Float[np.ndarray, "16 16"]) -> list[Response]:
    """The outputs of all modules for a pattern of 0 to 1."""
    planes, responses = np.asarray(pattern, float)[..., None], []
    for module, a, b in zip(MODULES, *network, strict=True):
        seen = windows(planes, WINDOW, module.s_side)
        v_c = np.sqrt(np.einsum("yxijp,ij->yx", seen**2, c_weights(planes.shape[-1])))
        excited, inhibited = 1 + np.tensordot(seen, a, 3), 1 + 2 * module.r / (1 + module.r) * b * v_c[..., None]
        u_s = module.r * np.maximum(excited / inhibited - 1, 0)
        pooled = windows(u_s, module.c_window, module.c_side, module.spacing)
        blurred = np.einsum("yxijp,ij->yxp", pooled, falling(D_FALLS, module.c_window))
        x = (1 + blurred) / (1 + blurred.mean(-1, keepdims=True)) - 1
        planes = np.maximum(x, 0) / (ALPHA + np.maximum(x, 0))
        responses.append(Response(seen, v_c, u_s, planes))
    return responses


def representatives(u_s: Planes, column: int) -> dict[int, tuple[int, int]]:
    """The place of the representative of each S-plane that has one."""
    height, width, _ = u_s.shape
    found: dict[int, tuple[int, int]] = {}
    reach = column // 2
    for top in range(-reach, height - reach) if column < height else (0,):
        for left in range(-reach, width - reach) if column < width else (0,):
            y, x = max(top, 0), max(left, 0)
            part = u_s[y : top + column, x : left + column]
            row, across, plane = np.unravel_index(part.argmax(), part.shape)
            place = (y + row, x + across)
            if part[row, across, plane] > 0 and (
                plane not in found or u_s[(*place, plane)] > u_s[(*found[plane], plane)]
            ):
                found[int(plane)] = place
    return found


def reinforced(network: Network, pattern: Float[np.ndarray, "16 16"]) -> Network:
    """The network after one presentation of a pattern: equations (7) and (8) for the representatives of every module."""
    a, b = [array.copy() for array in network.a], [array.copy() for array in network.b]
    for index, (module, response) in enumerate(zip(MODULES, respond(network, pattern), strict=True)):
        c = c_weights(response.seen.shape[-1])[:, :, None]
        for plane, place in representatives(response.u_s, module.column).items():
            a[index][..., plane] += module.q * c * response.seen[place]
            b[index][plane] += module.q / 2 * response.v_c[place]
    return Network(tuple(a), tuple(b))


# --- the study ---------------------------------------------------------------------------------------------------------

# Thin drawings like the paper's figure 6, of which no copy is made.
DRAWN = {
    "0": "..###..|.#...#.|#.....#|#.....#|#.....#|#.....#|#.....#|#.....#|.#...#.|..###..",
    "1": "...#...|...#...|...#...|...#...|...#...|...#...|...#...|...#...|...#...|...#...",
    "2": ".#####.|#.....#|......#|......#|.....#.|...##..|..#....|.#.....|#......|#######",
    "3": "######.|......#|......#|......#|.#####.|......#|......#|......#|......#|######.",
    "4": "#...#..|#...#..|#...#..|#...#..|#...#..|#######|....#..|....#..|....#..|....#..",
}
PRESENTATIONS, SHIFTED, TRIED = 20, 1, range(-2, 3)
# The number of images of each digit that are learned, how often each is presented, and the number of test images; pixels above the level
# are 1, others 0.
LEARNED, REPEATED, TESTED, LEVEL = 6, 4, 30, 0.7
# How often the drawings are learned, each time with other shifts.
SERIES = 10


def drawn(digit: str, down: int = 0, right: int = 0) -> Float[np.ndarray, "16 16"]:
    """A drawn digit in the middle of the input layer, shifted."""
    pixels = np.array([[mark == "#" for mark in row] for row in DRAWN[digit].split("|")], float)
    pattern = np.zeros((16, 16))
    pattern[3 + down : 3 + down + len(pixels), 4 + right : 4 + right + pixels.shape[1]] = pixels
    return pattern


def last_cells(network: Network, patterns: Sequence[np.ndarray]) -> Float[np.ndarray, "pattern cell"]:
    """The outputs of the last module's C-cells for each pattern."""
    return np.array([respond(network, pattern)[-1].u_c[0, 0] for pattern in patterns])


def learn_drawings(presentations: int, seed: int = 0) -> Network:
    """The network after that many presentations of each drawn digit, in turn, each shifted at random by up to a cell."""
    generator, network = np.random.RandomState(seed), initial()
    for _ in range(presentations):
        for digit in DRAWN:
            network = reinforced(network, drawn(digit, *generator.randint(-SHIFTED, SHIFTED + 1, 2)))
    return network


def responses_to_drawings(network: Network) -> dict[str, list[int]]:
    """For each drawn digit, how often each cell of the last layer responds most, over all shifts of up to two cells."""
    shifts = [(down, right) for down in TRIED for right in TRIED]
    return {digit: winners(last_cells(network, [drawn(digit, *shift) for shift in shifts])).tolist() for digit in DRAWN}


def winners(outputs: Float[np.ndarray, "pattern cell"]) -> Int[np.ndarray, "cell"]:
    """How often each cell responds most; patterns to which no cell responds are left out."""
    return np.bincount(outputs.argmax(1)[outputs.max(1) > 0], minlength=outputs.shape[1])


def responses_to_digits(learned: int, repeated: int, tested: int) -> list[list[int]]:
    """For each digit of the embedded data set, how often each last cell responds most to test images.

    Args:
      learned: the number of training images of each digit that are presented.
      repeated: how often each is presented.
      tested: the number of test images of each digit.
    """
    import cnnjax

    data, network = cnnjax.load_dataset({"name": "digits", "resize": (16, 16)}), initial()
    images = {name: np.asarray(split.images[:])[..., 0] > 255 * LEVEL for name, split in data.splits.items()}
    of_class = lambda split, digit, count: images[split][data.splits[split].labels == digit][:count]  # noqa: E731
    presented = [of_class("train", digit, learned) for digit in range(10)]
    for _ in range(repeated):
        for index in range(learned):
            for digit in range(10):
                network = reinforced(network, presented[digit][index])
    return [winners(last_cells(network, of_class("test", digit, tested))).tolist() for digit in range(10)]


def measured() -> dict[str, Any]:
    """What the page is made of."""
    series = [responses_to_drawings(learn_drawings(PRESENTATIONS, seed)) for seed in range(SERIES)]
    counts = [list(responses.values()) for responses in series]
    return {
        "where": hardware(),
        "drawings": series[0],
        "cells": [len(set(owners(rows))) for rows in counts],
        "shares": [_own_share(rows) for rows in counts],
        "digits": responses_to_digits(LEARNED, REPEATED, TESTED),
    }


def owners(counts: Sequence[Sequence[int]]) -> list[int]:
    """The cell that responds most often to each class."""
    return [int(np.argmax(row)) for row in counts]


def shared(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """The classes that share a cell, a line for each such cell."""
    cells = owners(counts)
    groups = {cell: [name for name, own in zip(names, cells, strict=True) if own == cell] for cell in cells}
    return [" and ".join(group) for group in groups.values() if len(group) > 1]


def _rows(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[list[str]]:
    rows = []
    for name, row in zip(names, counts, strict=True):
        order = [cell for cell in np.argsort(row)[::-1] if row[cell]]
        rows.append([name, ", ".join(f"{cell + 1} ({row[cell]})" for cell in order), str(sum(row))])
    return rows


def page(stored: Mapping[str, Any]) -> str:
    """The page of the study."""
    drawings, digits = stored["drawings"], stored["digits"]
    head = ["digit", "cells that respond most (number of patterns)", "patterns with a response"]
    own, alone = _own_share(list(drawings.values())), _own_share(digits)
    shares = [100 * share for share in stored["shares"]]
    together = ["; ".join(shared(names, counts)) or "none" for names, counts in
                ((list(drawings), list(drawings.values())), ([*map(str, range(10))], digits))]  # fmt: skip
    cells = len(set(owners(list(drawings.values()))))
    return f"""# The neocognitron on digits

**Which digits share a last cell of Fukushima's network of 1980, which learns without a teacher?** Of five drawn digits none, as in the paper:
they have {cells} different cells, and to {100 * own:.0f} % of their patterns, shifted by up to two cells, the cell that responds most belongs to
their digit alone. For the ten embedded digits, which many people wrote, it is {100 * alone:.0f} %. The cell of a digit is the one that
responds most often to it.

![Five drawn digits, and the cells of the last layer that respond most to each.](neocognitron.svg)

To repeat it: `python -m experiments.neocognitron` ({stored["where"]}). `experiments/neocognitron.py` has the equations and the choices
that the paper leaves open.

**Exercise.** Some of the embedded digits share a last cell: which strokes do they have in common? In what way does the network decide
which cell learns a pattern, so that it cannot know that two patterns belong to different digits?

## Drawn digits, as in the paper

Each of five drawings was presented {PRESENTATIONS} times, shifted at random by up to one cell, as in chapter 5 of the paper. There each pattern had
a cell of its own in the end. Here the drawings are tested at the 25 shifts of up to two cells. Digits with a common cell: {together[0]}. In
{stored["cells"].count(len(drawings))} of {len(shares)} series of presentations with other shifts, this one among them, all digits have cells of their own, which respond most to
{min(shares):.0f} to {max(shares):.0f} % of the patterns.

{markdown(head, _rows(list(drawings), list(drawings.values())))}

## Embedded digits

{LEARNED} training images of each digit, enlarged to 16x16 and set to 0 or 1 at {LEVEL} of the largest value, were presented {REPEATED} times; the patterns
are test images. The level and the number of images are the best of six pairs on ten validation images of each digit. The paper says that
ten digits need parameters "properly adjusted", or more planes than 24. Digits with a common cell: {together[1]}.

{markdown(head, _rows([*map(str, range(10))], digits))}
"""


def _own_share(counts: Sequence[Sequence[int]]) -> float:
    """The share of patterns to which the cell of their class responds most, where no other class has that cell."""
    cells, total = owners(counts), sum(map(sum, counts))
    return sum(row[cell] for row, cell in zip(counts, cells, strict=True) if cells.count(cell) == 1) / max(total, 1)


@styled()
def figure(stored: Mapping[str, Any]) -> Figure:
    """The drawn digits above the responses of the last cells."""
    columns = len(stored["drawings"])
    drawn_figure, axes = panels(columns, 2, height=1.6, sharey="row")
    for above, below, (digit, counts) in zip(axes, axes[columns:], stored["drawings"].items(), strict=False):
        draw_picture(above, drawn(digit), cmap="gray_r")
        below.bar(range(1, PLANES + 1), counts)
        below.set_xlabel("last cell")
    axes[columns].set_ylabel("patterns")
    return drawn_figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, stores what the page is made of, and writes the page and its figure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.neocognitron", description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page from what is stored")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the page")
    options = parser.parse_args(arguments)
    path = options.out / "neocognitron.json"
    if not options.page:
        files.write_atomically(path, json.dumps(measured(), indent=1) + "\n")
    stored = json.loads(path.read_text(encoding="utf-8"))
    save_svg(figure(stored), options.out / "neocognitron.svg")
    files.write_atomically(options.out / "neocognitron.md", page(stored))


if __name__ == "__main__":
    main()
