"""Published figures of architectures; each model file ends with the rows of its networks."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn

# Image shape and number of classes; 520 is the size that torchvision's networks for segmentation are measured at, 21 are VOC's
# twenty and the background.
IMAGENET, CIFAR, VOC = ((224, 224, 3), 1000), ((32, 32, 3), 10), ((520, 520, 3), 21)
# Of torchvision's detectors: 800 is the length of an image's shorter side, 91 the numbers of COCO's categories from 0, which is none.
COCO = ((800, 800, 3), 91)
# The mean and standard deviation of each channel, for pixels from 0 to 1, by which the input of most of torchvision's networks is
# normalised, and those of the others.
IMAGENET_MEAN, IMAGENET_STD, HALF = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (0.5, 0.5, 0.5)
# The numbers of a `ConvNorm`'s layers in torchvision.
CONV_NORM = {"conv": 0, "bn": 1}
# torchvision's names of weights.
V1, V2, V_VOC, V_COCO = "IMAGENET1K_V1", "IMAGENET1K_V2", "COCO_WITH_VOC_LABELS_V1", "COCO_V1"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A weight file of torchvision's, for a network for classification by default.

    Attributes:
      network: torchvision's name of the network.
      name: torchvision's name of the weights.
      file: the file's name, with the beginning of its SHA-256.
      mebibytes: its size.
      top1: the accuracy on ImageNet's validation split, one central crop, in percent; None for other tasks.
      top5: the share of images whose class is among the five most probable, in percent; None for other tasks.
      resize: the length to which the image's shorter side is resized before the crop.
      crop: the height and width of the central crop.
      mean: the mean of each channel by which images are normalised.
      std: the standard deviation of each channel by which images are normalised.
      mean_iou: the mean IoU of a network for segmentation on the part of COCO val2017 with VOC's labels, in percent.
      pixel_accuracy: the share of pixels there whose class is right, in percent.
      box_map: the average precision of a detector's boxes on COCO val2017, in percent.
      options: options of the network with which the weights were trained, other than its own.
      empty: the beginning of the names of tensors that hold no numbers in the file (NaN), so that the weights are an encoder's only.
    """

    network: str
    name: str
    file: str
    mebibytes: int
    top1: float | None = None
    top5: float | None = None
    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    mean_iou: float | None = None
    pixel_accuracy: float | None = None
    box_map: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    empty: str = ""


@dataclasses.dataclass(frozen=True)
class Torchvision:
    """The equal network of torchvision, and the names and layouts of its tensors.

    Attributes:
      name: torchvision's name of the network.
      module: torchvision's name of a layer, from the layer's path in our network: ("conv2_1", "bn1") -> "layer1.0.bn1".
      output: the path of the output layer, whose bias has numbers for each class.
      flattened: the size of the map that is flattened before a dense layer, by the layer's name; torchvision flattens channels
        first, cnnjax channels last.
      older: a pattern of tensors' names in older files, and its replacement; None where all files have the same names.
      outputs_per_class: the numbers for each class of the output layer's bias.
      background: whether the output layer has a class for background besides those of the network.
    """

    name: str
    module: Callable[[tuple[str, ...]], str]
    output: tuple[str, ...]
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    older: tuple[str, str] | None = None
    outputs_per_class: int = 1
    background: bool = False


@dataclasses.dataclass(frozen=True)
class Keras:
    """The equal network of `keras.applications`, whose weights can be imported.

    Attributes:
      name: Keras's name of the network.
      layers: the paths of our layers, those of each kind (convolution, separable convolution, normalisation, dense) in Keras's order.
      mean: the mean of each channel, for pixels from 0 to 1, by which the input of the published weights is normalised.
      std: the standard deviation of each channel by which it is normalised.
      bgr: whether the published weights take blue, green and red, in this order.
    """

    name: str
    layers: Sequence[tuple[str, ...]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


# The input of Caffe's networks: pixels from 0 to 255 less ImageNet's mean, blue first.
CAFFE = {"mean": (123.68 / 255, 116.779 / 255, 103.939 / 255), "std": (1 / 255,) * 3, "bgr": True}


@dataclasses.dataclass(frozen=True)
class Published:
    """A model with the figures of its source.

    Attributes:
      build: the class of the Flax module, possibly with some of its fields set.
      image_shape: the height, width and channels of an image.
      num_classes: the number of classes.
      source: the source of the model.
      parameters: the published number of parameters in prediction, with the published precision.
      macs: the published number of multiply-adds for one image, with the published precision.
      result: the published accuracy or error, with its data set.
      counts: the parameters in prediction and the multiply-adds of this implementation for such an image, as counted by
        `cnnjax.summarize(name)`; with None the listing of models counts them each time.
      task: the task of the network: "classification", with logits (batch, class), "segmentation", with logits (batch, height,
        width, class) of the size of the images, or "detection", with the methods `losses` and `detections`.
      encoder: the name of the network whose feature maps a network for another task is built on, if it is one of ours.
      torchvision: the equal network of torchvision, if there is one, whose weights can be imported and exported.
      keras: the equal network of `keras.applications`, if there is one, whose weights can be imported.
    """

    build: Callable[..., nn.Module]
    image_shape: tuple[int, int, int]
    num_classes: int
    source: str
    parameters: int | None = None
    macs: int | None = None
    result: str = ""
    counts: tuple[int, int] | None = None
    task: str = "classification"
    encoder: str = ""
    torchvision: Torchvision | None = None
    keras: Keras | None = None
