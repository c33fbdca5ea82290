"""Whole benchmarks of real, tiny runs: failures, kills, two at once, what is the same as alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_run import pictures

from maskbench.errors import OK, STOPPED
from maskbench.results import Store, read_record

__all__ = ["pictures"]

pytestmark = pytest.mark.slow

MINE = """
import os, signal
from maskbench.strategy import Mask, MaskStrategy

class Plain(MaskStrategy):
    family, source = "data-free", "ours"
    summary = "hides whatever noise says"

    def mask(self, batch, context):
        self.at(context.step)
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

    def at(self, step):
        pass

class Raises(Plain):
    def at(self, step):
        if step == 3:
            raise KeyError("my mistake")

class Dies(Plain):
    def at(self, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""
FILE = """\
title = "Tiny"
question = "Does it work?"
expected = "Yes"
cost = "a minute"
data = "folder:{pictures}"
budgets = "{steps}step"
seeds = 1
options = {{ batch = 8, device = "cpu" }}
probes = {{ draws = 1 }}

[strategies.random]
[strategies.block]
"""
LEFT_OUT = 3


def put(folder: Path, pictures: Path, *, steps: int = 6, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.toml"
    path.write_text(FILE.format(pictures=pictures, steps=steps) + more, encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    return path


def start(path: Path, *words: str) -> "subprocess.Popen[str]":
    out, reports = path.parent / "runs", path.parent / "reports"
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "maskbench", "run", str(path), "--out", str(out)),
            *("--reports", str(reports), *words),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    told, said = process.communicate(timeout=400)
    return process.returncode, told, said


def encoders(store: Path) -> dict[str, str]:
    """Run to the checksum of what it has learnt."""
    return {
        folder.name: hashlib.md5((folder / "encoder.safetensors").read_bytes()).hexdigest()
        for folder in Store(store).folders()
        if (folder / "encoder.safetensors").exists()
    }


def test_failures_are_told_and_the_rest_is_compared(tmp_path: Path, pictures: Path) -> None:
    more = "".join(
        f'[strategies.{arm}]\nstrategy = "mine.py:{name}"\n'
        for arm, name in (("bad", "Raises"), ("worse", "Dies"))
    )
    path = put(tmp_path, pictures, more=more)
    code, told, said = ended(start(path, "--jobs", "2", "--json"))
    assert code == LEFT_OUT, said
    found = json.loads(told)
    assert {one["name"]: one["state"] for one in found["runs"]} == {
        "random-s0": "finished", "block-s0": "finished", "bad-s0": "failed", "worse-s0": "failed",
    }  # fmt: skip
    assert "my mistake" in found["errors"]["bad-s0"]
    assert "SIGKILL" in found["errors"]["worse-s0"]
    assert Path(found["report"]).is_file()
    log = tmp_path / "runs" / "benchmarks" / "tiny" / "logs" / "bad-s0.log"
    assert "studying" not in log.read_text(encoding="utf-8")
    record = read_record(next((tmp_path / "runs").glob("random-*")))
    assert record["benchmark"] == {
        "name": "tiny", "sha256": found["sha256"], "run": "random-s0", "at_a_time": 2,
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*-*/record.json")}
    done = [p for p in before if read_record(p.parent)["status"] == "finished"]
    (tmp_path / "mine.py").write_text(MINE.replace("== 3", "== -1"), encoding="utf-8")
    code, told, said = ended(start(path, "--json"))
    assert code == OK, said
    assert {one["state"] for one in json.loads(told)["runs"]} == {"finished"}
    assert {path: path.stat().st_mtime_ns for path in done} == {path: before[path] for path in done}


def test_a_run_of_a_benchmark_is_the_run_alone(tmp_path: Path, pictures: Path) -> None:
    path = put(tmp_path, pictures)
    code, _, said = ended(start(path, "--pack", "2"))
    assert code == OK, said
    for strategy in ("random", "block"):
        subprocess.run(
            [
                *(sys.executable, "-m", "maskbench", "run", "--strategy", strategy, "--batch", "8"),
                *("--data", f"folder:{pictures}", "--budget", "6step", "--draws", "1"),
                *("--device", "cpu", "--out", str(tmp_path / "alone")),
            ],
            check=True,
            capture_output=True,
        )
    packed, alone = encoders(tmp_path / "runs"), encoders(tmp_path / "alone")
    assert len(packed) == 2
    assert packed == alone


def test_it_is_stopped_and_goes_on(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = put(tmp_path / "whole", pictures, steps=400)
    assert ended(start(whole, "--jobs", "2"))[0] == OK
    cut = put(tmp_path / "cut", pictures, steps=400)
    process = start(cut, "--jobs", "2")
    store = tmp_path / "cut" / "runs"
    until(lambda: len(list(store.glob("*-*/metrics.jsonl"))) == 2)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    found, _, said = ended(process)
    assert found == STOPPED, said
    assert "the same command goes on" in " ".join(said.split())
    states = {read_record(folder)["status"] for folder in Store(store).folders()}
    assert states <= {"interrupted", "finished"}
    assert ended(start(cut, "--jobs", "2"))[0] == OK
    assert encoders(store) == encoders(tmp_path / "whole" / "runs")


def test_killed_and_started_twice(tmp_path: Path, pictures: Path) -> None:
    path = put(tmp_path, pictures, steps=300)
    first = start(path, "--checkpoint-every", "1s")
    store = tmp_path / "runs"
    until(lambda: any(store.glob("*-*/metrics.jsonl")))
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    both = [start(path), start(path)]
    for process in both:
        code, told, said = ended(process)
        assert code == OK, said
        assert "2 runs: 2 finished" in told
    assert len(list(store.glob("*-*/record.json"))) == 2, "nothing was run twice"


def test_status_needs_nobody_to_be_there(tmp_path: Path, pictures: Path) -> None:
    path = put(tmp_path, pictures)
    assert ended(start(path))[0] == OK
    command = [
        *(sys.executable, "-X", "importtime", "-m", "maskbench", "status", str(path)),
        *("--out", str(tmp_path / "runs"), "--json"),
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [one["state"] for one in json.loads(told.stdout)] == ["finished", "finished"]
    assert " torch\n" not in told.stderr, "it reads, and trains nothing"


def until(done: Callable[[], bool], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.05)
