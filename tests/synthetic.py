"""Synthetic runs for the report's tests: their numbers are made up."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from typer.testing import CliRunner

from maskbench.cli import app
from maskbench.report import page

CLAIMS = ("better", "outperform", "significant", "state of the art", "state-of-the-art")
EVIL = '<script>alert(1)</script>"$x_1$ onload=\u202e\x1b[31m\ud800'
GRID, SIDE, IMAGES = 4, 8, 20
SHOTS = (1, 2, 4)
DATA = {"name": "toy", "classes": list("abcde"), "train": 20, "test": 50}
MODEL = {"preset": "nano", "image": SIDE, "patch": 2, "width": 6, "depth": 1}


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


FLOPS = {
    "encoder": 3e9, "decoder": 1e9, "mask generator": 0, "teacher": 0, "feature extraction": 0,
    "clustering": 0,
}  # fmt: skip
MACHINE = {
    "device": "a CPU", "threads": 1, "load_before": 0.1, "load_after": None, "battery": False,
}  # fmt: skip
OFF = {"compilation": 0.0, "paused": 0.1, "checkpoint": 0.0, "probes": 0.2}


def ledger(seconds: float, images: int = 40, flops: float = 4e9) -> dict[str, Any]:
    """What a run cost: so many images in batches of 4, so many seconds of training."""
    parts = {"data": 0.5, "step": 1.5, "strategy": 0.0, "setup": 0.5}
    return {
        "images": images,
        "images_distinct": 20,
        "steps": images // 4,
        "tokens_encoded": 5 * images,
        "flops": {**FLOPS, "encoder": 0.75 * flops, "decoder": 0.25 * flops},
        "flops_total": flops,
        "flops_prior": 0,
        "flops_known": True,
        "flops_relative_to_random": flops / (images * 1e8),
        "seconds": {"training": seconds, **parts, **OFF},
        "seconds_total": seconds + 0.5,
        "images_per_s": images / seconds,
        "peak_memory_bytes": {"host": 2**30, "device": None},
        "machine": dict(MACHINE),
        "energy_joules": None,
        "stop_reason": "budget",
    }


def budget(amount: float = 40, unit: str = "images", images: int | None = None) -> dict[str, Any]:
    """A budget as a record holds it; ``images`` are those it was expected to buy."""
    seen = int(amount if images is None else images)
    steps = seen // 4
    return {
        "text": f"{amount:g}", "unit": unit, "amount": amount,
        "images": seen, "steps": steps, "epochs": seen / 20,
    }  # fmt: skip


def record(strategy: str, seed: int, accuracy: float, /, **changes: Any) -> dict[str, Any]:
    """A synthetic record: its numbers are made up for these tests."""

    settings: dict[str, Any] = {
        "strategy": strategy,
        "strategy_settings": {},
        "strategy_digest": None,
        "lr_trials": 0,
        "scored_on": "test",
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
        "budget": budget(),
        "ledger": ledger(2.0 + seed),
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


def used(
    strategy: str,
    seed: int,
    accuracy: float,
    /,
    *,
    images: int = 40,
    flops: float = 4e9,
    seconds: float | None = None,
    given: tuple[float, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A record of a run that consumed so much; its budget is the images unless another is given."""
    trained = 2.0 + seed if seconds is None else seconds - 0.5
    amount, unit = given or (images, "images")
    asked = budget(amount, unit, images)
    spent = ledger(trained, images, flops)
    return record(strategy, seed, accuracy, budget=asked, ledger=spent, **changes)


THERE = {"kind": "cuda", "gpu": "a GPU", "cpu": "another CPU", "cores": 8}

BENCHMARK = {"name": "first", "sha256": "0" * 64, "run": "clmae-3"}


def elsewhere(name: str, seed: int, accuracy: float, /, **told: Any) -> dict[str, Any]:
    """A record of another machine, version and time."""
    found = record(name, seed, accuracy)
    versions = {"python": "3", "maskbench": "1", "torch": "2.6"}
    changed = {"device": THERE, "versions": versions, "commit": "a" * 40, **told}
    found["provenance"] = {**found["provenance"], **changed}
    return found


def moment(share: float, accuracy: float, of: dict[str, Any]) -> dict[str, Any]:
    """A probe at a share of what a ledger holds in the end."""
    spent = {key: share * of[key] for key in ("images", "flops_total", "seconds_total")}
    return {"share": share, **spent, "rows": rows("patchmean", accuracy)}


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


LONG = "clmae-with-a-very-long-name_%s (diversity=0.25, kl=0.125, temperature=0.0625)"


def many(store: Path, count: int, seeds: int, probed: bool = True) -> Path:
    """Random and so many other strategies, probed during training; names are long."""
    rng = np.random.default_rng(3)
    for seed in range(seeds):
        for i in range(count + 1):
            name = "random" if not i else LONG % i
            run = record(name, seed, float(0.5 + 0.02 * rng.normal()))
            if probed:
                run["probes_during"] = [
                    moment(share, 0.3 + 0.2 * share + 0.01 * seed, run["ledger"])
                    for share in (0.25, 0.5)
                ]
            put(store, f"run{i}-{seed}", run, files=False)
    return store


def html_of(store: Path) -> str:
    return page.make(sorted(path.parent for path in store.glob("*/record.json"))).html


SCRIPT = (Path(page.__file__).parent / "page.js").read_text(encoding="utf-8")


def foreign(html: str) -> str:
    """A page without its own script and the players' data, in which no tag can stand."""
    html = html.replace(f"<script>\n{SCRIPT}\n</script>", "")
    return re.sub(r'<script type="application/json">[^<]*</script>', "", html)


def groups_of(html: str) -> str:
    """The part of a page in which runs are ranked."""
    ranked = html.partition('<section aria-labelledby="h-')[0]
    return re.sub(r'(?s)<section aria-labelledby="s\d+-cost.*?</section>', "", ranked)


def plain(html: str) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|script).*?</\1>", "", html))
    )


def compare(*words: str) -> tuple[int, str]:
    drawn = [] if "--figures" in words else ["--figures", "none"]  # they take most of the time
    result = CliRunner().invoke(app, ["compare", *words, *drawn])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout
