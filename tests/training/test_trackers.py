"""The callbacks for Weights & Biases and MLflow, by what their own clients wrote."""

import json
import shutil
import struct

import pytest

import cnnjax
from cnnjax.training import mlflow_callback, wandb_callback


@pytest.fixture
def config(digits_config):
    small = {"name": "digits", "examples_per_class": 20}
    return cnnjax.load_config(
        {**digits_config, "dataset": small, "train": {"batch_size": 16, "epochs": 3}},
        {"log.every_steps": 5, "checkpoint.every_steps": 4},
    )


def fail_at(step):
    """Stops a run after its line of a step is logged and before it is saved there, as a kill may."""

    def callback(event):
        if event.step == step and event.kind == "step":
            raise LookupError

    return callback


def expected(run):
    """{step: its numbers} of `metrics.jsonl`; the test's line is of the last epoch's step."""
    steps = {}
    for line in run.history:
        steps.setdefault(line["step"], {}).update({key: value for key, value in line.items() if key != "step"})
    return steps


def wandb_records(path):
    """The records of a .wandb file: LevelDB's log format, a protocol buffer each."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def wandb_history(folder):
    """The ids, configs and the rows (step, numbers) of all offline runs below a folder, in order of their starts."""
    ids, configs, rows = [], [], []
    for path in sorted(folder.glob("*/wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_ctime):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "run":
                ids.append(record.run.run_id)
                configs.append({item.key: json.loads(item.value_json) for item in record.run.config.update})
            if record.WhichOneof("record_type") == "history":
                row = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item
                }
                rows.append((row["_step"], {key: value for key, value in row.items() if not key.startswith("_")}))
    return ids, configs, rows


def test_wandb_has_each_line_once_in_one_run_over_resumed_starts_and_another_once_overwritten(config, tmp_path):
    pytest.importorskip("wandb")

    def tracked(start):
        # W&B names an offline run's folder by the second, so that two starts of one id within a second would share it.
        (folder := tmp_path / start).mkdir()
        return wandb_callback(project="digits", mode="offline", dir=str(folder))

    with pytest.raises(LookupError):
        cnnjax.train(config, tmp_path / "run", callbacks=[tracked("first"), fail_at(5)])
    # A kill would leave the checkpoint before the logged line as the last.
    run = resumed_from(4, config, tmp_path / "run", tracked("resumed"))
    ids, configs, rows = wandb_history(tmp_path)
    assert len(ids) == 2 and len(set(ids)) == 1
    assert all(one["optimizer"]["learning_rate"] == 0.05 for one in configs)
    assert [step for step, _ in rows] == sorted(expected(run))
    for step, row in rows:
        assert row == pytest.approx(expected(run)[step])
    once = cnnjax.load_config(config, {"train.epochs": 1})
    cnnjax.train(once, tmp_path / "run", callbacks=[tracked("overwritten")], overwrite=True)
    others, _, _ = wandb_history(tmp_path)
    assert others[:2] == ids and len(set(others)) == 2


def resumed_from(step, config, workdir, callback):
    for path in (workdir / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)
    return cnnjax.train(config, workdir, callbacks=[callback])


@pytest.mark.filterwarnings("ignore:.*loader strategy is deprecated")  # MLflow's use of SQLAlchemy
@pytest.mark.parametrize("store", ["files", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_mlflow_has_each_line_once_in_one_run_over_resumed_starts(config, store, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    if store == "sqlite":
        pytest.importorskip("sqlalchemy"), pytest.importorskip("alembic")
    uri = {"files": (tmp_path / "store").as_uri(), "sqlite": f"sqlite:///{tmp_path}/mlflow.db"}[store]
    tracked = lambda: mlflow_callback("digits", tags={"kind": "test"}, tracking_uri=uri)  # noqa: E731
    with pytest.raises(LookupError):
        cnnjax.train(config, tmp_path / "run", callbacks=[tracked(), fail_at(5)])
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("digits").experiment_id
    [stopped] = client.search_runs([experiment])
    assert stopped.info.status == "RUNNING" and stopped.data.metrics["train/batch_loss"] > 0
    run = resumed_from(4, config, tmp_path / "run", tracked())
    [found] = client.search_runs([experiment])
    assert (found.info.status, found.info.run_name, found.data.tags["kind"]) == ("FINISHED", "run", "test")
    assert found.data.params["optimizer.learning_rate"] == "0.05" and found.data.params["model.name"] == "mlp"
    steps = {}
    for key in found.data.metrics:
        for metric in client.get_metric_history(found.info.run_id, key):
            assert key not in steps.setdefault(metric.step, {}), "logged twice"
            steps[metric.step][key] = metric.value
    lines = expected(run)
    assert steps.keys() == lines.keys()
    for step, row in steps.items():
        assert row.keys() == lines[step].keys()
        assert row == pytest.approx(lines[step])
