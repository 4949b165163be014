"""`cnnjax predict`: applies a run to image files."""

import argparse
import io
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_skip_unreadable, add_workdir
from cnnjax.core.terminal import printable, say

HELP = "what a run predicts of image files, or of folders of images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `predict` takes."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image files and folders")
    add_workdir(parser, required=True)
    parser.add_argument(
        "--topk",
        type=int,
        metavar="K",
        help="how many classes to show for each image (default: 1; of a multi-label run, those present)",
    )
    parser.add_argument(
        "--resize",
        default="auto",
        choices=["auto", "refuse"],
        help="images of another size than the training's: by the shorter side and the central crop, or refused",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions there instead")
    parser.add_argument("--npz", type=Path, metavar="FILE", help="... as arrays of NumPy, .npz, with the paths")
    add_skip_unreadable(parser)


def run(options: argparse.Namespace) -> None:
    """Prints what is predicted of each image, or writes it as comma-separated values or arrays."""
    import jax
    import numpy as np

    from cnnjax import runs
    from cnnjax.core import files
    from cnnjax.data.fitting import summarize
    from cnnjax.data.folders import check_utf8, find_images
    from cnnjax.data.transforms import read_image

    loaded = runs.load_run(options.workdir)
    _check_topk(options.topk, loaded)
    if options.csv and options.npz:
        raise ValueError("--csv and --npz: give one of them")
    found = find_images(options.paths)
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
            fitted.append(loaded.fit(read_image(path, loaded.spatial_axes), str(path), options.resize))
            paths.append(path)
        except (ValueError, OSError) as error:
            bad.append(str(error))
    summary = f"{len(bad)} of {len(bad) + len(paths)} files cannot be classified: {files.listed(bad)}"
    if bad and not options.skip_unreadable:
        raise ValueError(f"{summary} (--skip-unreadable leaves them out)")
    for line in summarize([(str(path), one.remarks) for path, one in zip(paths, fitted, strict=True)]):
        say(f"cnnjax: {line}", error=True)
    pixels = [one.pixels for one in fitted]
    predictions = loaded.predict_prepared(np.stack(pixels)) if pixels else loaded.predict(())
    arrays = {_name(place): array for place, array in jax.tree_util.tree_leaves_with_path(predictions)}
    if options.npz:
        _write_arrays(options.npz, paths, arrays)
    elif options.csv:
        columns = loaded.task.columns(predictions, loaded.label_names, options.topk)
        if columns is None:
            raise ValueError(f"--csv: {_shapes(arrays)} are no columns of a table: write them with --npz FILE")
        rows = zip(map(str, paths), *columns.values(), strict=True)
        files.write_atomically(options.csv, files.as_csv([["path", *columns], *rows]))
    else:
        lines = loaded.task.describe(predictions, loaded.label_names, options.topk)
        if lines is None:
            say(f"{len(paths)} predictions, {_shapes(arrays)}: --npz FILE writes them")
        for path, line in zip(paths, lines or (), strict=bool(lines)):
            say(f"{printable(path)}  {printable(line)}")
    if written := options.csv or options.npz:
        say(f"{len(paths)} predictions in {written}")
    if bad:
        say(f"cnnjax: {summary}", error=True)


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
    """The name of an array among predictions: "predictions" of one that is alone, else its path, as "mask" or "0/boxes"."""
    return (
        "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in place)
        or "predictions"
    )


def _shapes(arrays: dict[str, Any]) -> str:
    return ", ".join(f"{name} {array.shape[1:]} {array.dtype} an image" for name, array in arrays.items())


def _write_arrays(path: Path, paths: list[Path], arrays: dict[str, Any]) -> None:
    import numpy as np

    from cnnjax.core import files

    buffer = io.BytesIO()
    np.savez_compressed(buffer, path=np.array([str(each) for each in paths]), **arrays)
    files.write_atomically(path, buffer.getvalue())
