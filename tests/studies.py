"""Synthetic studies of masks for the report's tests: their masks are made up."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from synthetic import GRID, put, record

from maskbench import findings
from maskbench.analysis.agreement import Source
from maskbench.analysis.study import Moment, study
from maskbench.report.reading import LeftOut, read
from maskbench.report.studied import Studied, studied
from maskbench.report.views import groups
from maskbench.studying import pictured

IMAGES, HIDDEN, SHARES = 30, 12, (0.0, 0.5, 1.0)


def maps() -> NDArray[np.float64]:
    return np.random.default_rng(7).random((IMAGES, GRID * GRID))


def masks(seed: int, pull: float) -> NDArray[np.bool_]:
    """Masks that come to hide what is salient, the more the later."""
    rng = np.random.default_rng(seed)
    scores = [rng.random((IMAGES, GRID * GRID)) - pull * share * maps() for share in SHARES]
    ranks = np.stack(scores).argsort(axis=2).argsort(axis=2)
    return (ranks < HIDDEN).reshape(len(SHARES), IMAGES, GRID, GRID)


def add(folder: Path, seed: int, pull: float, **facts: Any) -> Path:
    """A study of made-up masks in a run's folder."""
    hidden = masks(seed, pull)
    rng = np.random.default_rng(seed)
    moments = [
        Moment(share, int(10 * share), each, losses=rng.random((2, IMAGES)) + 1, schedule=1 - share)
        for share, each in zip(SHARES, hidden, strict=True)
    ]
    none = np.zeros(IMAGES, bool)
    sources = [
        Source("edges", maps(), ~none),
        Source("objects", np.zeros((IMAGES, GRID * GRID)), none),
    ]
    head: dict[str, Any] = {
        "run": folder.name,
        "data_fingerprint": "f" * 64,
        "images": IMAGES,
        "images_sha256": "0" * 64,
        "grid": {"rows": GRID, "columns": GRID, "hidden": HIDDEN},
        "moments": [{"share": share, "step": int(10 * share)} for share in SHARES],
        "reference": "own",
        **facts,
    }
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    with patch(
        "maskbench.figures.analysis.figures_of", return_value={}
    ):  # they take most of the time
        write = findings.write
        write(
            folder / findings.FOLDER,
            head,
            study(moments, sources),
            pixels,
            hidden[:, :2],
            kinds=(),
            maps=pictured(sources, GRID),
        )
    return folder


def store(path: Path, seeds: int = 3, **facts: Any) -> Path:
    for seed in range(seeds):
        for name, pull in (("random", 0.0), ("clmae", 1.0 + seed)):
            run = put(path, f"{name}-{seed}", record(name, seed, 0.5 + seed / 100))
            add(run, 10 * seed + len(name), pull, **facts)
    return path


def found(path: Path) -> tuple[Studied, list[LeftOut]]:
    runs, _ = read(sorted(path.iterdir()))
    (group,) = groups(runs)
    return studied(group)


def change(folder: Path, **changes: Any) -> None:
    file = folder / findings.FOLDER / findings.JSON
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
