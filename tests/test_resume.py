"""A run goes on where it was left, to the bit: every strategy, any moment."""

import hashlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_job
from PIL import Image

from maskbench import registry
from maskbench.care import Care
from maskbench.contract.compare import difference
from maskbench.contract.compare import snapshot as bits
from maskbench.events import Silent
from maskbench.job import Job
from maskbench.plan import Planned
from maskbench.results import read_metrics
from maskbench.session import Session, load
from maskbench.signals import Asked, Signals

STRATEGIES = [
    *(entry.name for entry in registry.entries()),
    "prototypes+clmae",
    "ratio+hpm",
    "random+aux",
]
SIBLINGS = ["adversarial", "cooperative", "neutral"]
"""clmae's class with other numbers: in the slow suite."""
NAMED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SIBLINGS else []) for name in STRATEGIES
]
TIMES = {"seconds", "seconds_total", "images_per_s", "images_per_second"}


class AskedAt(Signals):
    """Somebody who asks the run to stop before a step."""

    def __init__(self, job: Job, step: float) -> None:
        super().__init__()
        self._job, self._step = job, step

    @property
    def asked(self) -> int:
        return signal.SIGTERM if self._job.pace.steps >= self._step else 0

    @asked.setter
    def asked(self, value: int) -> None:
        pass


def session(folder: Path, job: Job, stop: float = math.inf, care: Care | None = None) -> Session:
    """A session of a tiny job, stopped before a step."""
    folder.mkdir(exist_ok=True)
    settings: Any = SimpleNamespace(
        strategy="tested", probe_at=(), draws=1, model_dump=lambda mode: {"seed": 0}
    )
    images: Any = SimpleNamespace(train=job.feed._split)
    planned = Planned(settings, job.strategy, images, job.plan.budget)
    care, signals = care or Care(), AskedAt(job, stop)
    return Session(folder, {}, planned, job, Silent(), care=care, signals=signals)


def told(work: Session) -> tuple[dict[str, Any], list[dict[str, Any]], list[Any]]:
    """Values, metrics without times, and masks."""
    rows = [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_metrics(work.folder)
    ]
    return (
        bits(work.job),
        rows,
        [
            {name: array.tolist() for name, array in vars(seen).items() if array is not None}
            for seen in work.tape._seen
        ],
    )


@pytest.mark.parametrize("name", NAMED)
def test_stopped_and_resumed_ends_bit_identical(name: str, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch and once more; compared with a run that was not."""
    budget = "19step"
    whole = session(tmp_path / "whole", make_job(name, budget=budget))
    whole.work()
    for stop in (7, 12, math.inf):
        work = session(tmp_path / "parts", make_job(name, budget=budget), stop)
        state = load(work.folder, {"seed": 0}, print)
        if state:
            work.restore(state)
            assert work.job.pace.steps in (7, 12)
        if stop < math.inf:
            with pytest.raises(Asked):
                work.work()
        else:
            work.work()
    one, other = told(whole), told(work)
    assert not difference(one[0], other[0])
    assert one[1:] == other[1:]
    assert len(one[1]) == 19


def test_a_state_that_is_not_restored_would_show(tmp_path: Path) -> None:
    """Without the restored state the end is another: the test above can fail."""
    whole = session(tmp_path / "whole", make_job("clmae", budget="9step"))
    whole.work()
    stopped = session(tmp_path / "parts", make_job("clmae", budget="9step"), 4)
    with pytest.raises(Asked):
        stopped.work()
    state = load(stopped.folder, {"seed": 0}, print)
    assert state is not None
    for part in ("strategy", "optimizer", "model"):
        work = session(tmp_path / part, make_job("clmae", budget="9step"))
        work.restore({**state, part: getattr(work.job, part).state_dict()})
        work.work()
        assert difference(bits(whole.job), bits(work.job))


def same(one: Path, other: Path) -> None:
    """Two run folders say the same, but for times."""
    for name in ("encoder.safetensors", "masks.safetensors", "settings.json"):
        digests = [hashlib.sha256((f / name).read_bytes()).hexdigest() for f in (one, other)]
        assert digests[0] == digests[1], name
    rows = [
        [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(folder)]
        for folder in (one, other)
    ]
    assert rows[0] == rows[1]
    assert stable(one) == stable(other)


def stable(folder: Path) -> dict[str, Any]:
    """A record without what depends on the moment."""
    record = json.loads((folder / "record.json").read_text())
    timed = (*TIMES, "seconds", "peak_memory_bytes", "machine", "energy_joules")
    ledger = {name: value for name, value in record["ledger"].items() if name not in timed}
    budget = {**record["budget"], "seconds_expected": None}
    return {**record, "ledger": ledger, "budget": budget, "provenance": None}


def drawn(root: Path) -> Path:
    """A folder of red and blue noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for label, tint in (("red", (60, 0, 0)), ("blue", (0, 0, 60))):
            folder = root / "pictures" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 150, (32, 32, 3)) + np.array(tint)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root / "pictures"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return drawn(tmp_path)


@pytest.mark.parametrize(
    ("kills", "strategy"),
    [
        pytest.param(2, "clmae-fast", marks=pytest.mark.slow),
        pytest.param(30, "clmae", marks=pytest.mark.slow),
        pytest.param(20, "prototypes+hpm", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment(pictures: Path, tmp_path: Path, kills: int, strategy: str) -> None:
    """SIGKILL at random moments, many of them inside the writing of a checkpoint."""
    command = [sys.executable, str(Path(__file__).with_name("killer.py"))]
    words = [str(tmp_path), str(pictures), str(kills), "1", strategy]
    done = subprocess.run([*command, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    print(f"{strategy}: {report}")
    assert report["killed"] == kills
    (whole,) = tmp_path.glob("whole/*-s0-*")
    survived = list(tmp_path.glob("killed-*/*-s0-*"))
    assert len(survived) == report["runs"]
    for folder in survived:
        same(whole, folder)


def test_threads_are_one() -> None:
    """Bits depend on the number of threads: all of this file runs with one."""
    assert torch.get_num_threads() == 1
