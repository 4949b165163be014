"""`cnnjax predict`: applies a run to image files."""

import argparse
import io
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json, add_skip_unreadable, add_workdir
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
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="write the map of each image to a folder, as NAME.png (class numbers, shown in colours) and NAME_overlay.png; for "
        "segmentation",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        metavar="PIXELS",
        help="with --masks: overlap of the windows in which larger images are predicted (default: half a window)",
    )
    add_skip_unreadable(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints the prediction for each image, or writes the predictions as comma-separated values or arrays."""
    import jax
    import numpy as np

    from cnnjax import runs
    from cnnjax.core import files
    from cnnjax.data.fitting import summarize
    from cnnjax.data.folders import check_utf8, find_images

    loaded = runs.load_run(options.workdir)
    _check_topk(options.topk, loaded)
    if options.json and (options.csv or options.npz or options.masks):
        raise ValueError("--json prints the predictions: leave out --csv, --npz and --masks")
    if options.masks:
        _write_masks(options, loaded)
        return None
    if options.overlap is not None:
        raise ValueError("--overlap is for --masks FOLDER: give it too")
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
    if options.json:
        return _as_json(paths, loaded.task.columns(predictions, loaded.label_names, options.topk), arrays, bad)
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


def _as_json(paths: list[str], columns: Any, arrays: dict[str, Any], bad: list[str]) -> dict[str, Any]:
    """The predictions of each image: its columns, or the arrays of a task that has no columns."""
    rows = zip(paths, *(arrays if columns is None else columns).values(), strict=True)
    names = ["path", *(arrays if columns is None else columns)]
    return {"predictions": [dict(zip(names, row, strict=True)) for row in rows], "unreadable": bad}


def _examples(path: Path, run: Any) -> list[tuple[str, Any]]:
    """The images of a file with their names: the file's name, or `file[0]`, `file[1]`, ... for several in a .npy file."""
    from cnnjax.data import array_files
    from cnnjax.data.transforms import read_image

    readers = {".npy": array_files.read_npy, ".wav": array_files.read_wav}
    if (read := readers.get(path.suffix.lower())) is None:
        return [(str(path), read_image(path, run.spatial_axes))]
    arrays, several = run.examples_of(read(path.read_bytes(), str(path)), str(path))
    return [(f"{path}[{number}]" if several else str(path), array) for number, array in enumerate(arrays)]


def _write_masks(options: argparse.Namespace, run: Any) -> None:
    """Writes the map of each image, and its overlay."""
    from cnnjax.analysis.class_maps import mask_png, overlaid_classes
    from cnnjax.analysis.curves import short_names
    from cnnjax.core import files
    from cnnjax.data.folders import find_images
    from cnnjax.report.images import png
    from cnnjax.tasks import Segmentation

    if not isinstance(run.task, Segmentation):
        raise ValueError(f"--masks: the run's task, {type(run.task).__name__}, predicts no maps: leave it out")
    if options.csv or options.npz or options.topk:
        raise ValueError("--masks is given alone: leave --csv, --npz and --topk out")
    paths = find_images(options.paths)
    stems = short_names([path.with_suffix("").parts for path in paths])
    names = stems if len({*stems}) == len(paths) else short_names([path.parts for path in paths])
    options.masks.mkdir(parents=True, exist_ok=True)
    bad = []
    for path, name in zip(paths, names, strict=True):
        target = options.masks / name.replace("/", "_")
        try:
            picture, classes = _map_of(path, options, run)
        except (ValueError, OSError, ImportError) as error:
            bad.append(str(error))
            continue
        files.write_atomically(target.with_name(f"{target.name}.png"), mask_png(classes))
        files.write_atomically(target.with_name(f"{target.name}_overlay.png"), png(overlaid_classes(picture, classes)))
    if bad:
        summary = f"{len(bad)} of {len(paths)} files cannot be predicted: {files.listed(bad)}"
        if not options.skip_unreadable:
            raise ValueError(f"{summary} (--skip-unreadable leaves them out)")
        say(f"cnnjax: {summary}", error=True)
    say(f"{len(paths) - len(bad)} maps and their overlays in {options.masks}")


def _map_of(path: Path, options: argparse.Namespace, run: Any) -> tuple[Any, Any]:
    """An image as a picture, and its map: at its own size, unless the training resizes images or the size is the training's."""
    from cnnjax.data.displayed import displayed
    from cnnjax.data.fitting import summarize
    from cnnjax.data.transforms import read_image, size_of
    from cnnjax.data.views import central_view
    from cnnjax.runs import at_own_size, predict_map
    from cnnjax.training.evaluation import evaluation_crop
    from cnnjax.training.run_directory import read_statistics

    image, section = read_image(path, run.spatial_axes), run.config.dataset
    fits = size_of(image) == tuple(run.described["image_shape"][:-1]) or any(
        (section.resize, section.crop, section.pad)
    )
    if options.overlap is None and fits:
        fitted = run.fit(image, str(path), options.resize)
        for line in summarize([(str(path), fitted.remarks)]):
            say(f"cnnjax: {line}", error=True)
        pixels = central_view(evaluation_crop(run.config), lambda images: images)(fitted.pixels[None])[0]
        probabilities = run.predict_prepared(fitted.pixels[None])[0]
    else:
        pixels = at_own_size(run, image, str(path))
        probabilities = predict_map(run, image, str(path), options.overlap)
    return displayed(pixels[None], read_statistics(run.described))[0], probabilities.argmax(-1)


def _check_topk(topk: int | None, run: Any) -> None:
    """Raises ValueError for a number of classes that a run cannot show."""
    from cnnjax.tasks import Classification, MultiLabel, Segmentation

    if topk is None:
        return
    if not isinstance(run.task, Classification | MultiLabel | Segmentation):
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
