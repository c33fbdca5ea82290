"""The schedule of the hidden count: ends, levels, mean, and the ledger that follows it."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import cli, make_job
from test_run import paint

from maskbench import registry, runner
from maskbench.errors import OK, USAGE
from maskbench.events import Silent
from maskbench.ledger import Ledger
from maskbench.mask import Grid
from maskbench.results import FLOP_PARTS, Store
from maskbench.shape import PRESETS, step_flops
from maskbench.spec import Request
from maskbench.train import train

RATIO: Any = registry.load("ratio").classes[0][1]  # type: ignore[attr-defined]
GRIDS = [Grid(8, 8, 48), Grid(14, 14, 147), Grid(4, 4, 12), Grid(1, 2, 1)]
BUILT_IN = ["linear", "cosine", "step"]


def schedule(grid: Grid, steps: int = 2001, **settings: Any) -> list[int]:
    strategy = RATIO(RATIO.Settings(**settings))
    return [strategy.hidden(step / (steps - 1), grid) for step in range(steps)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize(("first", "last"), [(0.5, None), (0.9, 0.3), (0.2, 0.21), (0.999, 0.001)])
def test_ends_are_exact_and_it_never_turns_back(
    grid: Grid, kind: str, first: float, last: float | None
) -> None:
    counts = schedule(grid, schedule=kind, first=first, last=last)
    inside = [min(max(round(s * grid.patches), 1), grid.patches - 1) for s in (first, last or 0)]
    assert counts[0] == inside[0]
    assert counts[-1] == (grid.hidden if last is None else inside[1])
    falling = counts[0] > counts[-1]
    assert all((a >= b) if falling else (a <= b) for a, b in pairwise(counts))
    assert all(0 < count < grid.patches for count in counts)
    assert len(set(counts)) <= (2 if kind == "step" else 8)


@pytest.mark.parametrize("grid", GRIDS[:3])
@pytest.mark.parametrize("levels", [2, 3, 7, 8, 16, 1000])
@pytest.mark.parametrize("last", [None, 0.3, 0.9])
def test_levels_are_few_even_and_keep_the_mean(grid: Grid, levels: int, last: Any) -> None:
    counts = schedule(grid, 20_001, levels=levels, last=last)
    found = sorted(set(counts))
    assert len(found) <= levels
    gaps = [b - a for a, b in pairwise(found)]
    assert max(gaps) - min(gaps) <= 1
    mean = (counts[0] + counts[-1]) / 2
    assert sum(counts) / len(counts) == pytest.approx(mean, abs=2e-3)


def test_a_long_cosine_has_the_mean_of_the_cosine_and_constant_is_the_runs_own() -> None:
    grid = GRIDS[1]
    counts = schedule(grid, schedule="cosine", first=0.4, levels=1000)
    exact = [78 + (147 - 78) * (1 - math.cos(math.pi * u / 2000)) / 2 for u in range(2001)]
    assert max(abs(a - b) for a, b in zip(counts, exact, strict=True)) <= 0.51 + 1e-9
    assert sum(counts) == pytest.approx(sum(exact), rel=1e-3)
    assert set(schedule(grid, schedule="constant", first=0.1)) == {147}
    assert schedule(grid, schedule="step", first=0.4)[999:1001] == [78, 147]


def test_a_runs_ledger_is_the_sum_over_its_steps() -> None:
    """Images, tokens and FLOPs, counted independently from the masks that were used."""
    settings = registry.load("ratio+clmae").Settings(ratio={"first": 0.25})  # type: ignore[call-arg]
    job = make_job(registry.load("ratio+clmae")(settings), budget="115img", batch=8)
    shape, ledger, found = job.model.shape, Ledger(job), []
    flops = tokens = 0
    steps: list[int] = []

    def look(step: int) -> None:
        if job.turn(step).images:
            mask = job.mask(job.batch(step), job.context(step, purpose="look"))
            steps.append(mask.grid.hidden)

    def log(row: Any) -> None:
        found.append(ledger.now())

    train(job, log, look)
    assert (steps[0], steps[-1]) == (4, 12)
    assert len(set(steps)) == 8
    for step, hidden in enumerate(steps):
        images = 8 if step < 14 else 3
        grid = Grid(4, 4, hidden)
        cost = sum(step_flops(shape, 16 - hidden).values())
        flops += images * (cost + sum(job.strategy.cost(grid, shape).values()))
        tokens += images * (17 - hidden)
        assert found[step]["flops_total"] == flops == sum(found[step]["flops"].values())
        assert found[step]["tokens_encoded"] == tokens
    assert found[-1]["images"] == 115
    plain = sum(step_flops(shape, 4).values())
    assert found[-1]["flops_relative_to_random"] == pytest.approx(flops / (115 * plain))
    assert Ledger(job).now()["flops"] == found[-1]["flops"]


def test_a_constant_ledger_is_as_before() -> None:
    job = make_job("random", budget="3step")
    train(job, lambda row: None, lambda step: None, steps=range(2))
    told = Ledger(job).now()
    parts = {**dict.fromkeys(FLOP_PARTS, 0), **step_flops(job.model.shape, 4)}
    assert told["flops"] == {name: 16 * flops for name, flops in parts.items()}
    assert told["flops_relative_to_random"] == 1
    assert (told["steps"], told["tokens_encoded"]) == (2, 80)
    assert told["images_per_s"] == pytest.approx(16 / told["seconds"]["training"])


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    paint(tmp_path / "pictures" / "train", 8, 0)
    paint(tmp_path / "pictures" / "test", 4, 1)
    words = ["run", "--strategy", "ratio", "--budget", "20step", "--batch", "8"]
    words += ["--data", f"folder:{tmp_path / 'pictures'}"]
    words += ["--draws", "1", "--out", str(tmp_path / "runs"), "--json"]
    assert cli(monkeypatch, *words) == OK
    told = json.loads(capsys.readouterr().out)
    record = told["record"]
    assert record["strategy"]["family"] == "ratio schedule + data-free"
    shape = PRESETS["nano"].shape
    counts = schedule(Grid(8, 8, 48), 20)
    exact = sum(8 * sum(step_flops(shape, 64 - hidden).values()) for hidden in counts)
    assert record["ledger"]["flops_total"] == exact
    assert record["ledger"]["flops_relative_to_random"] > 1.1
    assert (
        cli(
            monkeypatch,
            "compare",
            told["run"],
            "--out",
            str(tmp_path / "page"),
            "--figures",
            "none",
        )
        == OK
    )
    page = (tmp_path / "page" / "report.html").read_text()
    assert "--set ratio.schedule=linear --set ratio.first=0.5 --set ratio.levels=8" in page


@pytest.mark.parametrize("bad", ["first=0", "first=1", "levels=1", "schedule=up", "last=2"])
def test_settings_that_cannot_be(bad: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    words = ["--set", bad, "--budget", "1step", "--out", str(tmp_path / "runs")]
    assert cli(monkeypatch, "run", "--strategy", "ratio", *words) == USAGE
    assert bad.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_two_schedules_do_not_go_together(tmp_path: Path) -> None:
    request = Request(strategy="ratio+ratio", limit=32)
    with pytest.raises(Exception, match="twice"):
        runner.run(request, Store(tmp_path), Silent())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    paint(root / "train", 20, 0)
    paint(root / "test", 10, 1)
    return root


def run_words(tmp_path: Path, pictures: Path, strategy: str, *sets: str) -> list[str]:
    words = ["run", "--strategy", strategy, "--budget", "2ep", "--batch", "16"]
    words += ["--data", f"folder:{pictures}"]
    words += ["--draws", "1", "--out", str(tmp_path / "runs"), "--json"]
    return [*words, *(word for text in sets for word in ("--set", text))]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["prototypes+clmae", "ratio+prototypes+random", "prototypes"])
def test_composed_runs(
    strategy: str, tmp_path: Path, pictures: Path, monkeypatch: Any, capsys: Any
) -> None:
    words = run_words(tmp_path, pictures, strategy, "prototypes.first=0.4", "clusters=4")
    assert cli(monkeypatch, *words) == OK
    record = json.loads(capsys.readouterr().out)["record"]
    assert record["status"] == "finished"
    assert record["strategy"]["name"] == strategy
    assert record["strategy"]["settings"]["prototypes"]["first"] == 0.4
    assert record["strategy"]["settings"]["prototypes"]["clusters"] == 4
    assert "data curriculum" in record["strategy"]["family"]
    assert record["strategy"]["prior"] == ""
    assert {"feature extraction", "clustering"} <= set(record["ledger"]["flops"])
    assert record["ledger"]["flops_total"] == sum(record["ledger"]["flops"].values())
    assert record["ledger"]["images_distinct"] == 40  # the second epoch shows all


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("first=0.4",), "ambiguous"),
        (("prototypes.first=0.05",), "greater than or equal to 0.1"),
        (("clusters=41",), "too many for 40 training images"),
        (("features=hogg",), "Did you mean 'hog'"),
    ],
)
def test_refused_before_anything_is_written(
    sets: Any, says: str, tmp_path: Path, pictures: Path, monkeypatch: Any, capsys: Any
) -> None:
    words = run_words(tmp_path, pictures, "ratio+prototypes+random", *sets)
    assert cli(monkeypatch, *words) == USAGE
    assert says in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "runs").glob("*/record.json"))
