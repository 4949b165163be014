"""torchvision's ResNets and VGGs when predicting, in PyTorch: read off the names and shapes of their state dicts."""

import torch
import torch.nn.functional as F


def resnet(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Logits; the stride is on the 3x3 of a bottleneck."""
    x = torch.relu(_norm(weights, "bn1", F.conv2d(x, weights["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    blocks = {name.rsplit(".", 2)[0] for name in weights if name.startswith("layer") and name.endswith(".conv1.weight")}
    for block in sorted(blocks, key=lambda name: [int(part) for part in name.removeprefix("layer").split(".")]):
        first, rest = block.removeprefix("layer").split(".")
        stride = 2 if rest == "0" and first != "1" else 1
        convs = [number for number in (1, 2, 3) if f"{block}.conv{number}.weight" in weights]
        y = x
        for number in convs:
            kernel = weights[f"{block}.conv{number}.weight"]
            step = stride if number == len(convs) - 1 else 1
            y = F.conv2d(y, kernel, stride=step, padding=kernel.shape[-1] // 2)
            y = _norm(weights, f"{block}.bn{number}", y)
            y = torch.relu(y) if number < len(convs) else y
        if f"{block}.downsample.0.weight" in weights:
            x = F.conv2d(x, weights[f"{block}.downsample.0.weight"], stride=stride)
            x = _norm(weights, f"{block}.downsample.1", x)
        x = torch.relu(x + y)
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


def vgg(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Logits; a pooling takes a number of `features`, as a ReLU does after each convolution and normalisation."""
    index = 0
    while f"features.{index}.weight" in weights:
        while f"features.{index}.weight" in weights:
            layer = f"features.{index}"
            if weights[f"{layer}.weight"].ndim == 4:
                x = F.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=1)
            else:
                x = _norm(weights, layer, x)
            index += 1
            if f"features.{index}.weight" not in weights:
                x, index = torch.relu(x), index + 1
        x, index = F.max_pool2d(x, 2), index + 1
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for number in (0, 3, 6):
        x = F.linear(x, weights[f"classifier.{number}.weight"], weights[f"classifier.{number}.bias"])
        x = torch.relu(x) if number < 6 else x
    return x


def _norm(weights: dict[str, torch.Tensor], layer: str, x: torch.Tensor) -> torch.Tensor:
    mean, var = weights[f"{layer}.running_mean"], weights[f"{layer}.running_var"]
    return F.batch_norm(x, mean, var, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
