"""Export of a run as a file that other programs read, and that needs neither the run's config nor its data."""
