"""Shared utilities: files, parameter paths, config options, random keys, runtime settings, terminal output."""
