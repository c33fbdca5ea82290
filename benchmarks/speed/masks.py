"""How long a study of masks takes: all metrics, nulls, effects, geometry and drift.

    uv run python benchmarks/speed/masks.py [--images 512] [--moments 8] [--side 14] [--json]

Masks and saliency maps are made up (log-normal saliency, masks drawn towards it), so that nothing
but the study itself is timed; sources from pixels are timed beside it, on images of 16 px patches.
Prints seconds and the peak of the host's memory on this machine.
"""

import argparse
import json
import time
from importlib import import_module

import numpy as np

from maskbench.analysis import sources
from maskbench.analysis.agreement import Source
from maskbench.analysis.study import Moment, study
from maskbench.machine import peak_memory
from maskbench.provenance import provenance

PATCH = 16
NAMES = ("spectral residual", "edges", "centre", "difficulty", "attention", "objects", "contours")


def made_up(images: int, moments: int, side: int) -> tuple[list[Moment], list[Source]]:
    """Masks of several moments and seven saliency maps, from one generator."""
    rng = np.random.default_rng(0)
    patches, every = side * side, np.ones(images, bool)
    hidden = patches - patches // 4
    found = []
    for name in NAMES:
        maps = rng.lognormal(size=(images, patches))
        tokens = maps > np.quantile(maps, 0.7, axis=1, keepdims=True)
        found.append(Source(name, maps, every, tokens if name in NAMES[-2:] else None))
    made = []
    for n in range(moments):
        masks, again = (np.zeros((images, patches), bool) for _ in range(2))
        pull = (n / moments - 0.5) * np.log(found[1].maps)
        for one in (masks, again):
            order = (pull + rng.gumbel(size=pull.shape)).argsort(axis=1)
            np.put_along_axis(one, order[:, -hidden:], values=True, axis=1)
        losses = rng.uniform(0.5, 1, (2, images))
        keep = rng.random((images, patches))
        grids = (one.reshape(images, side, side) for one in (masks, again))
        made.append(Moment(n / (moments - 1), n, *grids, keep, losses, losses, 1 - 2 * n / moments))
    return made, found


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--moments", type=int, default=8)
    parser.add_argument("--side", type=int, default=14)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    moments, maps = made_up(given.images, given.moments, given.side)
    import_module("statsmodels.discrete.discrete_model")  # not a part of the study
    start = time.perf_counter()
    found = study(moments, maps)
    took = time.perf_counter() - start
    width = given.side * PATCH
    pixels = np.random.default_rng(1).integers(0, 256, (given.images, width, width, 3), np.uint8)
    start = time.perf_counter()
    for first in range(0, given.images, 128):
        part = pixels[first : first + 128]
        for make in (sources.spectral_residual, sources.edge_energy):
            sources.tokens(make(part), given.side, given.side)
    told = {
        "images": given.images,
        "moments": given.moments,
        "grid": [given.side, given.side],
        "rows": len(found.tables["saliency"]),
        "study_s": round(took, 2),
        "sources_s": round(time.perf_counter() - start, 2),
        "peak_memory_bytes": peak_memory("cpu")["host"],
        "provenance": provenance("cpu"),
    }
    if given.json:
        print(json.dumps(told))
        return
    print(
        f"{given.images} images x {given.moments} moments, {given.side} x {given.side} patches, "
        f"{told['rows']} rows: study {told['study_s']} s, spectral residual and edges "
        f"{told['sources_s']} s, peak {told['peak_memory_bytes'] / 2**30:.2f} GiB"
    )


if __name__ == "__main__":
    main()
