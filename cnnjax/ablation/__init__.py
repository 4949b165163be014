"""Many runs compared: what is varied, the trials of a study, its table, searches."""
