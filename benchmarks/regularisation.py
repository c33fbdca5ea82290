"""Which C for the few-shot probes: chosen on scenes of classes that are never scored.

    uv run python benchmarks/regularisation.py RUN [RUN ...]

Takes the encoders of finished runs (several strategies, so that none is favoured), an untrained one
and raw pixels; prints the accuracy on development scenes by C, averaged over shots and draws, of
each, and of all runs together.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from maskbench.data.scenes import DEVELOPMENT, generate
from maskbench.probes.backbone import untrained
from maskbench.probes.features import Features, describe, pixels
from maskbench.probes.fewshot import draws_of, few_shot
from maskbench.probes.foreign import open_backbone
from maskbench.results import Store

GRID = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
TRAIN, TEST = 5000, 1000


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", help="finished runs at 32 px")
    parser.add_argument("--store", type=Path, default=Path("runs"))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    train, test = (
        generate(count, f"development/{name}", cues=DEVELOPMENT)
        for name, count in (("train", TRAIN), ("test", TEST))
    )
    features: dict[str, tuple[Features, Features]] = {}
    for name in given.runs:
        backbone = open_backbone(name, Store(given.store), "cpu", None).backbone
        for key, one in ((name, backbone), ("untrained", untrained(backbone, 0))):
            if one and key not in features:
                first, second = (
                    describe(one, part.images, every_layer=False) for part in (train, test)
                )
                features[key] = (first.feature("patchmean"), second.feature("patchmean"))
    features["pixels"] = (pixels(train.images, 32), pixels(test.images, 32))
    ids, classes = [f"{i}" for i in range(TRAIN)], [f"{c}" for c in range(DEVELOPMENT.shape[1])]
    draws = draws_of(ids, train.labels, classes, dataset="development", draws=given.draws)
    table: dict[str, list[float]] = {}
    for name, (pool, queries) in features.items():
        for strength in GRID:
            rows = few_shot(
                pool, queries, train.labels, test.labels, draws=draws, strength=strength
            )
            by_shot: dict[int, list[float]] = {}
            for row in rows:
                if row["probe"] == "logreg":
                    by_shot.setdefault(row["shots"], []).append(row["accuracy"])
            found = float(np.mean([np.mean(values) for values in by_shot.values()]))
            table.setdefault(name, []).append(round(100 * found, 2))
    own = [table[name] for name in given.runs]
    table["mean over runs"] = [round(float(value), 2) for value in np.mean(own, axis=0)]
    if given.json:
        print(json.dumps({"C": GRID, "accuracy": table}))
        return
    print(f"{'C':>30} " + " ".join(f"{strength:>7g}" for strength in GRID))
    for name, values in table.items():
        print(f"{name[:30]:>30} " + " ".join(f"{value:7.2f}" for value in values))


if __name__ == "__main__":
    main()
