"""The layers of networks."""

from cnnjax.layers.activations import ActivationName, activation, scaled_tanh
from cnnjax.layers.channel_shuffle import channel_shuffle
from cnnjax.layers.conv_norm import ConvNorm
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense, output
from cnnjax.layers.dropout import DROPOUTS, Dropout, MaxDrop, SpatialDropout, StochasticDepth, StochasticDropout
from cnnjax.layers.filters import FILTERS, apply_filter
from cnnjax.layers.initializers import InitializerName, initializer
from cnnjax.layers.normalization import (
    BatchNorm,
    LayerNorm,
    LayerScale,
    caffe_local_response_norm,
    frozen_batch_norm,
    local_response_norm,
)
from cnnjax.layers.partial_convolution import PartialConv
from cnnjax.layers.pooling import PoolingName, flatten, max_pool, max_pools_averaged, pooling
from cnnjax.layers.separable_convolution import SeparableConv
from cnnjax.layers.squeeze_excitation import SqueezeExcitation
from cnnjax.layers.upsampling import (
    ConvTranspose,
    max_unpool,
    resize_bilinear,
    resize_nearest,
    upsample_bed_of_nails,
    upsample_bilinear,
    upsample_nearest,
)
from cnnjax.ops.pooling import (
    adaptive_average_pool,
    average_pool,
    global_average_pool,
    global_max_pool,
    min_pool,
)
from cnnjax.ops.storage import add

__all__ = [
    "DROPOUTS",
    "FILTERS",
    "ActivationName",
    "BatchNorm",
    "Conv",
    "ConvNorm",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "InitializerName",
    "LayerNorm",
    "LayerScale",
    "MaxDrop",
    "PartialConv",
    "PoolingName",
    "SeparableConv",
    "SpatialDropout",
    "SqueezeExcitation",
    "StochasticDepth",
    "StochasticDropout",
    "activation",
    "adaptive_average_pool",
    "add",
    "apply_filter",
    "average_pool",
    "caffe_local_response_norm",
    "channel_shuffle",
    "flatten",
    "frozen_batch_norm",
    "global_average_pool",
    "global_max_pool",
    "initializer",
    "local_response_norm",
    "max_pool",
    "max_pools_averaged",
    "max_unpool",
    "min_pool",
    "output",
    "pooling",
    "resize_bilinear",
    "resize_nearest",
    "scaled_tanh",
    "upsample_bed_of_nails",
    "upsample_bilinear",
    "upsample_nearest",
]
