"""Compiling for devices that are not here: memory, operations, collectives, and a bound on the time of a step."""
