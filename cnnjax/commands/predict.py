"""`cnnjax predict`: applies a run to image files."""

import argparse
import dataclasses
import io
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json, add_skip_unreadable, add_workdir
from cnnjax.core.terminal import count_of, printable, say

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
        help="number of classes (of a detection: objects) to show for each image (default: 1; for multi-label runs those predicted as "
        "present, for detections all)",
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
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FOLDER",
        help="write the objects of each image to a folder: NAME.png with boxes, NAME.xml (VOC), NAME.txt (YOLO), and detections.json "
        "(COCO) of all; for detection",
    )
    parser.add_argument(
        "--score",
        type=float,
        metavar="X",
        help="the score, 0 to 1, from which objects are shown and written (default: the run's task.shown); for detection",
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
    from cnnjax.data.transforms import size_of
    from cnnjax.tasks import Detection

    loaded = _with_score(runs.load_run(options.workdir), options.score)
    _check_topk(options.topk, loaded)
    if options.json and (options.csv or options.npz or options.masks or options.boxes):
        raise ValueError("--json prints the predictions: leave out --csv, --npz, --masks and --boxes")
    if options.overlap is not None and not options.masks:
        raise ValueError("--overlap is for --masks FOLDER: give it too")
    for flag, write in (("masks", _write_masks), ("boxes", _write_boxes)):
        if getattr(options, flag):
            if options.csv or options.npz or options.topk or (options.masks and options.boxes):
                others = "--csv, --npz and --topk" if not (options.masks and options.boxes) else "--boxes"
                raise ValueError(f"--{flag} is given alone: leave {others} out")
            write(options, loaded)
            return None
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
    paths, sizes, fitted, bad = [], [], [], []
    for path in found:
        try:
            own = _examples(path, loaded)
            fitted += [loaded.fit(image, name, options.resize) for name, image in own]
            paths += [name for name, _ in own]
            sizes += [size_of(loaded.decoded(image, name)) for name, image in own]
        except (ValueError, OSError, ImportError) as error:
            bad.append(str(error))
    summary = f"{len(bad)} of {len(bad) + len(paths)} files cannot be used: {files.listed(bad)}"
    if bad and not options.skip_unreadable:
        raise ValueError(f"{summary} (--skip-unreadable skips them)")
    for line in summarize([(path, one.remarks) for path, one in zip(paths, fitted, strict=True)]):
        say(f"cnnjax: {line}", error=True)
    pixels = [one.pixels for one in fitted]
    predictions = loaded.predict_prepared(np.stack(pixels)) if pixels else loaded.predict(())
    if isinstance(loaded.task, Detection):
        predictions = runs.in_own_pixels(loaded, predictions, sizes)
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
            say(f"{count_of(len(paths), 'prediction')}, {_shapes(arrays)}: use --npz FILE to write them")
        for path, line in zip(paths, lines or (), strict=bool(lines)):
            say(f"{printable(path)}  {printable(line)}")
    if written := options.csv or options.npz:
        say(f"{count_of(len(paths), 'prediction')} in {written}")
    if bad:
        say(f"cnnjax: {summary}", error=True)


def _with_score(run: Any, score: float | None) -> Any:
    """The run with another score from which objects are shown."""
    from cnnjax.tasks import Detection

    if score is None:
        return run
    if not isinstance(run.task, Detection):
        raise ValueError(f"--score: the run's task, {type(run.task).__name__}, finds no objects: leave it out")
    if not 0 <= score <= 1:
        raise ValueError(f"--score {score:g}: expected 0 to 1")
    return dataclasses.replace(run, task=dataclasses.replace(run.task, shown=score))


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
    from cnnjax.core import files
    from cnnjax.data.folders import find_images
    from cnnjax.report.images import png
    from cnnjax.tasks import Segmentation

    if not isinstance(run.task, Segmentation):
        raise ValueError(f"--masks: the run's task, {type(run.task).__name__}, predicts no maps: leave it out")
    paths = find_images(options.paths)
    options.masks.mkdir(parents=True, exist_ok=True)
    bad = []
    for path, name in zip(paths, _file_names(paths), strict=True):
        target = options.masks / name
        try:
            picture, classes = _map_of(path, options, run)
        except (ValueError, OSError, ImportError) as error:
            bad.append(str(error))
            continue
        files.write_atomically(target.with_name(f"{target.name}.png"), mask_png(classes))
        files.write_atomically(target.with_name(f"{target.name}_overlay.png"), png(overlaid_classes(picture, classes)))
    _say_unreadable(bad, len(paths), options)
    say(f"{count_of(len(paths) - len(bad), 'map')} with overlays in {options.masks}")


def _file_names(paths: list[Path]) -> list[str]:
    """A name for what is written of each file: its own without extension, with folders and extension where names would be the same."""
    from cnnjax.analysis.curves import short_names

    stems = short_names([path.with_suffix("").parts for path in paths])
    names = stems if len({*stems}) == len(paths) else short_names([path.parts for path in paths])
    return [name.replace("/", "_") for name in names]


def _say_unreadable(bad: list[str], count: int, options: argparse.Namespace) -> None:
    """Reports the files that cannot be predicted; raises ValueError unless they are to be left out."""
    from cnnjax.core import files

    if bad:
        summary = f"{len(bad)} of {count} files cannot be predicted: {files.listed(bad)}"
        if not options.skip_unreadable:
            raise ValueError(f"{summary} (--skip-unreadable leaves them out)")
        say(f"cnnjax: {summary}", error=True)


def _write_boxes(options: argparse.Namespace, run: Any) -> None:
    """Writes the objects of each image: drawn, and as VOC's, YOLO's and COCO's files."""
    from cnnjax.analysis.boxes import class_colour, drawn_boxes
    from cnnjax.core import files
    from cnnjax.data import box_files
    from cnnjax.data.boxes import as_rows
    from cnnjax.data.displayed import displayed
    from cnnjax.data.fitting import summarize
    from cnnjax.data.folders import find_images
    from cnnjax.data.transforms import as_pixels, read_image, size_of
    from cnnjax.report.images import png
    from cnnjax.runs import detect
    from cnnjax.tasks import Detection
    from cnnjax.tasks.task import class_names

    if not isinstance(run.task, Detection):
        raise ValueError(f"--boxes: the run's task, {type(run.task).__name__}, predicts no boxes: leave it out")
    paths, classes = find_images(options.paths), run.facts.outputs["num_classes"]
    options.boxes.mkdir(parents=True, exist_ok=True)
    labels = class_names(run.label_names, classes)
    bad, written, remarks = [], [], []
    for path, name in zip(paths, _file_names(paths), strict=True):
        try:
            image = read_image(path, run.spatial_axes)
            found, [fitted] = detect(run, [image], [str(path)], options.resize)
        except (ValueError, OSError, ImportError) as error:
            bad.append(str(error))
            continue
        shown = found.mask[0] & (found.scores[0] >= run.task.shown)
        rows, scores = as_rows(found.boxes[0][shown], found.classes[0][shown]), found.scores[0][shown]
        picture = displayed(as_pixels(image)[None])[0]
        texts = [f"{labels[int(number)]} {score:.2f}" for number, score in zip(rows[:, 4], scores, strict=True)]
        colours = [class_colour(int(number)) for number in rows[:, 4]]
        drawn = drawn_boxes(picture, rows[:, :4], colours, texts)
        target, size = options.boxes / name, size_of(image)
        files.write_atomically(target.with_name(f"{name}.png"), png(drawn))
        files.write_atomically(
            target.with_name(f"{name}.xml"), box_files.voc_text(path.name, size, rows, scores, labels)
        )
        files.write_atomically(target.with_name(f"{name}.txt"), box_files.yolo_text(size, rows, scores))
        written.append((str(path), size, rows, scores))
        remarks.append((str(path), fitted.remarks))
    for line in summarize(remarks):
        say(f"cnnjax: {line}", error=True)
    _say_unreadable(bad, len(paths), options)
    images, found = [one[:2] for one in written], [one[2] for one in written]
    content = box_files.coco_text(images, found, [one[3] for one in written], labels)
    files.write_atomically(options.boxes / "detections.json", content)
    say(f"{count_of(sum(map(len, found)), 'object')} in {count_of(len(written), 'image')}: {options.boxes}")


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
    from cnnjax.tasks import Classification, Detection, MultiLabel, Segmentation

    if topk is None or (isinstance(run.task, Detection) and topk > 0):  # as many objects as an image may have
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
