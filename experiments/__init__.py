"""Studies, one a file: `python -m experiments.NAME` trains what it compares and writes its table."""
