"""The operations of layers as functions: convolution and pooling, with JAX's own and faster implementations."""
