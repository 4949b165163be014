"""What a run of any task is tested for: exact sums on any number of devices, and the same bits after a kill."""

import contextlib
import json
import shutil

import jax
import numpy as np

import cnnjax
from cnnjax.training import evaluation, run_directory
from cnnjax.training.experiment import prepared_views
from cnnjax.training.parallel import program_over_devices, replicate
from cnnjax.training.step import evaluation_inputs, evaluation_step


def metrics_on(run, split, devices, batch_size=40):
    """A run's metrics of a split, measured on these devices in batches that leave a partial one."""
    statistics, shape = run_directory.read_statistics(run.described), tuple(run.described["image_shape"])
    [central] = prepared_views(run.config, statistics, run.facts.outputs, shape, "one", run.facts.image_dtype)
    step = evaluation_step(run.model, run.task, evaluation_inputs(run.task, central, run.config.seed))
    compiled = program_over_devices(step, run.config.train.ops, devices)
    sums = evaluation.evaluate(compiled, replicate(run.selected.variables, devices), split, batch_size, devices)
    return run.task.summarize(sums)


def timeless(workdir):
    """The lines of a run's history without times."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def assert_compiled_in_the_first_epoch(train):
    """The first step compiles the training step, the end of the first epoch the evaluation, and nothing else is compiled.

    Args:
      train: a function that trains three epochs or more, with `log.every_steps=1`, with the given callbacks.
    """
    names, steps, epochs = [], [], []

    def mark(event):
        if event.kind in ("step", "epoch"):
            (steps if event.kind == "step" else epochs).append(len(names))

    def listen(event, seconds, fun_name="", **_):
        if event.endswith("backend_compile_duration"):
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train(callbacks=[mark])
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(epochs) >= 3 and len(set(epochs)) == 1, names[epochs[0] :]
    assert len(steps) > 10 and set(steps) == {steps[0], epochs[0]}, names[
        steps[0] :
    ]  # those of the first epoch and later ones


def copy_if_there(source, target):
    """Copies a file, unless TensorStore has renamed it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


def assert_resumes_to_the_same_bits(run, dataset, folder):
    """What a kill within the second epoch leaves, which is the directory of that moment, is resumed to the same run."""

    def copy(event):
        if event.kind == "saved" and event.step == 60:
            shutil.copytree(event.workdir, folder / "killed", copy_function=copy_if_there)

    cnnjax.train(run.config, folder / "whole", dataset=dataset, callbacks=[copy])
    assert not (folder / "killed" / "DONE").exists() and len(timeless(folder / "killed")) == 1
    resumed = cnnjax.train(run.config, folder / "killed", dataset=dataset)
    assert timeless(folder / "killed") == timeless(folder / "whole") == timeless(run.workdir)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, run.state)
