"""The report: what it may compare, what it says, and that it is safe to send."""

import base64
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from maskbench.cli import app
from maskbench.cli.errors import guarded
from maskbench.errors import StoreError
from maskbench.figures import curves
from maskbench.figures import masks as drawn
from maskbench.report import page, words
from maskbench.report.frame import groups, read
from maskbench.report.means import mean
from maskbench.report.tape import read_masks

CLAIMS = ("better", "outperform", "significant", "state of the art", "state-of-the-art")
EVIL = '<script>alert(1)</script>"$x_1$ onload=\u202e\x1b[31m\ud800'
GRID, SIDE, IMAGES = 4, 8, 20
SHOTS = (1, 2, 4)
DATA = {"name": "toy", "classes": list("abcde"), "train": 20, "test": 50}
MODEL = {"preset": "nano", "image": SIDE, "patch": 2, "width": 6, "depth": 1}


def record(strategy: str, seed: int, accuracy: float, /, **changes: Any) -> dict[str, Any]:
    """A synthetic record: its numbers are made up for these tests."""

    def rows(feature: str, base: float) -> list[dict[str, Any]]:
        shared = {"feature": feature, "classes": 5, "n_test": 50}
        found: list[dict[str, Any]] = [
            {
                **shared,
                "probe": "logreg",
                "shots": n,
                "draw": d,
                "accuracy": base - (4 - n) / 50 + d / 100,
            }
            for n in SHOTS
            for d in range(2)
        ]
        nearest = {"probe": "knn20", "shots": None, "draw": None, "accuracy": base}
        return [*found, {**shared, **nearest}]

    settings: dict[str, Any] = {
        "strategy": strategy,
        "strategy_settings": {},
        "strategy_digest": None,
    }
    recipe = {"batch": 4, "base_lr": 1e-3, "weight_decay": 0.05, "warmup": 0.05, "draws": 2}
    machine = {"device": "cpu", "precision": "fp32", "compile": False}
    named = {"budget": "2ep", "data": "toy", "model": "nano", "hidden": 12, "seed": seed}
    return {
        "schema": 1,
        "id": f"{strategy}-{seed}",
        "status": "finished",
        "strategy": {"name": strategy, "settings": {}, "source": "a test"},
        "settings": {**settings, **recipe, **machine, **named},
        "seed": seed,
        "data": {**DATA, "fingerprint": "f" * 64},
        "model": {**MODEL, "hidden": 12},
        "budget": {"text": "2ep", "images": 40, "steps": 10, "epochs": 2.0},
        "ledger": {
            "images": 40,
            "images_distinct": 20,
            "steps": 10,
            "flops": {"encoder": 3e9, "decoder": 1e9},
            "flops_total": 4e9,
            "flops_relative_to_random": 1.0,
            "seconds": {"training": 2.0 + seed, "data": 0.5, "step": 1.5, "paused": 0.1},
            "images_per_s": 40 / (2.0 + seed),
            "peak_memory_bytes": {"host": 2**30, "device": None},
        },
        "probes": rows("patchmean", accuracy),
        "controls": [*rows("untrained", 0.3), *rows("pixels", 0.25)],
        "masks": {"file": "masks.safetensors"},
        "provenance": {
            "versions": {"python": "3", "maskbench": "0"},
            "commit": None,
            "device": {"kind": "cpu", "gpu": None, "cpu": "a CPU", "cores": 2},
            "threads": 1,
            "load": 0.1,
            "system": "Linux",
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:01:00+00:00",
        },
        **changes,
    }  # fmt: skip


def some_masks(seed: int = 0) -> NDArray[np.bool_]:
    scores = np.random.default_rng(seed).random((3, IMAGES, GRID * GRID))
    return scores.argsort(axis=2).argsort(axis=2) < 12


def put(store: Path, name: str, content: dict[str, Any], *, files: bool = True) -> Path:
    folder = store / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({**content, "id": name}))
    if files:
        pixels = np.random.default_rng(1).integers(0, 256, (7, SIDE, SIDE, 3), dtype=np.uint8)
        tensors: dict[str, NDArray[Any]] = {
            "bits": np.packbits(some_masks(), axis=2),
            "steps": np.array([0, 5, 10]),
            "positions": np.arange(IMAGES),
            "shown": pixels,
        }
        grid = json.dumps({"rows": GRID, "columns": GRID, "hidden": 12})
        save_file(tensors, folder / "masks.safetensors", metadata={"grid": grid})
        lines = [json.dumps({"images": 4 * i, "loss": 2 / i}) for i in range(1, 11)]
        (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"torn', '"text"']))
    return folder


def pair(store: Path, seeds: int = 1) -> Path:
    for seed in range(seeds):
        put(store, f"random-{seed}", record("random", seed, 0.5 + seed / 100))
        put(store, f"clmae-{seed}", record("clmae", seed, 0.52 + seed / 50))
    return store


def html_of(store: Path) -> str:
    return page.make(sorted(path.parent for path in store.glob("*/record.json"))).html


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style>.*?</style>", "", html)))


def compare(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["compare", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


# What the page is


def test_same_records_same_bytes(tmp_path: Path) -> None:
    one, two = pair(tmp_path / "one", 3), pair(tmp_path / "elsewhere" / "two", 3)
    assert html_of(one) == html_of(two)


def test_hostile_texts_are_only_texts(tmp_path: Path) -> None:
    pair(tmp_path)
    put(tmp_path, "evil", record(EVIL, 0, 0.4))
    put(tmp_path, "evil-failed", record(EVIL, 1, 0.4, status="failed", error=f"E: {EVIL}"))
    html = html_of(tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not set(html) & {"\u202e", "\x1b", "\ud800"}
    html.encode("utf-8")


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    html = html_of(pair(tmp_path, 3))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert "<script" not in html
    targets = re.findall(r'(?:src|href)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert targets
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    assert "http:" not in html
    assert "https:" not in html
    assert len(html) < 1_000_000


def test_ids_are_unique_and_every_reference_has_one(tmp_path: Path) -> None:
    pair(tmp_path)
    put(tmp_path, "more", record("random", 0, 0.5, budget={"images": 80, "steps": 20, "epochs": 4}))
    html = html_of(tmp_path)
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="|url\()#([^")]*)', html) + re.findall(
        r'labelledby="([^"]*)"', html
    )
    assert set(used) <= set(ids)


# What it says


def test_one_seed_is_no_verdict(tmp_path: Path) -> None:
    text = plain(html_of(pair(tmp_path)))
    assert "one seed: a smoke test, no verdict" in text
    assert "clmae − random = +2.0 points." in text
    assert "±" not in text.replace("± is the half-width", "")


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_no_claim_words(tmp_path: Path, seeds: int) -> None:
    text = plain(html_of(pair(tmp_path, seeds))).lower()
    assert not [word for word in CLAIMS if word in text]


def test_two_seeds_have_no_interval(tmp_path: Path) -> None:
    text = plain(html_of(pair(tmp_path, 2)))
    assert "With two seeds there is no interval and no verdict." in text


def test_three_seeds_have_a_paired_t_interval(tmp_path: Path) -> None:
    (group,) = groups(read(list(pair(tmp_path, 3).iterdir()))[0])
    found = words.leaderboard(group)[1].difference
    assert found
    # differences 0.02, 0.03, 0.04; sd 0.01; t(2) = 4.302653
    assert found.value == pytest.approx(0.03)
    assert found.half == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert "clmae − random = +3.0 points [0.5, 5.5] (t-interval, 3 seeds)" in words.verdict(group)
    assert "no verdict" not in words.verdict(group)


def test_rounding_never_moves_an_interval_off_zero() -> None:
    found = mean([0.00996, 0.0, 0.0051])
    assert found
    low, high = (float(x) for x in words.interval(found).replace("−", "-")[1:-1].split(","))
    assert low <= 100 * found.band[0]
    assert high >= 100 * found.band[1]


def test_seeds_that_random_lacks_are_not_paired(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    put(tmp_path, "clmae-1", record("clmae", 1, 0.9))
    (group,) = groups(read(list(tmp_path.iterdir()))[0])
    assert words.leaderboard(group)[1].difference is None
    assert "No seed is shared with random masking" in words.verdict(group)


def test_a_run_at_the_level_of_the_untrained_encoder_is_called_so(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.29))
    assert "Not above an untrained encoder: random." in plain(html_of(tmp_path))


def test_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    pair(tmp_path, 2)
    code, out = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"), "--json")
    rows = json.loads(out)["rows"]
    assert code == 0
    random, clmae = rows
    # two draws at 0.5 and 0.51, seeds a point apart
    assert random["accuracy"]["value"] == pytest.approx((0.505 + 0.515) / 2)
    assert clmae["difference"]["value"] == pytest.approx((0.02 + 0.03) / 2)
    assert random["over_untrained"]["value"] == pytest.approx(0.51 - 0.305)
    assert random["knn20"]["value"] == pytest.approx(0.505)
    by_shots = [(0.505 - (4 - n) / 50 - 0.2) / 0.8 for n in SHOTS]
    assert random["fs_aulc"]["value"] == pytest.approx(sum(by_shots) / 3 + 0.005 / 0.8)
    assert random["training_seconds"] == 2.5
    assert random["seconds_relative"] == 1.0
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html_of(tmp_path))
    assert {"51.0", "+2.5", "+20.5", "50.5", "1.00×"} <= set(cells)


# What it compares


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"text": "4ep", "images": 80, "steps": 20, "epochs": 4.0}},
        {"data": {**DATA, "fingerprint": "e" * 64}},
        {"model": {**MODEL, "hidden": 8}},
        {"settings": {**record("clmae", 0, 0.5)["settings"], "base_lr": 0.5}},
    ],
)
def test_unlike_runs_share_no_table(tmp_path: Path, change: dict[str, Any]) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    put(tmp_path, "clmae-0", record("clmae", 0, 0.6, **change))
    html = html_of(tmp_path)
    tables = re.findall(r"(?s)<table.*?</table>", html)
    assert not [table for table in tables if ">random</th>" in table and ">clmae</th>" in table]
    assert "2 groups" in plain(html)
    assert "clmae − random" not in html


def test_settings_tell_apart_entries_of_one_strategy(tmp_path: Path) -> None:
    for last in (-1, 0):
        strategy = {"name": "clmae", "settings": {"first": 1, "last": last}}
        put(tmp_path, f"clmae{last}", record("clmae", 0, 0.5, strategy=strategy))
    (group,) = groups(read(list(tmp_path.iterdir()))[0])
    assert [entry.label for entry in group.entries] == ["clmae (last=-1)", "clmae (last=0)"]


def test_seconds_are_related_only_on_the_same_machine(tmp_path: Path) -> None:
    pair(tmp_path)
    other = record("clmae", 0, 0.5)
    other["provenance"]["threads"] = 8
    (tmp_path / "clmae-0" / "record.json").write_text(json.dumps(other))
    (group,) = groups(read(list(tmp_path.iterdir()))[0])
    assert [row.seconds_relative for row in words.leaderboard(group)] == [1.0, None]


# What it leaves out


def test_left_out_runs_are_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    store = pair(tmp_path / "runs")
    put(store, "broken", record("clmae", 1, 0.5, status="failed", error="E: it broke"), files=False)
    put(store, "newer", record("clmae", 2, 0.5, schema=2), files=False)
    put(store, "partial", record("clmae", 3, 0.5, ledger={}), files=False)
    again = record("clmae", 0, 0.9)
    again["provenance"]["started"] = "2026-01-02T00:00:00+00:00"
    put(store, "twice", again)
    put(store, "textual", record("clmae", 5, 0.5, budget="much"), files=False)
    (store / "junk").mkdir()
    (store / "junk" / "record.json").write_bytes(b"\xff{")
    code, out = compare("--runs", str(store), "--out", str(tmp_path / "page"), "--json")
    assert code == 3
    found = {item["run"]: item["status"] for item in json.loads(out)["left_out"]}
    unreadable = dict.fromkeys(("newer", "partial", "junk", "textual"), "unreadable")
    assert found == {"broken": "failed", "twice": "repeated", **unreadable}
    text = plain((tmp_path / "page" / "report.html").read_text())
    assert "Left out, and why" in text
    assert "E: it broke" in text
    assert "schema 2" in text
    assert str(tmp_path) not in text


def test_missing_files_are_named(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5), files=False)
    report = page.make([tmp_path / "random-0"])
    assert [item.status for item in report.left_out] == ["missing file", "missing file"]
    assert "No masks were recorded." in report.html


def test_only_unfinished_runs_still_make_a_page(tmp_path: Path) -> None:
    put(tmp_path, "broken", record("random", 0, 0.5, status="running"), files=False)
    assert "There is no finished run to show." in html_of(tmp_path)


def test_without_masks_or_probes(tmp_path: Path) -> None:
    put(tmp_path, "a", record("random", 0, 0.5, probes=[], controls=[], masks={}))
    text = plain(html_of(tmp_path))
    assert "No probes" in text
    assert "No masks were recorded" in text
    assert "its record is not whole" not in text


# Pictures


def pixels_of(uri: str) -> NDArray[np.uint8]:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_the_hidden_patches_are_the_covered_ones() -> None:
    images = np.zeros((2, SIDE, SIDE, 3), dtype=np.uint8)
    images[1] = (10, 200, 30)
    hidden = np.zeros((1, 2, GRID, GRID), dtype=np.bool_)
    hidden[0, 0, 0, 1] = hidden[0, 1, 3, 0] = True
    for mask, inverted in ((hidden, False), (~hidden, True)):
        full, masked = (pixels_of(uri) for uri in drawn.strips(images, mask))
        side = full.shape[1]
        covered = (masked[..., :3] == drawn.COVER).all(axis=2) & (masked[..., 3] > 0)
        tiles = covered[:side], covered[-side:]
        for tile, bits in zip(tiles, mask[0], strict=True):
            wanted = bits.repeat(side // GRID, axis=0).repeat(side // GRID, axis=1)
            assert (tile == wanted).all(), inverted
        assert (full[:side][~tiles[0]] == masked[:side][~tiles[0]]).all()


def test_large_images_get_whole_patches() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    hidden = np.ones((1, 1, 14, 14), dtype=np.bool_)
    assert pixels_of(drawn.strips(images, hidden)[1]).shape == (56, 56, 4)


def test_a_frequency_map_is_neutral_at_the_hidden_share() -> None:
    colours = pixels_of(drawn.frequency_map(np.array([[0.5, 0.75], [1.0, 0.75]]), 0.75, 0.25))
    even = colours[0, -1, :3].astype(int)
    assert even.min() > 235
    assert np.ptp(even) < 8
    assert colours[0, 0, 0] > colours[0, 0, 2]
    assert colours[-1, 0, 0] < colours[-1, 0, 2]


def test_masks_come_back_as_they_were(tmp_path: Path) -> None:
    folder = put(tmp_path, "random-0", record("random", 0, 0.5))
    tape = read_masks(folder / "masks.safetensors")
    assert (tape.hidden.reshape(3, IMAGES, -1) == some_masks()).all()
    (folder / "masks.safetensors").write_bytes(b"no")
    with pytest.raises(StoreError, match="no readable masks"):
        read_masks(folder / "masks.safetensors")


@pytest.mark.parametrize("values", [[0.0, 0.1, 0.2], [1.0, 1.0, 1.0, 9.0], [0.0, 5.0, 5.1], [2.0]])
def test_labels_are_spread_without_disorder(values: list[float]) -> None:
    found = curves.spread(values, 1.0)
    assert np.diff(found).min(initial=1.0) >= 1.0 - 1e-9
    assert sum(found) == pytest.approx(sum(values))


# The command


def test_compare_prints_a_table_and_the_path(tmp_path: Path) -> None:
    store, out = pair(tmp_path / "runs"), tmp_path / "page"
    code, text = compare("--runs", str(store), "--out", str(out))
    assert code == 0
    assert "clmae" in text
    assert "one seed: a smoke test, no verdict" in text
    assert text.rstrip().endswith("report.html")
    assert (out / "report.html").is_file()
    assert "(replaced)" in compare("--runs", str(store), "--out", str(out))[1]


@pytest.mark.parametrize("name", ["random", "random-0", "FOLDER/random-0", "FOLDER"])
def test_runs_by_name_folder_and_store(tmp_path: Path, name: str) -> None:
    store = pair(tmp_path / "runs")
    named = name.replace("FOLDER", str(store))
    code, out = compare(named, "--runs", str(store), "--out", str(tmp_path / "page"), "--json")
    assert code == 0
    assert len(json.loads(out)["rows"]) == (2 if name == "FOLDER" else 1)


def test_a_store_as_out_is_compared_itself(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "mine")
    assert compare("--out", "mine")[0] == 0
    assert (tmp_path / "mine" / "report.html").is_file()


def run_main(monkeypatch: Any, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maskbench", "compare", *words])
    return guarded(app)


def test_no_run_is_wrong_usage(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch) == 2
    assert "maskbench run --strategy random" in capsys.readouterr().err
    assert run_main(monkeypatch, "nothing") == 2
    assert not (tmp_path / "reports").exists()


def test_a_page_that_cannot_be_written_is_an_io_error(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    store = pair(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    assert run_main(monkeypatch, "--runs", str(store), "--out", str(tmp_path / "file")) == 74
    assert "cannot write" in capsys.readouterr().err


def test_the_command_that_makes_a_run_again(tmp_path: Path) -> None:
    settings = record("clmae", 3, 0.5)["settings"] | {"strategy_settings": {"last": 0, "a": "b c"}}
    text = words.command(settings, {"batch": 4, "base_lr": 0.1, "draws": 2})
    assert text == (
        "maskbench run --strategy clmae --budget 2ep --data toy --model nano --hidden 12 "
        "--lr 0.001 --seed 3 --device cpu --precision fp32 --set last=0 --set 'a=b c'"
    )


def test_compare_needs_no_torch(tmp_path: Path) -> None:
    store = pair(tmp_path / "runs")
    code = (
        "import sys; from maskbench.report import page; from pathlib import Path; "
        f"page.make(list(Path({str(store)!r}).iterdir())); import maskbench.cli; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
