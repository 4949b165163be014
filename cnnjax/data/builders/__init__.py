"""Our own TFDS builders: the embedded digits and a folder of images."""
