"""`cnnjax train`: trains a config, or resumes a run."""

import argparse
from pathlib import Path
from typing import Any

from cnnjax.commands import next_steps
from cnnjax.commands.arguments import add_config, add_workdir
from cnnjax.core.terminal import say

HELP = "train a config, or resume a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `train`."""
    add_config(parser, required=False)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="a folder of photographs, a table or a file of arrays, instead of the config's data; without --config the config is `my_photos`",
    )
    add_workdir(parser, "the run directory (default: runs/<config name>)")
    parser.add_argument("--overwrite", action="store_true", help="delete an existing run in the directory")
    parser.add_argument(
        "--allow-changed-files",
        action="store_true",
        help="resume although your own files have changed since the run was started",
    )
    parser.add_argument(
        "--check-replicas", action="store_true", help="compare the devices' states after each epoch (debugging)"
    )
    several = parser.add_argument_group("several processes", "not needed under SLURM and on TPU pods")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="the address of the first process")
    several.add_argument("--processes", type=int, metavar="N", help="the number of processes")
    several.add_argument("--process-id", type=int, metavar="I", help="the index of this process, from 0")
    several.add_argument("--wait", type=float, metavar="SECONDS", help="how long to wait for the others (default: 30)")
    parser.epilog = (
        "Any config field can be set, such as --config.optimizer.learning_rate=0.05; `cnnjax fields` lists them."
    )


def run(options: argparse.Namespace) -> None:
    """Trains the config, and prints the test metrics and the next commands."""
    from cnnjax import runs
    from cnnjax.training import processes
    from cnnjax.training.interruption import Interrupted

    name, config = _config(options)
    processes.start(options.coordinator, options.processes, options.process_id, options.wait)
    workdir = options.workdir or runs.free_directory(name, config)
    if processes.is_first():
        say(f"run directory: {workdir}")
    try:
        trained = runs.train(
            config,
            workdir,
            check_replicas=options.check_replicas,
            overwrite=options.overwrite,
            allow_changed_files=options.allow_changed_files,
        )
    except Interrupted as stop:
        stop.args = (f"{stop}; resume with: {next_steps.command('train', '--workdir', workdir)}",)
        raise
    if not processes.is_first():
        return
    metrics = trained.metrics
    first = config.evaluate.metric or trained.task.monitor
    tested = [name.removeprefix("test/") for name in metrics if name.startswith("test/") and name != "test/nll"]
    shown = [f"{name} {metrics[f'test/{name}']:.4f}" for name in dict.fromkeys([first, "loss", *tested])]
    say(
        f"test {', '.join(shown)} (checkpoint of step {metrics['checkpoint']} of {metrics['step']})\n"
        f"next: {next_steps.command('report', workdir)}\n"
        f"      {next_steps.command('evaluate', '--workdir', workdir)}\n"
        f"      {next_steps.predict_command(workdir, config.dataset.name)}"
    )


def _config(options: argparse.Namespace) -> tuple[str, Any]:
    """What is trained: a name for its run directory, and its config."""
    from cnnjax.config import config_name, load_config, load_module
    from cnnjax.training.run_directory import CONFIG, is_run

    data, source = options.data, options.config
    if data is not None and not data.expanduser().exists():
        raise FileNotFoundError(
            f"--data {data}: there is no such folder or file in {Path.cwd()}; a data set by name is --config.dataset.name, with a "
            "--config"
        )
    overrides = options.overrides if data is None else {"dataset.name": str(data), **options.overrides}
    if source is None and data is not None:
        path = data.expanduser().resolve()
        given = load_module("my_photos")[0].get_config(str(data))
        return path.name if path.is_dir() else path.stem, load_config(given, overrides)
    if source is None:
        if options.workdir is None or not is_run(options.workdir):
            raise ValueError(
                "no config: use --config FILE (start with `--config quickstart`), --data FOLDER of photographs, "
                "or --workdir of a run to resume"
            )
        source = str(options.workdir / CONFIG)
    return config_name(source), load_config(source, overrides)
