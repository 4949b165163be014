"""PyTorch: the same networks as `torch.nn` modules, eager or compiled, in either memory format."""

import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.networks import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Halved,
    Layer,
    LayerNorm,
    Layers,
    LayerScale,
    MaxPool,
    Parallel,
    Part,
    Pointwise,
    Repeated,
    Residual,
    Shuffle,
    SqueezeExcitation,
    network_of,
)
from experiments.benchmarks.subject import LEARNING_RATE, MOMENTUM, Precision, Subject, check_finite, random_batch


class _Parallel(nn.Module):
    def __init__(self, branches: tuple[Layers, ...]):
        super().__init__()
        self.branches = nn.ModuleList(_chain(branch) for branch in branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class _Residual(nn.Module):
    def __init__(self, body: Layers, shortcut: Layers, relu: bool):
        super().__init__()
        self.body, self.shortcut, self.relu = _chain(body), _chain(shortcut), relu
        if isinstance(self.body[0], nn.ReLU):
            self.body[0].inplace = False  # the shortcut needs what comes before it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        y += self.shortcut(x)
        return functional.relu(y, inplace=True) if self.relu else y


class _Halved(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.features - x.shape[1]))


class _Part(nn.Module):
    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.chunk(2, 1)[self.number]


class _ChannelsLast(nn.Module):
    """A module of the last axis, for the channels, as torchvision's ConvNeXt has it."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if x.ndim == 4 else self.module(x)


class _LazyLayerNorm(nn.modules.lazy.LazyModuleMixin, nn.LayerNorm):
    """Layer normalisation of the last axis, whose size its first input gives."""

    cls_to_become = nn.LayerNorm

    def __init__(self):
        super().__init__((0,), eps=1e-6)
        self.weight, self.bias = nn.UninitializedParameter(), nn.UninitializedParameter()

    def initialize_parameters(self, x: torch.Tensor) -> None:
        if self.has_uninitialized_params():
            self.normalized_shape = x.shape[-1:]
            self.weight.materialize(self.normalized_shape)
            self.bias.materialize(self.normalized_shape)
            self.reset_parameters()


class _LazyLayerScale(nn.modules.lazy.LazyModuleMixin, nn.Module):
    def __init__(self, initial: float):
        super().__init__()
        self.initial, self.weight = initial, nn.UninitializedParameter()

    def initialize_parameters(self, x: torch.Tensor) -> None:
        if self.has_uninitialized_params():
            self.weight.materialize((x.shape[1], 1, 1))
            nn.init.constant_(self.weight, self.initial)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


class _SqueezeExcitation(nn.Module):
    def __init__(self, squeezed: int, channels: int, hidden: Activation, gate: Activation):
        super().__init__()
        self.factors = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), _module(hidden)),
            *(nn.Conv2d(squeezed, channels, 1), _module(gate)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors(x)


_IN_PLACE = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
}


def _module(layer: Layer) -> nn.Module:
    match layer:
        case Conv(features, size, strides, padding, bias, groups):
            return nn.LazyConv2d(features, size, strides, padding, groups=groups, bias=bias)
        case BatchNorm():
            return nn.LazyBatchNorm2d(eps=1e-5, momentum=0.1)
        case LayerNorm():
            return _ChannelsLast(_LazyLayerNorm())
        case LayerScale(initial):
            return _LazyLayerScale(initial)
        case Activation("tanh"):
            return nn.Tanh()
        case Activation("gelu"):
            return nn.GELU()
        case Activation("sigmoid"):
            return nn.Sigmoid()
        case Activation(name):
            return _IN_PLACE[name](inplace=True)
        case MaxPool(size, strides, padding):
            return nn.MaxPool2d(size, strides, padding)
        case AveragePool(size, strides, padding):
            return nn.AvgPool2d(size, strides, padding)
        case GlobalAveragePool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten():
            return nn.Flatten()
        case Dense(features):
            return nn.LazyLinear(features)
        case Pointwise(features):
            return _ChannelsLast(nn.LazyLinear(features))
        case SqueezeExcitation(squeezed, channels, hidden, gate):
            return _SqueezeExcitation(squeezed, channels, hidden, gate)
        case Dropout(rate):
            return nn.Dropout(rate)
        case Halved(features):
            return _Halved(features)
        case Repeated(times):
            return nn.Upsample(scale_factor=times)
        case Part(number):
            return _Part(number)
        case Shuffle(groups):
            return nn.ChannelShuffle(groups)
        case Parallel(branches):
            return _Parallel(branches)
        case Residual(body, shortcut, relu):
            return _Residual(body, shortcut, relu)


def _chain(layers: Layers) -> nn.Sequential:
    return nn.Sequential(*map(_module, layers))


def build(layers: Layers, image_shape: tuple[int, int, int], device: str) -> nn.Module:
    """A described network for images of (height, width, channel), on a device ("meta": its shapes alone)."""
    height, width, channels = image_shape
    with torch.device(device), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # lazy layers, which see for themselves how many channels come in, are called new
        module = _chain(layers).eval()
        module(torch.zeros(1, channels, height, width))
    return module


def count(module: nn.Module) -> int:
    """Trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def subject(network: str, purpose: str, precision: Precision, channels_last: bool, compiled: bool) -> Subject:
    """A network in PyTorch.

    Args:
      network: of `NETWORKS`.
      purpose: of `PURPOSES`.
      precision: float32, in which a GPU may round products to TF32, as JAX lets it; or bfloat16 by autocast.
      channels_last: the memory format of images and kernels.
      compiled: by `torch.compile`, anew for each shape.
    """
    timed, device = network_of(network), "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    module = build(timed.describe(), timed.image_shape, device).to(memory_format=memory_format)
    parameters = count(module)
    model = torch.compile(module, dynamic=False) if compiled else module
    images, labels = random_batch(timed, timed.batch_size)
    images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    images = images.to(device).contiguous(memory_format=memory_format)
    labels = torch.from_numpy(labels).long().to(device)
    mixed = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if purpose == "train":
        module.train()
        optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE, MOMENTUM)

        def train(times: int) -> None:
            loss = None
            for _ in range(times):
                optimizer.zero_grad()
                with mixed:
                    loss = functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
            wait()
            check_finite(loss.item())

        tasks = {"train": train}
    else:
        one = images[:1].clone(memory_format=memory_format)

        def latency(times: int) -> None:
            with torch.inference_mode(), mixed:
                for _ in range(times):
                    model(one)
                    wait()

        def throughput(times: int) -> None:
            with torch.inference_mode(), mixed:
                for _ in range(times):
                    model(images)
                wait()

        tasks = {"latency": latency, "throughput": throughput}
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return Subject(tasks, parameters, name, torch.cuda.max_memory_allocated if device == "cuda" else lambda: None)
