"""Small runs that tell trackers, and what TensorBoard and Weights & Biases then hold."""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_run import SMALL

from maskbench import runner
from maskbench.care import Care
from maskbench.events import Silent
from maskbench.results import Store, mean_accuracy, read_metrics, read_record
from maskbench.spec import Request


class Notes(Silent):
    """Keeps what must be said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def go(
    root: Path,
    pictures: Path,
    *track: str,
    say: Silent | None = None,
    every: float = 600.0,
    **changes: Any,
) -> runner.Result:
    given = {"strategy": "random", "data": f"folder:{pictures}", **SMALL, **changes}
    store, care = Store(root), Care(every, moments=False, track=track)
    return runner.run(Request(**given), store, say or Silent(), care=care)


def scalars(folder: Path) -> tuple[dict[str, dict[int, float]], dict[str, str]]:
    """What TensorBoard shows: numbers by name and step, and texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read: Any = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    tags = read.Tags()
    found = {name: read.Scalars(name) for name in tags["scalars"]}
    for name, events in found.items():
        assert len({event.step for event in events}) == len(events), f"{name} twice at a step"
    texts = {name: read.Tensors(name)[0].tensor_proto.string_val[0] for name in tags["tensors"]}
    return (
        {name: {event.step: event.value for event in events} for name, events in found.items()},
        {name: text.decode() for name, text in texts.items()},
    )


def shown(folder: Path) -> None:
    """TensorBoard shows the lines of a finished run, its accuracies and its ledger, in float32."""
    found, texts = scalars(folder)
    rows, record = read_metrics(folder), read_record(folder)
    assert len(rows) == 8
    for row in rows:
        for name, value in row.items():
            if name != "step":
                assert found[name].pop(row["step"]) == np.float32(value), (row["step"], name)
    last = record["budget"]["steps"]
    accuracy = mean_accuracy(record["probes"], "logreg", 4, "patchmean")
    ends = {name: values.pop(last) for name, values in found.items() if last in values}
    assert not any(found.values())
    assert ends["probes/patchmean/logreg/n=4"] == pytest.approx(accuracy)
    assert {"probes/untrained/logreg/n=4", "probes/pixels/knn20"} <= set(ends)
    assert ends["ledger/flops_total"] == np.float32(record["ledger"]["flops_total"])
    assert all(math.isfinite(value) for value in ends.values())
    assert f"| strategy | {record['strategy']['name']} |" in texts["settings/text_summary"]


def history(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any], Any]:
    """Rows, config and summary of all Weights & Biases files of a run, and its last header."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # as at the end of a process: its service has then written all

    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    header: Any = None
    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert files
    for path in files:
        for data in records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                rows.append(values(record.history.item))
            elif kind == "summary":
                summary |= values(record.summary.update)
            elif kind == "run":
                header = record.run
                config |= values(record.run.config.update)
            elif kind == "config":
                config |= values(record.config.update)
    return rows, config, summary, header


def records(data: bytes) -> Iterator[bytes]:
    """What a file of Weights & Biases holds: 7 bytes, then a LevelDB log in blocks of 32 KiB."""
    assert data[:4] == b":W&B"
    at, parts, block = 7, b"", 32768
    while at + 7 <= len(data):
        if block - at % block < 7:  # no room for a head: the block is filled up
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
