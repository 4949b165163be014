"""The weights that torchvision publishes: their addresses and accuracies, and getting them once."""

import dataclasses
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cnnjax.core import files, runtime
from cnnjax.core.options import unknown
from cnnjax.core.terminal import say

ADDRESS = "https://download.pytorch.org/models"
# How a config says it: the first weights of the model's network, or "torchvision:IMAGENET1K_V2".
PREFIX = "torchvision"
# The mean and standard deviation of each channel, for pixels from 0 to 1, by which the input of torchvision's networks is normalised.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Seconds in which a host must answer, and in which some bytes must come.
PATIENCE = (10, 60)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A weight file of torchvision's.

    Attributes:
      network: torchvision's name of the network.
      name: torchvision's name of the weights.
      file: the file's name, with the beginning of its SHA-256.
      mebibytes: its size.
      top1: the accuracy on ImageNet's validation split, one central crop of 224 pixels, in percent; None for segmentation.
      top5: the share of images whose class is among the five most probable, in percent; None for segmentation.
      mean_iou: the mean IoU of a network for segmentation on the part of COCO val2017 with VOC's labels, in percent.
      pixel_accuracy: the share of pixels there whose class is right, in percent.
      resize: the length to which the image's shorter side is resized before the crop.
    """

    network: str
    name: str
    file: str
    mebibytes: int
    top1: float | None = None
    top5: float | None = None
    resize: int = 256
    mean_iou: float | None = None
    pixel_accuracy: float | None = None

    @property
    def address(self) -> str:
        """Where the file is downloaded from."""
        return f"{ADDRESS}/{self.file}"


_V1, _V2, _VOC = "IMAGENET1K_V1", "IMAGENET1K_V2", "COCO_WITH_VOC_LABELS_V1"
# torchvision 0.29.1, torchvision/models/{alexnet,googlenet,mobilenetv3,resnet,vgg,segmentation/*}.py. Not here: VGG-16's IMAGENET1K_FEATURES, which
# have no classifier.
PUBLISHED_WEIGHTS = (
    Weights("alexnet", _V1, "alexnet-owt-7be5be79.pth", 233, 56.522, 79.066),
    Weights("googlenet", _V1, "googlenet-1378be20.pth", 50, 69.778, 89.530),
    Weights("mobilenet_v3_large", _V1, "mobilenet_v3_large-8738ca79.pth", 21, 74.042, 91.340),
    Weights("mobilenet_v3_large", _V2, "mobilenet_v3_large-5c1a4163.pth", 21, 75.274, 92.566, resize=232),
    Weights("mobilenet_v3_small", _V1, "mobilenet_v3_small-047dcff4.pth", 10, 67.668, 87.402),
    Weights("resnet18", _V1, "resnet18-f37072fd.pth", 45, 69.758, 89.078),
    Weights("resnet34", _V1, "resnet34-b627a593.pth", 83, 73.314, 91.420),
    Weights("resnet50", _V1, "resnet50-0676ba61.pth", 98, 76.130, 92.862),
    Weights("resnet50", _V2, "resnet50-11ad3fa6.pth", 98, 80.858, 95.434, resize=232),
    Weights("resnet101", _V1, "resnet101-63fe2227.pth", 171, 77.374, 93.546),
    Weights("resnet101", _V2, "resnet101-cd907fc2.pth", 171, 81.886, 95.780, resize=232),
    Weights("resnet152", _V1, "resnet152-394f9c45.pth", 230, 78.312, 94.046),
    Weights("resnet152", _V2, "resnet152-f82ba261.pth", 230, 82.284, 96.002, resize=232),
    Weights("vgg11", _V1, "vgg11-8a719046.pth", 507, 69.020, 88.628),
    Weights("vgg11_bn", _V1, "vgg11_bn-6002323d.pth", 507, 70.370, 89.810),
    Weights("vgg13", _V1, "vgg13-19584684.pth", 508, 69.928, 89.246),
    Weights("vgg13_bn", _V1, "vgg13_bn-abd245e5.pth", 508, 71.586, 90.374),
    Weights("vgg16", _V1, "vgg16-397923af.pth", 528, 71.592, 90.382),
    Weights("vgg16_bn", _V1, "vgg16_bn-6c64b313.pth", 528, 73.360, 91.516),
    Weights("vgg19", _V1, "vgg19-dcbb9e9d.pth", 548, 72.376, 90.876),
    Weights("vgg19_bn", _V1, "vgg19_bn-c79401a0.pth", 548, 74.218, 91.842),
    *(
        Weights(network, _VOC, f"{file}.pth", mebibytes, resize=520, mean_iou=mean_iou, pixel_accuracy=pixel_accuracy)
        for network, file, mebibytes, mean_iou, pixel_accuracy in (
            ("deeplabv3_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large-fc3c493d", 42, 60.3, 91.2),
            ("deeplabv3_resnet50", "deeplabv3_resnet50_coco-cd0a2569", 161, 66.4, 92.4),
            ("deeplabv3_resnet101", "deeplabv3_resnet101_coco-586e9e4e", 233, 67.4, 92.4),
            ("fcn_resnet50", "fcn_resnet50_coco-1167a1af", 135, 60.5, 91.4),
            ("fcn_resnet101", "fcn_resnet101_coco-7ecb50ca", 208, 63.7, 91.9),
            ("lraspp_mobilenet_v3_large", "lraspp_mobilenet_v3_large-d234d4ea", 12, 57.9, 91.2),
        )
    ),
)


def find(network: str, text: str) -> Weights | None:
    """The published weights that a text means for a network; None where it is the name of a file.

    Args:
      network: torchvision's name.
      text: "torchvision", "torchvision:IMAGENET1K_V2", or a file's name.

    Raises:
      ValueError: torchvision publishes no weights of that name for the network.
    """
    source, _, name = text.partition(":")
    if source != PREFIX:
        return None
    choices = {weights.name: weights for weights in PUBLISHED_WEIGHTS if weights.network == network}
    name = name or next(iter(choices))
    if name not in choices:
        raise ValueError(unknown(f"torchvision's weights of {network}", name, choices))
    return choices[name]


def folders() -> tuple[Path, ...]:
    """Where weight files are looked for: our cache, where they are put, then PyTorch's (`torch.hub.get_dir`)."""
    hub = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return runtime.cache_directory() / "weights", Path(hub).expanduser() / "hub" / "checkpoints"


def fetch(weights: Weights) -> Path:
    """The path of a published weight file, which is downloaded where it is not on this machine.

    Raises:
      ConnectionError: it cannot be downloaded; the message says what to put where.
      ValueError: the file is not the published one, by the beginning of its SHA-256.
    """
    ours, others = folders()
    path = ours / weights.file
    with files.locked(ours / ".lock", "the folder of weights", wait=True):
        if not path.exists() and (others / weights.file).exists():
            path = others / weights.file
        if not path.exists():
            _download(weights, path)
        elif not _is_published(weights, digest := _digest(_read(path))):
            raise ValueError(_differs(weights, digest, f"{path}") + ": delete it, and it is downloaded again")
    return path


def _download(weights: Weights, path: Path) -> None:
    """Downloads a file under another name, and moves it into place when it is whole."""
    import requests

    say(f"downloading {weights.address} ({weights.mebibytes} MiB)", error=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, requests.get(weights.address, stream=True, timeout=PATIENCE) as answer:
            answer.raise_for_status()
            digest = _digest(_written(answer, file))
        if not _is_published(weights, digest):
            raise ValueError(_differs(weights, digest, f"what {weights.address} sent"))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except requests.exceptions.RequestException as error:
        raise ConnectionError(f"{_reason(weights, error)}. {offline_advice(weights)}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _written(answer: Any, file: BinaryIO) -> Iterator[bytes]:
    """Writes what comes to the file, shows how far it is, and passes it on."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    total = int(answer.headers.get("content-length", 0)) or None
    columns = BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=total)
        for part in answer.iter_content(1 << 20):
            file.write(part)
            progress.advance(task, len(part))
            yield part


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            yield part


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _is_published(weights: Weights, digest: str) -> bool:
    return digest.startswith(_beginning(weights))


def _beginning(weights: Weights) -> str:
    """The beginning of the file's SHA-256, which is the end of its name."""
    return Path(weights.file).stem.rpartition("-")[2]


def _differs(weights: Weights, digest: str, what: str) -> str:
    return f"{what} is not torchvision's file: its SHA-256 begins with {digest[:8]}, expected {_beginning(weights)}"


def _reason(weights: Weights, error: Exception) -> str:
    from requests.exceptions import ConnectionError, HTTPError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        said = f"answers {error.response.status_code} {error.response.reason}"
    else:
        said = "cannot be reached" if isinstance(error, ConnectionError | Timeout) else "broke off"
    return f"weights {weights.name} of {weights.network} ({weights.mebibytes} MiB): {weights.address} {said}"


def offline_advice(weights: Weights) -> str:
    """What to put where if there is no network."""
    ours, others = folders()
    return (
        f"Without a network: download {weights.file} elsewhere and put it into {ours} (or {others}), or give the file's path in the "
        f"place of {PREFIX!r}"
    )
