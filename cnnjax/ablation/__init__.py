"""Studies compare many runs: search spaces, trials, tables and searches."""
