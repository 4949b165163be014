"""Out of the framework: a run as a file that other programs read, and that needs neither its config nor its data."""
