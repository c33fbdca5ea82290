"""Few-shot logistic regressions side by side, against scikit-learn's one by one.

    uv run python benchmarks/speed/probes.py --features encoder

Fits 5 shots x 10 draws of 10 classes on 192 features and finds the classes of 1,000 images: ours
all at once, scikit-learn's on the features, and scikit-learn's in the span of a draw's labelled
images (where it has fewer unknowns; a QR each). Interleaved; medians of wall-clock and of CPU
seconds over rounds. ``encoder`` is an untrained encoder on scenes, ``clusters`` are Gaussians.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from maskbench import seeds
from maskbench.data.scenes import generate
from maskbench.model import MaskedAutoencoder
from maskbench.probes import fewshot
from maskbench.probes.backbone import of_encoder
from maskbench.probes.features import describe, standardise
from maskbench.probes.fewshot import Subset
from maskbench.probes.logistic import solve
from maskbench.shape import PRESETS

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
WIDTH, TRAIN, TEST, CLASSES, DRAWS = 192, 2000, 1000, 10, 10


def clusters() -> tuple[Floats, Floats, Labels]:
    """Pool, queries, and the pool's labels: Gaussians whose means differ a little."""
    rng = np.random.default_rng(0)
    labels = np.arange(TRAIN + TEST) % CLASSES
    features = rng.normal(size=(TRAIN + TEST, WIDTH))
    features += 0.3 * rng.normal(size=(CLASSES, WIDTH))[labels]
    return features[:TRAIN], features[TRAIN:], labels[:TRAIN]


def encoder() -> tuple[Floats, Floats, Labels]:
    """The same of scenes, seen by an untrained nano encoder of twice the width."""
    shape = replace(PRESETS["nano"].shape, width=WIDTH)
    model = MaskedAutoencoder(shape, seeds.generator(0, "init"))
    train, test = generate(TRAIN, "train"), generate(TEST, "test")
    backbone = of_encoder(model, "untrained encoder")
    pool, queries = (
        describe(backbone, part.images, every_layer=False).feature("patchmean")
        for part in (train, test)
    )
    return pool.astype(np.float64), queries.astype(np.float64), train.labels


def ours(pool: Floats, queries: Floats, labels: Labels, draws: list[Subset]) -> list[Labels]:
    """Classes found, (draws * images,) for every shot."""
    features, asked = torch.from_numpy(pool), torch.from_numpy(queries)
    names, strengths = torch.from_numpy(labels), torch.tensor([fewshot.C], dtype=torch.float64)
    found = {}
    for group in ((1, 2, 4), (8, 16)):  # as ``few_shot`` does
        chosen = [torch.from_numpy(draw[shots]) for shots in group for draw in draws]
        rows = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=-1)
        given = (rows >= 0).double()
        fits = solve(
            features, names, rows.clamp(min=0), CLASSES, strengths=strengths, weights=given
        )
        scores = fits.weights[:, 0] @ asked.T + fits.intercepts[:, 0, :, None]
        of_shots = scores.argmax(1).numpy().reshape(len(group), -1)
        found |= dict(zip(group, of_shots, strict=True))
    return [found[shots] for shots in fewshot.SHOTS]


def theirs(pool: Floats, queries: Floats, labels: Labels, draws: list[Subset]) -> list[Labels]:
    """The same by scikit-learn, one by one."""
    found = []
    for shots in fewshot.SHOTS:
        classes = []
        for draw in draws:
            model = LogisticRegression(C=fewshot.C, tol=1e-6, max_iter=2000)
            model.fit(pool[draw[shots]], labels[draw[shots]])
            classes.append(model.predict(queries))
        found.append(np.concatenate(classes))
    return found


def spanned(pool: Floats, queries: Floats, labels: Labels, draws: list[Subset]) -> list[Labels]:
    """The same by scikit-learn in the span of each draw's images at its most shots."""
    found: dict[int, list[Labels]] = {shots: [] for shots in fewshot.SHOTS}
    for draw in draws:
        basis = np.linalg.qr(pool[draw[max(draw)]].T)[0]
        projected = queries @ basis
        for shots in fewshot.SHOTS:
            model = LogisticRegression(C=fewshot.C, tol=1e-6, max_iter=2000)
            model.fit(pool[draw[shots]] @ basis, labels[draw[shots]])
            found[shots].append(model.predict(projected))
    return [np.concatenate(classes) for classes in found.values()]


def timed(work: Callable[[], list[Labels]]) -> tuple[list[Labels], float, float]:
    """What it found, wall-clock seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    return work(), time.perf_counter() - wall, time.process_time() - cpu


def measured(kind: str, rounds: int) -> dict[str, Any]:
    """Medians and ratios on one kind of features."""
    pool, queries, labels = {"clusters": clusters, "encoder": encoder}[kind]()
    pool, queries = standardise(pool, queries)
    ids, classes = [str(i) for i in range(len(pool))], [str(i) for i in range(CLASSES)]
    draws = fewshot.draws_of(ids, labels, classes, dataset="speed", draws=DRAWS)[:DRAWS]
    forms = {form.__name__: form for form in (ours, theirs, spanned)}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    found = {}
    for number in range(rounds + 1):
        for name, form in forms.items():
            found[name], *seconds = timed(lambda f=form: f(pool, queries, labels, draws))  # type: ignore[misc]
            if number:  # the first round warms up
                seen[name].append((seconds[0], seconds[1]))
    middle = {name: np.median(values, 0).round(3).tolist() for name, values in seen.items()}
    ratios = {
        f"{name}_over_ours": round(
            statistics.median(a[0] / b[0] for a, b in zip(seen[name], seen["ours"], strict=True)), 2
        )
        for name in ("theirs", "spanned")
    }
    same = np.mean([(a == b).mean() for a, b in zip(found["ours"], found["theirs"], strict=True)])
    return {"features": kind, "wall_and_cpu_s": middle, **ratios, "same_predictions": float(same)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", nargs="*", default=["clusters", "encoder"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [measured(kind, given.rounds) for kind in given.features]
    facts = {"fits": 5 * DRAWS, "rounds": given.rounds, "threads": torch.get_num_threads()}
    if given.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
        return
    for line in (facts, *rows):
        print("  ".join(f"{key} {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
