"""From runs to a paper's figure: what is read of them, what a failed one spoils, the same bytes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import cli
from safetensors.numpy import save_file
from synthetic import moment, record
from test_run import paint

from maskbench import findings
from maskbench.errors import OK
from maskbench.reproduce import schema
from maskbench.reproduce.reading import Bench, Done, cost, tidy
from maskbench.reproduce.report import Outcome, write
from maskbench.reproduce.schema import Benchmark
from maskbench.reproduce.verdict import NOT, REPRODUCED, UNDECIDED
from maskbench.results import Store, write_json

STUDIES = True
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
IMAGES = 30


def shipped(name: str, **changes: Any) -> Benchmark:
    return schema.read(schema.located(name)).changed(**changes)


def course(
    folder: Path,
    auc: dict[str, tuple[float, ...]],
    shapes: dict[str, tuple[float, ...]],
    *,
    images: str = "same",
) -> None:
    """A study: AUC by source and moment (each image a little off), and shapes by moment."""
    rows, values = [], []
    off = np.random.default_rng(0).normal(0, 0.01, IMAGES)
    for number in range(len(SHARES)):
        for source in ("contours", "edges"):
            known = source in auc
            metric = "auc" if known else ""
            rows.append({"moment": number, "source": source, "metric": metric})
            values.append(auc[source][number] + off if known else np.full(IMAGES, np.nan))
    table = [
        {"moment": n, "name": name, "value": values_of[n]}
        for name, values_of in shapes.items()
        for n in range(len(SHARES))
    ]
    place = folder / findings.FOLDER
    place.mkdir(parents=True)
    save_file({"values": np.stack(values).astype(np.float32)}, place / findings.VALUES)
    moments = [{"share": share, "step": round(100 * share)} for share in SHARES]
    found = {
        "schema": findings.SCHEMA, "images": IMAGES, "images_sha256": images, "moments": moments,
        "tables": {"saliency": rows, "geometry": table},
    }  # fmt: skip
    write_json(place / findings.JSON, found)


def put(folder: Path, **told: Any) -> Done:
    folder.mkdir(parents=True)
    write_json(folder / "record.json", record("clmae", 0, 0.5, **told))
    return Done(folder)


def fig2(tmp_path: Path, *sources: str, gain: float = 0.1) -> Bench:
    """Three runs whose AUC rises by so much in the second half, after falling in the first."""
    runs: dict[tuple[str, int], Done | str] = {}
    for seed in range(3):
        done = put(tmp_path / f"r{seed}")
        rise = (0.7, 0.6, 0.5, 0.55, 0.5 + gain + 0.001 * seed)
        course(done.folder, dict.fromkeys(sources, rise), {})
        runs["clmae", seed] = done
    return Bench(shipped("clmae-fig2"), runs)


def test_the_end_is_compared_with_the_middle_per_image(tmp_path: Path) -> None:
    outcome = Outcome.of("clmae-fig2", fig2(tmp_path, "contours", "edges"))
    first, *_, last = outcome.findings
    assert (outcome.verdict, first.seeds, first.images) == (REPRODUCED, 3, IMAGES)
    assert first.value == pytest.approx(0.101, abs=1e-5)
    assert last.value == pytest.approx(0.101 - 0.2, abs=1e-5), "end minus start"
    unknown = outcome.findings[2]
    assert (unknown.verdict, unknown.value) == (UNDECIDED, None)
    assert "objects is not known of r0" in unknown.why


def test_the_other_way_round_is_not_reproduced(tmp_path: Path) -> None:
    assert Outcome.of("x", fig2(tmp_path, "contours", gain=-0.1)).verdict == NOT


def test_what_takes_the_place_of_unknown_contours_is_said(tmp_path: Path) -> None:
    outcome = Outcome.of("x", fig2(tmp_path, "edges"))
    assert outcome.verdict == REPRODUCED
    assert outcome.findings[0].quantity == "auc of edges"
    assert "by auc of edges instead" in outcome.findings[0].what
    assert tidy(outcome.bench)[0]["quantity"] == "auc of edges"


def test_a_missing_run_is_named_and_nothing_takes_its_place(tmp_path: Path) -> None:
    bench = fig2(tmp_path, "contours", "edges")
    lost = Bench(bench.asked, {**bench.runs, ("clmae", 1): "DivergedError: not finite"})
    outcome = Outcome.of("x", lost)
    assert outcome.verdict == UNDECIDED
    assert "clmae, seed 1: DivergedError: not finite" in outcome.why
    assert outcome.findings[0].quantity == "auc of contours", "a failed run is no unknown contour"
    assert [row["value"] for row in tidy(lost)] == [None] * (6 * len(lost.asked.compare))
    assert outcome.failed == [{"arm": "clmae", "seed": 1, "why": "DivergedError: not finite"}]
    write(outcome, tmp_path / "report")
    told = json.loads((tmp_path / "report/verdict.json").read_text())
    assert (told["verdict"], told["findings"][0]["value"]) == (UNDECIDED, None)


def test_masks_of_other_images_are_not_paired(tmp_path: Path) -> None:
    bench = fig2(tmp_path, "contours")
    other = put(tmp_path / "other")
    course(other.folder, {"contours": (0.5,) * 5}, {}, images="others")
    mixed = Bench(bench.asked, {**bench.runs, ("clmae", 2): other})
    assert "different images" in mixed.reading("auc of contours", ("clmae", 1.0)).missing


def test_a_moment_far_off_is_none(tmp_path: Path) -> None:
    bench = fig2(tmp_path, "contours")
    found = bench.reading("auc of contours", ("clmae", 0.45))
    assert found.values.mean() == pytest.approx(0.5, abs=0.01)
    assert "near 12 %" in bench.reading("auc of contours", ("clmae", 0.12)).missing


def test_the_soft_share_is_compared_by_its_distance(tmp_path: Path) -> None:
    """An error of -0.3 without the loss is farther off than 0.1 with it."""
    runs: dict[tuple[str, int], Done | str] = {}
    for seed in range(3):
        for arm, error in (("with", 0.1), ("without", -0.3)):
            done = put(tmp_path / f"{arm}{seed}")
            course(done.folder, {}, {"soft_share_error": (0.0,) * 4 + (error + 0.001 * seed,)})
            runs[arm, seed] = done
    outcome = Outcome.of("x", Bench(shipped("clmae-fig4"), runs))
    assert outcome.findings[0].value == pytest.approx(0.2 - 0.002)
    assert outcome.verdict == REPRODUCED
    swapped = {({"with": "without", "without": "with"}[a], s): run for (a, s), run in runs.items()}
    assert Outcome.of("x", Bench(shipped("clmae-fig4"), swapped)).verdict == NOT


def probed(folder: Path, accuracies: tuple[float, ...], early: int = 0) -> Done:
    """Probed at every hundredth; accuracies at the quarters, its last one reached early."""
    quarters = 25 * np.arange(1, len(accuracies) + 1)
    every = np.interp(np.arange(1, 101), quarters, accuracies)
    every[len(every) - 1 - early :] = accuracies[-1]
    whole = record("random", 0, accuracies[-1])
    during = [moment((n + 1) / 100, a, whole["ledger"]) for n, a in enumerate(every[:-1].tolist())]
    folder.mkdir(parents=True)
    write_json(folder / "record.json", {**whole, "probes_during": during})
    return Done(folder)


@pytest.mark.parametrize(
    ("ours", "verdict", "value"),
    [
        ((0.3, 0.5, 0.55, 0.6), REPRODUCED, 0.49),  # there at half of the budget
        ((0.3, 0.4, 0.45, 0.5), NOT, -0.01),
        ((0.1, 0.1, 0.1, 0.1), NOT, -0.01),  # never: an upper end, which excludes a tenth
        ((0.6, 0.6, 0.6, 0.6), REPRODUCED, 0.98),  # at the first probe: a lower end
    ],
)
def test_epochs_to_the_baselines_accuracy(
    tmp_path: Path, ours: tuple[float, ...], verdict: str, value: float
) -> None:
    runs: dict[tuple[str, int], Done | str] = {}
    for seed in range(3):
        runs["random", seed] = probed(tmp_path / f"r{seed}", (0.2, 0.3, 0.4, 0.5), seed)
        runs["prototypes", seed] = probed(tmp_path / f"p{seed}", ours)
    asked = shipped("prototypes")
    outcome = Outcome.of("prototypes", Bench(asked, runs))
    assert outcome.findings[0].value == pytest.approx(value)
    assert outcome.verdict == verdict
    bare = {**runs, ("prototypes", 0): put(tmp_path / "bare")}
    lost = Outcome.of("x", Bench(asked, bare)).findings[0]
    assert (lost.value, "not probed during training" in lost.why) == (None, True)


def test_one_that_never_gets_there_reproduces_nothing(tmp_path: Path) -> None:
    runs: dict[tuple[str, int], Done | str] = {}
    for seed in range(12):
        runs["random", seed] = probed(tmp_path / f"r{seed}", (0.2, 0.3, 0.4, 0.5), seed)
        never = seed == 3
        ours = (0.1,) * 4 if never else (0.3, 0.5, 0.55, 0.6)
        runs["prototypes", seed] = probed(tmp_path / f"p{seed}", ours)
    found = Outcome.of("x", Bench(shipped("prototypes", seeds=12), runs)).findings[0]
    assert found.low is not None
    assert found.low > 0
    assert (found.verdict, "upper ends" in found.why) == (UNDECIDED, True)


# Carrying out


MINE = """
question = "?"
claim = "masks of random change by chance only"
source = "a test"
expected = "nothing"
[runs]
budget = "4step"
draws = 1
[arms.plain]
strategy = "random"
[[compare]]
what = "IoU, end minus middle"
quantity = "iou_hidden"
high = { arm = "plain", at = "end" }
low = { arm = "plain", at = "middle" }
smallest = 0.2
decisive = true
[figure]
masks = [{ arm = "plain", at = "end" }]
panels = ["iou_hidden"]
"""


@pytest.mark.slow
def test_end_to_end_and_the_same_bytes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paint(tmp_path / "pictures/train", 20, 0)
    paint(tmp_path / "pictures/test", 10, 1)
    (tmp_path / "mine.toml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    words = ("reproduce", "mine.toml", "--data", "folder:pictures", "--seeds", "3")
    assert cli(monkeypatch, *words) == OK
    text = " ".join(capsys.readouterr().out.split())
    assert "verdict not reproduced: IoU, end minus middle: the interval excludes 0.2" in text
    report = tmp_path / "reports/mine-folder-pictures-3-seeds"
    names = {"figure.svg", "figure.png", "verdict.json", "numbers.csv"}
    first = {name: (report / name).read_bytes() for name in names}
    assert {path.name for path in report.iterdir()} == names
    told = json.loads(first["verdict.json"])
    assert (told["verdict"], len(told["runs"]), told["failed"]) == (NOT, 3, [])
    assert told["seconds"] == cost({("plain", n): Done(p) for n, p in enumerate(_runs(tmp_path))})
    capsys.readouterr()
    assert cli(monkeypatch, *words, "--json") == OK
    said = json.loads(capsys.readouterr().out)
    assert said["outcome"]["verdict"] == NOT
    assert [one["state"] for one in said["runs"]] == ["finished"] * 3
    assert {name: (report / name).read_bytes() for name in names} == first
    assert len(_runs(tmp_path)) == 3
    capsys.readouterr()
    assert cli(monkeypatch, *words, "--dry-run", "--json") == OK
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["runs"], row["finished"], row["seconds_left"]) == (3, 3, 0)


def _runs(root: Path) -> list[Path]:
    return Store(root / "runs").folders()
