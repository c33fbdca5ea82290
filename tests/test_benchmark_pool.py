"""The pool that carries out a benchmark, with workers that answer what a test tells them."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from synthetic import put, record

from maskbench.benchmark import carry as carrying
from maskbench.benchmark.answer import answers
from maskbench.benchmark.carry import Carried, carry
from maskbench.benchmark.layout import Laid, Place, Plan
from maskbench.benchmark.slots import Slots
from maskbench.benchmark.states import State, states
from maskbench.lock import hold
from maskbench.results import Store, write_json
from maskbench.spec import Request

ANSWERS = """
import json, os, signal, sys, time
from pathlib import Path
told = json.loads(Path(sys.argv[1]).read_text())
for line in sys.stdin:
    asked = json.loads(line)
    with open(sys.argv[1] + ".log", "a") as log:
        log.write(json.dumps({**asked, "slot": os.environ.get("SLOT"), "pid": os.getpid()}) + "\\n")
    code = told[asked["name"]].pop(0) if told[asked["name"]] else 0
    Path(sys.argv[1]).write_text(json.dumps(told))
    if code == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if code == "slow":
        time.sleep(1)
        code = 0
    print(json.dumps({"name": asked["name"], "code": code, "error": f"code {code}"}), flush=True)
"""


class Scripted:
    """A plan whose runs end as a script says.

    Args:
        folder: For everything.
        told: Run to how its attempts end, one after the other; then well.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, told: dict[str, list[Any]]) -> None:
        self.file = folder / "told.json"
        self.file.write_text(json.dumps(told), encoding="utf-8")
        script = folder / "worker.py"
        script.write_text(ANSWERS, encoding="utf-8")
        patch.setattr(carrying, "WORKER", (sys.executable, str(script), str(self.file)))
        patch.setattr(carrying, "TICK_S", 0.1)
        items = {
            name: Laid(arm=name.partition("-")[0], run=f"{name}-id", request=request_of(name))
            for name in told
        }
        self.plan = Plan(
            name="p", sha256="0" * 64, asked={}, metric="fs-aulc", direction="higher", items=items
        )
        self.place = Place(Store(folder / "runs"), "p")
        self.place.logs.mkdir(parents=True)
        self.seen: list[list[str]] = []

    def carry(self, places: int = 1) -> Carried:
        slots = Slots(tuple({"SLOT": str(n)} for n in range(places)), shared=places > 1)
        return carry(
            self.plan, self.place, slots, lambda now: self.seen.append([s.state for s in now])
        )

    @property
    def begun(self) -> list[dict[str, Any]]:
        log = Path(f"{self.file}.log")
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [json.loads(line) for line in lines]


def request_of(name: str) -> Request:
    return Request(strategy=name.partition("-")[0], seed=int(name.rpartition("s")[2]))


def test_a_failure_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Scripted(tmp_path, monkeypatch, {"random-s0": [], "block-s0": [5], "grid-s0": []})
    assert it.carry() == Carried({"block-s0": "code 5"})
    failed = states(it.plan, it.place)[1]
    assert (failed.state, failed.error) == ("failed", "code 5")
    assert [one["name"] for one in it.begun] == ["random-s0", "block-s0", "grid-s0"]
    assert len({one["pid"] for one in it.begun}) == 1, "torch is loaded once"
    assert it.begun[1]["origin"] == {
        "name": "p", "sha256": "0" * 64, "run": "block-s0", "at_a_time": 1,
    }  # fmt: skip


def test_a_lost_process_is_tried_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Scripted(tmp_path, monkeypatch, {"random-s0": ["die"], "block-s0": ["die", "die"]})
    found = it.carry()
    assert [one["name"] for one in it.begun].count("random-s0") == 2
    assert [one["name"] for one in it.begun].count("block-s0") == 2
    assert list(found.errors) == ["block-s0"]
    assert "SIGKILL (out of memory?)" in found.errors["block-s0"]


def test_a_full_disk_stops_what_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Scripted(tmp_path, monkeypatch, {"random-s0": [74], "block-s0": [], "grid-s0": []})
    found = it.carry()
    assert found.stopped == "code 74"
    assert [one["name"] for one in it.begun] == ["random-s0"]


def test_places_are_filled_and_know_who_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Scripted(tmp_path, monkeypatch, {f"random-s{n}": ["slow"] for n in range(4)})
    it.carry(places=2)
    assert sorted(one["slot"] for one in it.begun) == ["0", "0", "1", "1"]
    assert {one["origin"]["at_a_time"] for one in it.begun} == {2}


def test_what_is_finished_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Scripted(tmp_path, monkeypatch, {"random-s0": [], "block-s0": []})
    put(it.place.store.root, "random-s0-id", record("random", 0, 0.5))
    it.carry()
    assert [one["name"] for one in it.begun] == ["block-s0"]


def test_what_others_work_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Scripted(tmp_path, monkeypatch, {"random-s0": [], "block-s0": []})
    running = {**record("random", 0, 0.5), "status": "running"}
    folder = put(it.place.store.root, "random-s0-id", running)
    looks = 0

    def watch(now: Any) -> None:
        nonlocal looks
        looks += 1
        if looks == 4:
            write_json(folder / "record.json", {**running, "status": "finished"})
            locked.close()

    locked = ExitStack()
    locked.enter_context(hold(folder))
    carry(it.plan, it.place, Slots(({},), shared=False), watch)
    assert looks >= 4
    assert [one["name"] for one in it.begun] == ["block-s0"]


def test_whoever_was_faster_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Scripted(tmp_path, monkeypatch, {"random-s0": [75, 75]})
    assert it.carry() == Carried()
    assert len(it.begun) == 3


def test_states_are_read_from_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Scripted(tmp_path, monkeypatch, {f"random-s{n}": [] for n in range(5)})
    root = it.place.store.root
    put(root, "random-s0-id", record("random", 0, 0.5))
    put(root, "random-s1-id", {**record("random", 1, 0.5), "status": "running"})
    put(root, "random-s2-id", {**record("random", 2, 0.5), "status": "diverged", "error": "inf"})
    (root / "random-s2-id" / "metrics.jsonl").write_text(
        '{"progress": 0.25, "loss": 0.5, "seconds": 3.0, "images_per_s": 7.0}\n{"progress": 0.3',
        encoding="utf-8",
    )
    put(root, "random-s3-id", {**record("random", 3, 0.5), "status": "running"})
    with hold(root / "random-s3-id"):
        now = {one.name: one for one in states(it.plan, it.place)}
    assert [one.state for one in now.values()] == [
        "finished", "killed", "diverged", "running", "waiting",
    ]  # fmt: skip
    third = now["random-s2"]
    assert (third.share, third.loss, third.seconds, third.error) == (0.25, 0.5, 3.0, "inf")
    assert third.seconds_left == pytest.approx(9.0)
    assert [one.left for one in now.values()] == [False, True, True, False, True]


def test_arms_are_ranked_by_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{arm}-s{seed}" for arm in ("random", "block") for seed in range(3)]
    it = Scripted(tmp_path, monkeypatch, {name: [] for name in names})
    now = []
    for name in names:
        arm, _, seed = name.partition("-s")
        told = record(arm, int(seed), 0.6 if arm == "block" else 0.5)
        folder = put(it.place.store.root, f"{name}-id", told)
        now.append(State(name, arm, "finished", folder=str(folder)))
    first, second = answers(it.plan, now, None)
    assert (first.arm, second.arm) == ("block", "random")
    assert first.to_baseline is not None
    assert first.to_baseline.value > 0
    assert first.to_baseline.seeds == 3
    assert second.to_baseline is None
    assert first.half is not None
    lower = it.plan.model_copy(update={"direction": "lower", "metric": "flops"})
    assert {one.arm: one.mean is not None for one in answers(lower, now, None)} == {
        "random": True, "block": True,
    }  # fmt: skip
