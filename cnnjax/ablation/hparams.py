"""The hyperparameters of a study's trials, for the HParams page of TensorBoard: `tensorboard --logdir STUDY`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.ablation.table import Table
from cnnjax.training.run_directory import TENSORBOARD
from cnnjax.training.tensorboard import SPLITS, place_of, summary_writer

# The end of the names of the files with hyperparameters alone.
SUFFIX = ".hparams"


def write_hyperparameters(folder: Path, table: Table, fields: Sequence[str]) -> None:
    """Writes the varied fields and the seed of each finished trial beside its event files, whose last values are its metrics.

    Args:
      folder: the folder of the study.
      table: the table of the study.
      fields: the config fields that vary.
    """
    finished = [record for record in table.trials if record["status"] == "finished"]
    metrics = [name for name in table.metrics if name.partition("/")[0] in SPLITS]
    for record in finished:
        events = folder / record["directory"] / TENSORBOARD
        if not events.is_dir():  # trained without TensorBoard, or elsewhere
            continue
        for path in events.glob(f"*{SUFFIX}"):
            path.unlink(missing_ok=True)
        writer = summary_writer()(str(events), filename_suffix=SUFFIX)
        for summary in session({name: record[name] for name in (*fields, "seed")}, metrics):
            writer.file_writer.add_summary(summary)
        writer.close()


def session(fields: Mapping[str, Any], metrics: Sequence[str]) -> list[Any]:
    """The three summaries that the HParams plugin reads: what varies, the values of a trial, and that it has ended.

    Args:
      fields: the fields of the trial with their values.
      metrics: the metrics, such as "test/accuracy".
    """
    from tensorboardX.proto import api_pb2, plugin_hparams_pb2
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    start, infos = plugin_hparams_pb2.SessionStartInfo(start_time_secs=time.time()), []
    for name, value in fields.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value, kind = value, "DATA_TYPE_BOOL"
        elif isinstance(value, int | float):
            start.hparams[name].number_value, kind = float(value), "DATA_TYPE_FLOAT64"
        else:
            start.hparams[name].string_value, kind = str(value), "DATA_TYPE_STRING"
        infos.append(api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(kind)))
    found = []
    for metric in metrics:
        split, tag = place_of(metric)
        found.append(api_pb2.MetricInfo(name=api_pb2.MetricName(group=split, tag=tag), display_name=metric))
    end = plugin_hparams_pb2.SessionEndInfo(status=api_pb2.Status.Value("STATUS_SUCCESS"), end_time_secs=time.time())
    contents = {
        "experiment": {"experiment": api_pb2.Experiment(hparam_infos=infos, metric_infos=found)},
        "session_start_info": {"session_start_info": start},
        "session_end_info": {"session_end_info": end},
    }
    summaries = []
    for tag, content in contents.items():
        data = plugin_hparams_pb2.HParamsPluginData(version=0, **content).SerializeToString()
        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
        summaries.append(
            Summary(value=[Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))])
        )
    return summaries
