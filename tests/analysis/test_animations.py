"""The animations' arithmetic, and the files."""

import itertools

import numpy as np
import pytest
from PIL import Image

from cnnjax import analysis
from cnnjax.analysis import animations
from tests.commands.shell import run


def texts(monkeypatch):
    """What is written into cells, in order: (row, column, value) of each."""
    written = []
    original = animations._value

    def note(axis, place, row, column, value, *rest):
        written.append((place[2], row, column, int(value)))
        return original(axis, place, row, column, value, *rest)

    monkeypatch.setattr(animations, "_value", note)
    return written


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [(5, 3, 2, 1, 1), (6, 2, 1, 0, 1), (7, 2, 2, 1, 3), (1, 1, 1, 2, 1)],
)
def test_a_frame_for_each_window_with_numpys_numbers(monkeypatch, size, kernel, stride, padding, dilation):
    written = texts(monkeypatch)
    frames = analysis.animate_convolution(size, kernel, stride, padding, dilation, seed=3)
    reach = dilation * (kernel - 1) + 1
    out = (size + 2 * padding - reach) // stride + 1
    assert len(frames) == out**2 and len({frame.size for frame in frames}) == 1
    generator = np.random.RandomState(3)
    image = np.pad(generator.randint(0, 5, (size, size)), padding)
    weights = generator.randint(-1, 3, (kernel, kernel))
    expected = {
        (row, column): (
            image[row * stride :, column * stride :][:reach:dilation, :reach:dilation][:kernel, :kernel] * weights
        ).sum()
        for row, column in np.ndindex(out, out)
    }
    found = {
        (row, column): value for extent, row, column, value in written[len(image) ** 2 + kernel**2 :] if extent == out
    }
    assert found.items() >= expected.items() or out in (len(image), kernel)
    # The last value written into the output, at its last place, is the last window's.
    assert written[-1] == (out, out - 1, out - 1, expected[out - 1, out - 1])


@pytest.mark.parametrize(("size", "kernel", "stride"), [(3, 3, 2), (2, 2, 3), (4, 3, 1)])
def test_a_transposed_convolution_adds_scaled_kernels(monkeypatch, size, kernel, stride):
    written = texts(monkeypatch)
    frames = analysis.animate_transposed_convolution(size, kernel, stride, seed=5)
    assert len(frames) == size**2
    generator = np.random.RandomState(5)
    image, weights = generator.randint(0, 5, (size, size)), generator.randint(-1, 3, (kernel, kernel))
    whole = (size - 1) * stride + kernel
    expected, touched = np.zeros((whole, whole), int), np.zeros((whole, whole), bool)
    for row, column in np.ndindex(size, size):
        part = slice(row * stride, row * stride + kernel), slice(column * stride, column * stride + kernel)
        expected[part] += image[row, column] * weights
        touched[part] = True
    last = written[-touched.sum() :]
    assert {(row, column): value for _, row, column, value in last} == {
        (int(row), int(column)): expected[row, column] for row, column in np.argwhere(touched)
    }


def test_frames_differ_and_the_sum_is_written_out(monkeypatch):
    frames = analysis.animate_convolution(4, 2, 2)
    arrays = [np.asarray(frame) for frame in frames]
    assert all((a != b).any() for a, b in itertools.pairwise(arrays))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"input_size": 5, "kernel_size": 5, "dilation": 2},
            "floor\\(\\(5 \\+ 2·0 − 2·\\(5 − 1\\) − 1\\) / 1\\) \\+ 1 = -3",
        ),
        ({"input_size": 0, "kernel_size": 1}, "input_size=0: expected at least 1"),
        ({"input_size": 3, "kernel_size": 3, "stride": 0}, "stride=0: expected at least 1"),
        ({"input_size": 3, "kernel_size": 3, "padding": -1}, "padding=-1: expected at least 0"),
        ({"input_size": 12, "kernel_size": 3}, "too much to show: 100 frames"),
        ({"input_size": 40, "kernel_size": 3, "stride": 9}, "40x40 cells"),
    ],
)
def test_impossible_arithmetic_is_refused_with_the_formula(arguments, message):
    with pytest.raises(ValueError, match=message):
        analysis.animate_convolution(**arguments)


def test_a_transposed_convolution_of_which_nothing_is_left_is_refused():
    with pytest.raises(ValueError, match=r"\(1 − 1\)·2 \+ 3 − 2·2 = -1: expected at least 1"):
        analysis.animate_transposed_convolution(1, 3, 2, 2)


def test_a_filter_sweeps_over_the_picture():
    picture = np.zeros((20, 30), np.uint8)
    picture[:, 15:] = 255
    frames = analysis.animate_filter(picture, "sobel_horizontal")
    first, last = (np.asarray(frame.convert("L")) for frame in (frames[0], frames[-1]))
    right = slice(last.shape[1] // 2, None)
    # On the right the filtered picture fills up: the step is an edge, bright between two grey sides.
    assert first[:, right].mean() > last[:, right].mean()
    with pytest.raises(ValueError, match="unknown filter 'sobel': did you mean"):
        analysis.animate_filter(picture, "sobel")


def test_from_the_shell(capsys, tmp_path):
    path = tmp_path / "animation.gif"
    code, out, _ = run(
        capsys, "animate", "convolution", "--input", 5, "--kernel", 3, "--stride", 2, "--padding", 1, "--out", path
    )
    assert code == 0 and out == [f"animation: {path}"] and path.stat().st_size < 2**20
    with Image.open(path) as film:
        assert film.n_frames == 9 and film.info["loop"] == 0
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (200, 100, 3)).astype(np.uint8)).save(tmp_path / "p.png")
    code, _, _ = run(capsys, "animate", "filter", "box_blur", tmp_path / "p.png", "--out", path)
    assert code == 0 and path.stat().st_size < 2**20
    code, _, _ = run(
        capsys, "animate", "convolution", "--transposed", "--input", 2, "--kernel", 3, "--stride", 2, "--out", path
    )
    assert code == 0
    with Image.open(path) as film:
        assert film.n_frames == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convolution", "--input", "3", "--kernel", "5"], "no window fits: output = floor((input + 2·padding"),
        (
            ["convolution", "--input", "3", "--kernel", "2", "--transposed", "--dilation", "2"],
            "--dilation does not apply to a transposed",
        ),
        (["convolution", "--input", "3", "--kernel", "2", "--out", "x.mp4"], "expected a name that ends in .gif"),
        (["filter", "sobel_horizontal", "nothing.png"], "nothing.png does not exist"),
        (["filter", "sobel_horizontal", "text.png"], "text.png: not an image"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    code, _, err = run(capsys, "animate", *arguments)
    assert code == 1 and len(err) == 1, err
    assert err[0].startswith("cnnjax: ") and message in err[0]
    assert not list(tmp_path.glob("*.gif"))
