"""A store of made-up runs, as large as wanted: what reports are timed and tested with.

Files are of the shapes that real runs leave (records with all their probes, metrics, masks with
reconstructions, studies of masks of 256 images); every number in them is drawn from a generator.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from maskbench.shown import SHOWN

SIDE, GRID, HIDDEN, IMAGES, PRESENTED = 32, 8, 48, 256, 5000
SHARES = tuple(round(share, 3) for share in np.linspace(0, 1, 9).tolist())
DRAWS = {1: 20, 2: 10, 4: 10, 8: 10, 16: 10}
CLASSES = 10
SOURCES = ("spectral residual", "edges", "centre", "difficulty", "attention", "objects", "contours")
METRICS = (
    "auc", "sauc", "nss", "cc", "sim", "kl", "share", "lift", "contrast", "gap", "coverage",
)  # fmt: skip
SHAPES = (
    "moran", "low_frequency", "joins_hidden", "joins_visible", "joins_mixed", "joins_horizontal",
    "joins_vertical", "hidden_components", "visible_components", "hidden_largest",
    "visible_largest", "iou_hidden", "iou_visible", "hamming", "same_image", "entropy", "chi2",
    "anisotropy", "slope", "position_share",
)  # fmt: skip
DRIFTS = ("lambda", "difficulty gap", "difficulty frozen gap", "map drift", "turnover")
FEATURES = ("patchmean", "cls", "cls+patchmean", "patchmean@best", "patchmean@last")
FLOPS = 3e12 / PRESENTED


@dataclass(frozen=True)
class Plan:
    """What a store holds.

    Args:
        runs: How many.
        strategies: Random masking and so many others but one.
        sets: Data sets; every one is another chapter of the report.
        studies: Whether runs have masks and studies of them.
    """

    runs: int
    strategies: int
    sets: int
    studies: bool = True


@dataclass(frozen=True)
class _Job:
    """A run: every other budget is half of the images at twice the FLOPs of an image."""

    strategy: str
    data: str
    seed: int
    short: bool

    @property
    def name(self) -> str:
        return f"{self.strategy}-{self.data}-{'half' if self.short else 'whole'}-s{self.seed}"

    @property
    def images(self) -> int:
        return PRESENTED // 2 if self.short else PRESENTED


def make(store: Path, plan: Plan) -> list[Path]:
    """A store of made-up runs.

    Args:
        store: Made; must be new.
        plan: How large it is.

    Returns:
        The folders of the runs.
    """
    labels = ["random", *(f"strategy-{n}" for n in range(1, plan.strategies))]
    names = [f"set-{n}" for n in range(1, plan.sets + 1)]
    found = []
    for number, job in zip(range(plan.runs), _jobs(labels, names), strict=False):
        found.append(_run(store / job.name, job, np.random.default_rng(number), plan))
    return found


def _jobs(labels: list[str], names: list[str]) -> Iterator[_Job]:
    """Three seeds of everything, then more: half the images at equal FLOPs, of one data set."""
    for seed, data, label in product(range(3), names, labels):
        yield _Job(label, data, seed, short=False)
    for seed, data, label in product(range(1000), names, labels[1:]):
        yield _Job(label, data, seed, short=True)


def _run(folder: Path, job: _Job, rng: np.random.Generator, plan: Plan) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(_record(job, rng)))
    steps = np.linspace(0.01, 1, 150)
    rows = [
        {"images": int(job.images * s), "progress": s, "loss": 2 - s, "made-up/lambda": 1 - 2 * s}
        for s in steps.tolist()
    ]
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    if plan.studies:
        _masks(folder, rng)
        _study(folder, job, rng)
    return folder


def _probes(rng: np.random.Generator, base: float, features: tuple[str, ...]) -> list[Any]:
    shared = {"layer": "last", "classes": CLASSES, "n_test": 1000, "C": 300.0, "converged": True}
    found = []
    for feature in features:
        more = ("logreg-C/10", "logreg-Cx10") if feature == "patchmean" else ()
        for probe, (shots, draws) in product(("logreg", "ncm", *more), DRAWS.items()):
            drawn = base + 0.03 * np.log2(shots) + 0.02 * rng.normal(size=draws)
            for draw, accuracy in enumerate(drawn.clip(0, 1).tolist()):
                told = {"probe": probe, "feature": feature, "shots": shots, "draw": draw}
                found.append({**shared, **told, "accuracy": accuracy, "nll": 2.5, "ece": 0.4})
        for probe in ("knn1", "knn20"):
            told = {"probe": probe, "feature": feature, "shots": None, "draw": None}
            found.append({**shared, **told, "accuracy": base})
    return found


def _ledger(job: _Job) -> dict[str, Any]:
    flops = FLOPS * PRESENTED
    parts = dict.fromkeys(("mask generator", "teacher", "feature extraction", "clustering"), 0)
    seconds = dict.fromkeys(
        ("data", "step", "strategy", "compilation", "paused", "checkpoint", "probes"), 1.0
    )
    return {
        "images": job.images,
        "images_distinct": job.images,
        "steps": 312,
        "tokens_encoded": 17 * job.images,
        "flops": {"encoder": 0.75 * flops, "decoder": 0.25 * flops, **parts},
        "flops_total": flops,
        "flops_prior": 0,
        "flops_known": True,
        "flops_relative_to_random": 2.0 if job.short else 1.0,
        "seconds": {"training": 100.0 + job.seed, "setup": 0.5, **seconds},
        "seconds_total": 100.5 + job.seed,
        "images_per_s": 50.0,
        "peak_memory_bytes": {"host": 2**30, "device": None},
        "machine": {"device": "a CPU", "threads": 1, "load_before": 0.1, "load_after": 0.1,
                    "battery": False},
        "energy_joules": None,
        "stop_reason": "budget",
    }  # fmt: skip


def _record(job: _Job, rng: np.random.Generator) -> dict[str, Any]:
    ledger, base = _ledger(job), 0.3 + 0.05 * float(rng.random())
    spent = ("images", "flops_total", "seconds_total")
    during = [
        {"share": share, **{key: share * ledger[key] for key in spent},
         "rows": _probes(rng, base * share, ("patchmean",))}
        for share in (0.25, 0.5, 0.75)
    ]  # fmt: skip
    gaps = [{"gap": 0.01 * n, "error": 0.002} for n in range(len(SHARES))]
    steps = [round(312 * share) for share in SHARES]
    patch = SIDE // GRID
    return {
        "schema": 1,
        "id": job.name,
        "status": "finished",
        "strategy": {"name": job.strategy, "settings": {}, "source": "made up"},
        "settings": {
            "strategy": job.strategy, "strategy_settings": {}, "strategy_digest": None,
            "budget": f"{job.images}img", "data": job.data, "model": "nano", "hidden": HIDDEN,
            "batch": 16, "base_lr": 1e-3, "weight_decay": 0.05, "warmup": 0.05, "seed": job.seed,
            "device": "cpu", "precision": "fp32", "compile": False, "draws": 10, "lr_trials": 0,
            "scored_on": "test",
        },
        "seed": job.seed,
        "data": {"name": job.data, "fingerprint": f"{job.data:f<64}", "train": 5000, "test": 1000,
                 "classes": [f"class {n}" for n in range(CLASSES)]},
        "model": {"preset": "nano", "image": SIDE, "patch": patch, "width": 96, "depth": 4,
                  "hidden": HIDDEN},
        "budget": {"text": f"{job.images}img", "unit": "images", "amount": job.images,
                   "images": job.images, "steps": 312, "epochs": job.images / 5000},
        "ledger": ledger,
        "probes": _probes(rng, base, FEATURES),
        "probes_during": during,
        "controls": _probes(rng, 0.2, ("untrained", "pixels")),
        "masks": {"file": "masks.safetensors", "images": IMAGES, "moments": list(SHARES),
                  "steps": steps, "difficulty": gaps},
        "provenance": {
            "versions": {"python": "3", "maskbench": "0"}, "commit": None, "threads": 1,
            "device": {"kind": "cpu", "gpu": None, "cpu": "a CPU", "cores": 2}, "load": 0.1,
            "system": "Linux", "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:01:00+00:00",
        },
    }  # fmt: skip


def _masks(folder: Path, rng: np.random.Generator) -> None:
    patches, moments = GRID * GRID, len(SHARES)
    ranks = rng.random((moments, IMAGES, patches)).argsort(axis=2).argsort(axis=2)
    pictures = np.random.default_rng(0).integers(0, 256, (SHOWN, SIDE, SIDE, 3), dtype=np.uint8)
    noise = rng.integers(0, 40, (moments, SHOWN, SIDE, SIDE, 3), dtype=np.uint8)
    tensors: dict[str, NDArray[Any]] = {
        "bits": np.packbits(ranks < HIDDEN, axis=2),
        "steps": np.array([round(312 * share) for share in SHARES]),
        "positions": np.arange(IMAGES),
        "shown": pictures,
        "rebuilt": (pictures // 2 + noise).astype(np.uint8),
    }
    grid = json.dumps({"rows": GRID, "columns": GRID, "hidden": HIDDEN})
    save_file(tensors, folder / "masks.safetensors", metadata={"grid": grid})


def _around(value: float, name: str, null: float) -> dict[str, Any]:
    return {name: null, f"{name}_low": null - 0.01, f"{name}_high": null + 0.01, "value": value}


def _study(folder: Path, job: _Job, rng: np.random.Generator) -> None:
    """``analysis/masks.json`` and the values of every image behind its means."""
    keys = list(product(range(len(SHARES)), SOURCES, METRICS))
    values = (0.5 + 0.1 * rng.normal(size=(len(keys), IMAGES))).astype(np.float32)
    means = values.mean(axis=1, dtype=np.float64).tolist()
    saliency = []
    for (moment, source, metric), mean in zip(keys, means, strict=True):
        nulls = {k: v for n in ("uniform", "torus", "shuffle") for k, v in
                 _around(mean, n, 0.5).items()}  # fmt: skip
        at = {"moment": moment, "step": moment, "share": SHARES[moment]}
        more = {"low": mean - 0.01, "high": mean + 0.01, "images": IMAGES, "undefined": 0}
        more |= {f"{p}_{n}": 0.5 for p in "pq" for n in ("uniform", "torus", "shuffle")}
        saliency.append({**at, "source": source, "metric": metric, **more, **nulls, "note": ""})

    def quantities(key: str, names: tuple[str, ...], **more: Any) -> list[dict[str, Any]]:
        return [
            {"moment": moment, "share": SHARES[moment], key: name, **_around(v, "null", 0.5),
             "low": v - 0.02, "high": v + 0.02, **more}
            for (moment, name), v in (
                (at, float(rng.random())) for at in product(range(len(SHARES)), names)
            )
        ]  # fmt: skip

    tables = {
        "saliency": saliency,
        "geometry": quantities("name", SHAPES, note=""),
        "effects": quantities("covariate", SOURCES[:4], note="", p=0.2),
        "drift": quantities("quantity", DRIFTS),
    }
    head = {
        "schema": 1, "run": job.name, "data_fingerprint": f"{job.data:f<64}", "images": IMAGES,
        "images_sha256": "0" * 64, "grid": {"rows": GRID, "columns": GRID, "hidden": HIDDEN},
        "moments": [{"share": s, "step": round(312 * s), "hidden": HIDDEN} for s in SHARES],
        "reference": "own", "alarms": [], "maps": [],
    }  # fmt: skip
    analysis = folder / "analysis"
    analysis.mkdir()
    (analysis / "masks.json").write_text(json.dumps({**head, "tables": tables}))
    save_file({"values": values}, analysis / "values.safetensors")
