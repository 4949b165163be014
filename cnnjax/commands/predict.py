"""`cnnjax predict`: applies a run to image files."""

import argparse
import io
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_skip_unreadable, add_workdir
from cnnjax.core.terminal import printable, say

HELP = "predict image, .npy or .wav files, or folders, with a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `predict`."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="image files, .npy arrays of one or several examples, .wav files, or folders of these",
    )
    add_workdir(parser, required=True)
    parser.add_argument(
        "--topk",
        type=int,
        metavar="K",
        help="number of classes to show for each image (default: 1; for multi-label runs those predicted as present)",
    )
    parser.add_argument(
        "--resize",
        default="auto",
        choices=["auto", "refuse"],
        help="treatment of images of another size than in training: auto resizes the shorter side and crops the centre, "
        "refuse stops with an error",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the predictions to a CSV file instead of printing them"
    )
    parser.add_argument(
        "--npz", type=Path, metavar="FILE", help="write the predictions and paths as NumPy arrays (.npz)"
    )
    add_skip_unreadable(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the prediction for each image, or writes the predictions as comma-separated values or arrays."""
    import jax
    import numpy as np

    from cnnjax import runs
    from cnnjax.core import files
    from cnnjax.data.fitting import summarize
    from cnnjax.data.folders import check_utf8, find_images

    loaded = runs.load_run(options.workdir)
    _check_topk(options.topk, loaded)
    if options.csv and options.npz:
        raise ValueError("--csv and --npz: use only one of them")
    found = find_images(options.paths, also=(".wav",))
    for flag, path in (("--csv", options.csv), ("--npz", options.npz)):
        if path and not path.parent.is_dir():
            raise FileNotFoundError(f"{flag} {path}: there is no folder {path.parent}")
        if path and path.is_dir():
            raise IsADirectoryError(f"{flag} {path} is a folder: expected a file")
    if options.csv or options.npz:
        for path in found:
            check_utf8(path)
    paths, fitted, bad = [], [], []
    for path in found:
        try:
            own = _examples(path, loaded)
            fitted += [loaded.fit(image, name, options.resize) for name, image in own]
            paths += [name for name, _ in own]
        except (ValueError, OSError, ImportError) as error:
            bad.append(str(error))
    summary = f"{len(bad)} of {len(bad) + len(paths)} files cannot be used: {files.listed(bad)}"
    if bad and not options.skip_unreadable:
        raise ValueError(f"{summary} (--skip-unreadable skips them)")
    for line in summarize([(path, one.remarks) for path, one in zip(paths, fitted, strict=True)]):
        say(f"cnnjax: {line}", error=True)
    pixels = [one.pixels for one in fitted]
    predictions = loaded.predict_prepared(np.stack(pixels)) if pixels else loaded.predict(())
    arrays = {_name(place): array for place, array in jax.tree_util.tree_leaves_with_path(predictions)}
    if options.npz:
        _write_arrays(options.npz, paths, arrays)
    elif options.csv:
        columns = loaded.task.columns(predictions, loaded.label_names, options.topk)
        if columns is None:
            raise ValueError(f"--csv: {_shapes(arrays)} cannot be written as columns of a table: use --npz FILE")
        rows = zip(paths, *columns.values(), strict=True)
        files.write_atomically(options.csv, files.as_csv([["path", *columns], *rows]))
    else:
        lines = loaded.task.describe(predictions, loaded.label_names, options.topk)
        if lines is None:
            say(f"{len(paths)} predictions, {_shapes(arrays)}: use --npz FILE to write them")
        for path, line in zip(paths, lines or (), strict=bool(lines)):
            say(f"{printable(path)}  {printable(line)}")
    if written := options.csv or options.npz:
        say(f"{len(paths)} predictions in {written}")
    if bad:
        say(f"cnnjax: {summary}", error=True)


def _examples(path: Path, run: Any) -> list[tuple[str, Any]]:
    """The images of a file with their names: the file's name, or `file[0]`, `file[1]`, ... for several in a .npy file."""
    from cnnjax.data import array_files
    from cnnjax.data.transforms import read_image

    readers = {".npy": array_files.read_npy, ".wav": array_files.read_wav}
    if (read := readers.get(path.suffix.lower())) is None:
        return [(str(path), read_image(path, run.spatial_axes))]
    arrays, several = run.examples_of(read(path.read_bytes(), str(path)), str(path))
    return [(f"{path}[{number}]" if several else str(path), array) for number, array in enumerate(arrays)]


def _check_topk(topk: int | None, run: Any) -> None:
    """Raises ValueError for a number of classes that a run cannot show."""
    from cnnjax.tasks import Classification, MultiLabel

    if topk is None:
        return
    if not isinstance(run.task, Classification | MultiLabel):
        raise ValueError(f"--topk {topk}: the run's task, {type(run.task).__name__}, has no classes: leave it out")
    classes = run.facts.outputs["num_classes"]
    if not 1 <= topk <= classes:
        raise ValueError(f"--topk {topk}: the run has {classes} classes: choose 1 to {classes}")


def _name(place: Any) -> str:
    """The name of an array in predictions: "predictions" for a single array, else its path, such as "mask" or "0/boxes"."""
    return (
        "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in place)
        or "predictions"
    )


def _shapes(arrays: dict[str, Any]) -> str:
    return ", ".join(f"{name} {array.shape[1:]} {array.dtype} per image" for name, array in arrays.items())


def _write_arrays(path: Path, paths: list[str], arrays: dict[str, Any]) -> None:
    import numpy as np

    from cnnjax.core import files

    buffer = io.BytesIO()
    np.savez_compressed(buffer, path=np.array(paths, str), **arrays)
    files.write_atomically(path, buffer.getvalue())
