"""`cnnjax export`: writes a run as a file for other programs."""

import argparse
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json
from cnnjax.core.terminal import say

HELP = "write a run as ONNX, StableHLO, weights, or a web page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `export`."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="the run directory")
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="the file, whose suffix chooses the format: .onnx, .jaxexport (StableHLO), .safetensors (weights), .html (a page)",
    )
    parser.add_argument(
        "--no-preprocessing",
        action="store_true",
        help="take the network's inputs, instead of prepared images that the file normalises itself (.onnx, .jaxexport)",
    )
    parser.add_argument(
        "--outputs",
        default="predictions",
        choices=["predictions", "logits"],
        help="what the file computes: predictions as `cnnjax predict` makes them, or the network's outputs (.onnx, .jaxexport)",
    )
    parser.add_argument(
        "--keep-batch-norm",
        action="store_true",
        help="keep batch normalisations apart from the convolutions before them (.onnx)",
    )
    parser.add_argument(
        "--platforms",
        metavar="A,B,...",
        help="platforms of a .jaxexport file: cpu, cuda, rocm, tpu (default: cpu,cuda,tpu)",
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="PACKAGE",
        help="for a page: the npm package onnxruntime-web, its .tgz or folder (default: a node_modules folder, or npm fetches it once)",
    )
    add_json(parser)
    parser.epilog = "docs/howto/export.md shows how each file is used."


def run(options: argparse.Namespace) -> Any:
    """Writes the file, and prints what it takes and gives."""
    from cnnjax.exporting.export import export

    given = {"platforms": tuple(options.platforms.split(","))} if options.platforms is not None else {}
    exported = export(
        options.run_directory,
        options.file,
        preprocessing=not options.no_preprocessing,
        outputs=options.outputs,
        fold_batch_norm=not options.keep_batch_norm,
        runtime=options.runtime,
        **given,
    )
    if options.json:
        return {
            "file": str(exported.path),
            "kind": exported.kind,
            "bytes": exported.size,
            "inputs": exported.inputs,
            "outputs": exported.outputs,
            "remarks": exported.remarks,
        }
    say(f"{exported.path}: {exported.kind}, {exported.size / 2**20:.1f} MiB")
    for title, sizes in (("input", exported.inputs), ("output", exported.outputs)):
        for name, size in sizes.items():
            say(f"{title:<7} {name}: {size}")
    for remark in exported.remarks:
        say(remark)
    return None
