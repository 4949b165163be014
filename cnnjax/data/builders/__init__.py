"""Our own TFDS builders: the embedded digits, points in the plane, and a folder of images."""
