"""Callbacks that log a training to Weights & Biases or MLflow.

    cnnjax.train("quickstart", callbacks=[cnnjax.training.wandb_callback(project="digits", mode="offline")])

A resumed training continues the same W&B or MLflow run: its id is stored in the run directory, and no line is logged twice.
After an interruption the service shows the run as unfinished until it is resumed and finished.
"""

import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from cnnjax.core import files
from cnnjax.training.callbacks import Callback, Event
from cnnjax.training.run_directory import TRACKERS

# MLflow's limit on the number of parameters in one request.
MLFLOW_PARAMETERS = 100


def wandb_callback(**init: Any) -> Callback:
    """A callback that logs each line of `metrics.jsonl` to Weights & Biases; needs `pip install 'cnnjax[wandb]'`.

    The W&B run has the name of the run directory and the run's config. `mode="offline"` works without an account.

    Args:
      init: the arguments of `wandb.init`: project, entity, mode, dir, tags, ...
    """

    def start(event: Event, identity: str | None) -> tuple[str, Any]:
        import wandb

        identity = init.get("id") or identity or secrets.token_hex(4)
        known = {"name": event.workdir.name, "config": event.config.to_dict()}
        return identity, wandb.init(**{**known, "resume": "allow", "reinit": "finish_previous", **init, "id": identity})

    def log(run: Any, line: Mapping[str, float], step: int) -> None:
        run.log(dict(line), step=step)

    return _each_line_once("wandb", start, log, lambda run: run.finish())


def mlflow_callback(
    experiment: str = "cnnjax",
    *,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
) -> Callback:
    """A callback that logs the config and each line of `metrics.jsonl` to MLflow; needs `pip install 'cnnjax[mlflow]'`.

    Args:
      experiment: the name of the MLflow experiment, created if absent.
      run_name: the name of the MLflow run; None is the name of the run directory.
      tags: the tags of the MLflow run.
      tracking_uri: the location where MLflow stores runs; None is MLflow's own setting. A folder of files needs the
        environment variable MLFLOW_ALLOW_FILE_STORE=true from MLflow 3.7 on; "sqlite:///mlflow.db" needs SQLAlchemy and
        Alembic.
    """

    def start(event: Event, identity: str | None) -> tuple[str, Any]:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=tracking_uri)
        if identity is None:
            found = client.get_experiment_by_name(experiment)
            group = found.experiment_id if found else client.create_experiment(experiment)
            run = client.create_run(group, run_name=run_name or event.workdir.name, tags=dict(tags or {}))
            identity = run.info.run_id
            parameters = [Param(name, str(value)) for name, value in _flat(event.config.to_dict())]
            for first in range(0, len(parameters), MLFLOW_PARAMETERS):
                client.log_batch(identity, params=parameters[first : first + MLFLOW_PARAMETERS])
        client.update_run(identity, status="RUNNING")
        return identity, (client, identity)

    def log(run: Any, line: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        client, identity = run
        now = int(time.time() * 1000)
        client.log_batch(
            identity, [Metric(re.sub(r"[^\w\-. :/]", "_", key), value, now, step) for key, value in line.items()]
        )

    def end(run: Any) -> None:
        client, identity = run
        client.set_terminated(identity)

    return _each_line_once("mlflow", start, log, end)


def _each_line_once(
    name: str,
    start: Callable[[Event, str | None], tuple[str, Any]],
    log: Callable[[Any, Mapping[str, float], int], None],
    end: Callable[[Any], None],
) -> Callback:
    """A callback that logs each line of a training to a service once, however often the training is resumed.

    Args:
      name: the name of the service, under which the run directory stores the id of the service's run and the last logged
        step.
      start: a function (event, id of the service's run or None) -> (id, run).
      log: a function (run, numbers, step) that logs one line.
      end: a function that closes the run.
    """
    run: Any = None
    logged: tuple[int, bool] = (-1, False)  # the step, and whether its test line was logged too

    def callback(event: Event) -> None:
        nonlocal run, logged
        path, place = event.workdir / TRACKERS, (event.step, event.kind == "end")
        kept = files.read_json(path) if path.exists() else {}
        if event.kind == "begin":
            own = kept.get(name, {})
            logged = own.get("step", -1), own.get("ended", False)
            identity, run = start(event, own.get("id"))
            files.write_json(path, {**kept, name: {"id": identity, "step": logged[0], "ended": logged[1]}})
        elif event.line and place > logged:
            log(run, _numbers(event), event.step)
            logged = place
            files.write_json(path, {**kept, name: {**kept[name], "step": place[0], "ended": place[1]}})
        if event.kind == "end":
            end(run)

    return callback


def _numbers(event: Event) -> dict[str, float]:
    """The numbers to log from an event's line; for the test line the epoch is omitted, since it is already logged."""
    known = {"step", "epoch"} if event.kind == "end" else {"step"}
    return {key: value for key, value in event.line.items() if key not in known and isinstance(value, int | float)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The fields of a config as ("section.field", value)."""
    return [
        pair
        for key, value in values.items()
        for pair in (_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)])
    ]
