"""Checkpoints that are damaged, half written, hostile or of another run."""

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_job
from test_resume import session

from maskbench.checkpoint import SCHEMA, Checkpoints, parse
from maskbench.errors import StoreError, UsageError
from maskbench.results import write_json
from maskbench.session import load


def saved(folder: Path, *steps: int) -> Checkpoints:
    """Checkpoints of some steps."""
    found = Checkpoints(folder)
    for step in steps:
        found.save(step, {"step": step, "values": torch.arange(1000.0) + step})
        found.wait()
    return found


def test_two_good_ones_stay_and_leftovers_go(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    (checkpoints.folder / ".step-000000000009.pt.77.tmp").write_bytes(b"torn")
    (checkpoints.folder / "step-000000000009.pt").write_bytes(b"without a manifest")
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 2
    saved(tmp_path, 3)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == [f"step-00000000000{n}.{end}" for n in (2, 3) for end in ("json", "pt")]


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
        lambda path: path.write_bytes(
            path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 128])
        ),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text("[1]"),
        lambda path: path.with_suffix(".json").write_text('{"schema": 1, "step": "x"}'),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, harm: Any) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    harm(checkpoints.folder / "step-000000000002.pt")
    said: list[str] = []
    newest = checkpoints.newest(said.append)
    assert newest is not None
    assert parse(newest.payload)["step"] == 1
    assert len(said) == 1
    assert "step-000000000002" in said[0]
    harm(checkpoints.folder / "step-000000000001.pt")
    assert checkpoints.newest(said.append) is None


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        *(("write", 1), ("write", 2), ("fsync", 1), ("fsync", 3), ("replace", 1)),
        *(("replace", 2), ("replace", 3), ("manifest", 1), ("manifest", 2)),
    ],
)
def test_death_between_two_calls_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    """Whatever call is the last one, a checkpoint loads, and it is one that was written."""
    saved(tmp_path, 1)
    calls = 0

    def dying(real: Any) -> Any:
        def call_or_die(*words: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth:
                raise StoreError("full") if call == "manifest" else OSError(28, "full")
            return real(*words, **named)

        return call_or_die

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", dying(os.fsync))
    elif call == "replace":
        monkeypatch.setattr(Path, "replace", dying(Path.replace))
    elif call == "write":
        monkeypatch.setattr(torch, "save", dying(torch.save))
    else:
        name = "maskbench.checkpoint.write_json"
        monkeypatch.setattr(name, dying(write_json))
    checkpoints = Checkpoints(tmp_path)

    def save_twice() -> None:
        for step in (2, 3):
            checkpoints.save(step, {"step": step})
            checkpoints.wait()

    with pytest.raises(StoreError, match=r"full|no space is left"):
        save_twice()
    newest = Checkpoints(tmp_path).newest()
    assert newest is not None
    assert parse(newest.payload)["step"] == newest.step


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickled_checkpoint_runs_no_code(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    for payload in (pickle.dumps(Trap(tmp_path / "sprung")), b"PK\x03\x04", b"\x80\x02}q."):
        path = checkpoints.folder / "step-000000000001.pt"
        path.write_bytes(payload)
        facts = {"schema": SCHEMA, "step": 1, "bytes": len(payload)}
        digest = hashlib.sha256(payload).hexdigest()
        path.with_suffix(".json").write_text(json.dumps({**facts, "sha256": digest}))
        with pytest.raises(StoreError, match="not a checkpoint"):
            load(tmp_path, {}, print)
    assert not (tmp_path / "sprung").exists()


def test_a_newer_schema_and_changed_settings_are_refused(tmp_path: Path) -> None:
    work = session(tmp_path / "run", make_job(budget="3step"))
    work.work()
    with pytest.raises(UsageError, match=r"seed was 0 and is 1.*--fresh"):
        load(work.folder, {"seed": 1}, print)
    (manifest,) = (work.folder / "checkpoints").glob("*.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": SCHEMA + 1}))
    with pytest.raises(StoreError, match=r"schema 2.*--fresh"):
        load(work.folder, {"seed": 0}, print)


def test_moments_of_a_course_not_gone_on_with_are_removed(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "moments", kept=None)
    for step in (0, 4, 9):
        kept.save(step, {"step": step})
    kept.wait()
    assert [one.step for one in kept.whole(oldest_first=True)] == [0, 4, 9]
    kept.forget(4)
    assert [one.step for one in kept.whole()] == [4, 0]
    assert len(list(kept.folder.iterdir())) == 4
