"""Our own TFDS builders: the embedded digits, points in the plane, drawn signs, and a folder of images."""
