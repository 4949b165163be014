"""A training loop of your own from the parts of cnnjax, with the same bits as `cnnjax.train`; it can be resumed too.

    python -m experiments.own_loop

The result is an ordinary run directory for `cnnjax.load_run`, `cnnjax report` and the rest. `cnnjax.train` adds a progress display,
signal handling (Ctrl-C saves), several processes, logs and checkpoints within an epoch, early stopping and the plateau schedule.
"""

import time
from pathlib import Path

import jax

import cnnjax
from cnnjax.runs import begin
from cnnjax.training import (
    RunRecord,
    add_up,
    build,
    choose_devices,
    compile_program,
    data_facts,
    epoch_line,
    in_use,
    write_lines,
)


def train(config, workdir, callbacks=()):
    """Trains a config in a directory and returns the run."""
    config, workdir = cnnjax.load_config(config), Path(workdir)
    devices, dataset = choose_devices(config.devices), cnnjax.load_dataset(config.dataset)
    experiment = build(config, data_facts(config, dataset))
    program = compile_program(config, experiment, dataset, devices)
    with in_use(workdir):
        if begin(config, workdir, dataset, experiment.facts, devices):  # False if the run is finished
            record = RunRecord(workdir, config, experiment, callbacks)
            with record:
                take_epochs(config, experiment, program, record)
            record.done()
    return cnnjax.load_run(workdir)


def take_epochs(config, experiment, program, record):
    """The loop: step, measure, write the line, save; `at` is the progress of the training."""
    at = record.resume(program.initial, program.shapes)
    at.state = program.place(at.state)
    record.begin(at)
    for epoch in range(at.step // experiment.steps_per_epoch, config.train.epochs):
        start, first, [sums] = time.perf_counter(), at.step, at.sums  # a resumed epoch already has sums
        for batch in program.feed(epoch, first % experiment.steps_per_epoch):
            at.state, of_batch = program.step(at.state, batch, epoch)
            at.step, sums = at.step + 1, add_up([jax.device_get(of_batch)], sums)
        speed, at.sums = (at.step - first) * config.train.batch_size / (time.perf_counter() - start), [None]
        rate, means = experiment.learning_rate(at.step), experiment.task.summarize(sums)
        [valid] = program.measure(at.state, "valid")
        write_lines(at, record, [epoch_line(at.step, epoch + 1, means, rate, speed) | valid], "epoch")
        record.save(at, measured=True)
    record.finish(program, at)


if __name__ == "__main__":
    cnnjax.configure_runtime()
    run = train("quickstart", "runs/own_loop")
    print(f"test accuracy {run.metrics['test/accuracy']:.4f}, run directory {run.workdir}")
