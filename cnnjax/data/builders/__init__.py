"""Our own TFDS builders: the embedded digits, points in the plane, drawn signs, an installed package's solar cells, a folder of images."""
