"""The subcommands of `cnnjax`, one per file, each a thin layer over functions that a notebook can call.

The file of a command defines its one-line help `HELP`, its arguments `add_arguments(parser)` and its call `run(options)`;
cli.py lists its name. It imports the library only within `run`, so that `cnnjax --help` answers at once.
"""
