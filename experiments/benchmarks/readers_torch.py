"""PyTorch's `DataLoader` with torchvision's transforms, for `streaming`: it runs in a Python that need not have cnnjax."""

from types import SimpleNamespace
from typing import Any

import torch
from torchvision import datasets
from torchvision.transforms import v2


def data_loader(folder: str, workers: int, normalized: bool = False) -> Any:
    """A loader's epochs, its worker processes kept; see `subject.Subject` for the fields.

    Args:
      folder: of a folder for each class.
      workers: processes.
      normalized: images as normalised float32, as torchvision's recipe for ImageNet has them; else uint8.
    """
    steps = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    if normalized:
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, v2.Compose(steps)),
        batch_size=64,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
    )

    def run(times: int) -> None:
        for _ in range(times):
            for _ in loader:
                pass

    images = sum(len(batch) for batch, _ in loader)
    return SimpleNamespace(tasks={"epoch": run}, parameters=images, device="CPU", device_memory=lambda: None)
