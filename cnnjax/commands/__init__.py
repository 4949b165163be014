"""The subcommands of `cnnjax`, one a file, each a thin layer over functions that a notebook can call.

A command's file has its one-line help `HELP`, its arguments `add_arguments(parser)` and its call `run(options)`; cli.py lists
its name. At its top it imports nothing heavy, so that `cnnjax --help` answers at once: the library is imported in `run`.
"""
