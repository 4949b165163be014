"""The arithmetic of layers as functions."""
