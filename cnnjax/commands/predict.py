"""`cnnjax predict`: classifies image files with a run."""

import argparse
from pathlib import Path

from cnnjax.commands.arguments import add_skip_unreadable, add_workdir
from cnnjax.core.terminal import printable, say

HELP = "classify image files, or all images in folders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `predict` takes."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image files and folders")
    add_workdir(parser, required=True)
    parser.add_argument("--topk", type=int, default=1, metavar="K", help="how many classes to show for each image")
    parser.add_argument(
        "--resize",
        default="auto",
        choices=["auto", "refuse"],
        help="images of another size than the training's: by the shorter side and the central crop, or refused",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions there instead")
    add_skip_unreadable(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the likeliest classes of each image, or writes them as comma-separated values."""
    import numpy as np

    from cnnjax import runs
    from cnnjax.core import files
    from cnnjax.data.fitting import summarize
    from cnnjax.data.folders import check_utf8, find_images
    from cnnjax.data.transforms import read_image

    loaded = runs.load_run(options.workdir)
    if not 1 <= options.topk <= len(loaded.label_names):
        raise ValueError(
            f"--topk {options.topk}: the run has {len(loaded.label_names)} classes: choose 1 to {len(loaded.label_names)}"
        )
    found = find_images(options.paths)
    if options.csv:
        if not options.csv.parent.is_dir():
            raise FileNotFoundError(f"--csv {options.csv}: there is no folder {options.csv.parent}")
        if options.csv.is_dir():
            raise IsADirectoryError(f"--csv {options.csv} is a folder: expected a file")
        for path in found:
            check_utf8(path)
    paths, fitted, bad = [], [], []
    for path in found:
        try:
            fitted.append(loaded.fit(read_image(path), str(path), options.resize))
            paths.append(path)
        except (ValueError, OSError) as error:
            bad.append(str(error))
    summary = f"{len(bad)} of {len(bad) + len(paths)} files cannot be classified: {files.listed(bad)}"
    if bad and not options.skip_unreadable:
        raise ValueError(f"{summary} (--skip-unreadable leaves them out)")
    for line in summarize([(str(path), one.remarks) for path, one in zip(paths, fitted, strict=True)]):
        say(f"cnnjax: {line}", error=True)
    pixels = [one.pixels for one in fitted]
    probabilities = loaded.predict_prepared(np.stack(pixels)) if pixels else np.zeros((0, len(loaded.label_names)))
    ranked = [
        [(loaded.label_names[index], float(row[index])) for index in np.argsort(-row, kind="stable")[: options.topk]]
        for row in probabilities
    ]
    if options.csv:
        columns = (f"{column}_{rank}" for rank in range(1, options.topk + 1) for column in ("label", "probability"))
        rows = [
            [str(path), *(value for name, probability in classes for value in (name, f"{probability:.6f}"))]
            for path, classes in zip(paths, ranked, strict=True)
        ]
        files.write_atomically(options.csv, files.as_csv([["path", *columns], *rows]))
        say(f"{len(paths)} predictions in {options.csv}")
    else:
        for path, classes in zip(paths, ranked, strict=True):
            say(
                f"{printable(path)}  "
                + "  ".join(f"{printable(name)} {probability:.4f}" for name, probability in classes)
            )
    if bad:
        say(f"cnnjax: {summary}", error=True)
