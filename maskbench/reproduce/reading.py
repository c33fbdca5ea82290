"""Quantities of finished runs, as the figures' files name them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from maskbench import findings
from maskbench.report.frame import TRAINED, Run
from maskbench.report.reach import first
from maskbench.report.tape import Tape, read_masks
from maskbench.reproduce.schema import ACCURACY, AT, EPOCHS, KNN, Benchmark, Compare, Point
from maskbench.reproduce.verdict import Reading
from maskbench.results import read_record

NEAR = 0.1
"""A moment that is farther off in share of the budget is another moment."""


@dataclass(frozen=True)
class Done:
    """A finished run.

    Args:
        folder: Where it lies.
    """

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """What it says of itself."""
        return read_record(self.folder)

    @cached_property
    def run(self) -> Run:
        """Its scores and costs."""
        return Run.of(self.folder, self.record)

    @cached_property
    def study(self) -> dict[str, Any] | None:
        """What its masks look like; None where they could not be studied."""
        return findings.read(self.folder / findings.FOLDER)

    @cached_property
    def tape(self) -> Tape:
        """Its masks."""
        return read_masks(self.folder)

    @cached_property
    def values(self) -> NDArray[np.float32] | None:
        """Of every row of the saliency table and image; None where they cannot be read."""
        try:
            found: NDArray[np.float32] = load_file(self.folder / findings.FOLDER / findings.VALUES)[
                "values"
            ]
        except (OSError, SafetensorError, KeyError):
            return None
        return found

    def moment(self, share: float) -> int | None:
        """The number of the moment nearest to a share of the budget; None where none is near."""
        shares = [one["share"] for one in (self.study or {}).get("moments", ())]
        if not shares:
            return None
        number = int(np.argmin(np.abs(np.array(shares) - share)))
        return number if abs(shares[number] - share) <= NEAR else None


Runs = Mapping[tuple[str, int], Done | str]
"""By arm and seed: a finished run, or why there is none."""


@dataclass(frozen=True)
class Bench:
    """A benchmark and what its runs came to."""

    asked: Benchmark
    runs: Runs

    def of(self, arm: str) -> list[tuple[int, Done | str]]:
        """An arm's runs by seed."""
        return [(seed, self.runs[arm, seed]) for seed in range(self.asked.runs.seeds)]

    def reading(self, quantity: str, point: Point | tuple[str, float]) -> Reading:
        """A quantity of an arm at a moment, all seeds.

        Args:
            quantity: One of ``schema.QUANTITIES``.
            point: The arm, and when: a share of the budget, 0 to 1.
        """
        arm, share = (point.arm, AT[point.at]) if isinstance(point, Point) else point
        runs = self.of(arm)
        lost = [f"{arm}, seed {seed}: {run}" for seed, run in runs if isinstance(run, str)]
        if lost:
            return Reading.none("; ".join(lost))
        done = [(seed, run) for seed, run in runs if isinstance(run, Done)]
        if quantity == EPOCHS:
            return self._epochs(done)
        if quantity in (ACCURACY, KNN):
            return _scores(arm, done, quantity)
        return _of_masks(arm, [run for _, run in done], quantity, share)

    def difference(self, one: Compare) -> tuple[str, Reading]:
        """The quantity that was compared, and the paired difference, high minus low."""
        found, used = self._difference(one, one.quantity), one.quantity
        if one.instead and found.missing and self._unknown(one):
            used, found = one.instead, self._difference(one, one.instead)
        return used, found

    def _difference(self, one: Compare, quantity: str) -> Reading:
        return self.side(one, quantity, one.high).minus(self.side(one, quantity, one.low))

    def side(self, one: Compare, quantity: str, point: Point) -> Reading:
        """One side of a comparison."""
        found = self.reading(quantity, point)
        if not one.absolute or found.missing:
            return found
        return Reading(np.abs(found.values), found.most, found.least)

    def _unknown(self, one: Compare) -> bool:
        """Whether the data, not a run, lack the quantity: every study of them has no such map."""
        source = one.quantity.partition(" of ")[2]
        studies = [run.study for run in self.runs.values() if isinstance(run, Done)]
        return bool(source and studies) and all(
            study is not None
            and not any(r["source"] == source and r["metric"] for r in study["tables"]["saliency"])
            for study in studies
        )

    def _epochs(self, done: Sequence[tuple[int, Done]]) -> Reading:
        """Share of the budget until the baseline's final accuracy was first reached.

        A run that was there at its first probe has an upper end; one that never gets there a lower
        one: the whole budget.
        """
        baseline = self.asked.baseline or ""
        found, most, least = [], False, False
        for seed, run in done:
            other = self.runs[baseline, seed]
            if isinstance(other, str):
                return Reading.none(f"{baseline}, seed {seed}: {other}")
            goals, moments = other.run.scores.get(TRAINED, {}), run.run.moments
            if len(moments) < 2:
                return Reading.none(f"{run.folder.name} was not probed during training: probe_at")
            shots = sorted(set(goals).intersection(*(moment.scores for moment in moments)))
            if not shots:
                return Reading.none("the data have no labels, so there is no accuracy to reach")
            goal = goals[shots[-1]]
            there = first(moments, goal, shots[-1])
            most |= there is not None and there.images == moments[0].images
            least |= there is None
            found.append(there.images / moments[-1].images if there else 1.0)
        return Reading(np.array(found)[:, None], most=most, least=least)


def _scores(arm: str, done: Sequence[tuple[int, Done]], quantity: str) -> Reading:
    """An accuracy of each whole run, (seeds, 1)."""
    number: Callable[[Run], float | None] = (
        Run.aulc if quantity == ACCURACY else lambda run: run.neighbours.get(TRAINED)
    )
    found = [number(run.run) for _, run in done]
    known = [value for value in found if value is not None]
    if len(known) < len(found):
        return Reading.none(f"{arm}: the data have no labels, so there is no accuracy")
    return Reading(np.array(known)[:, None])


def _of_masks(arm: str, done: Sequence[Done], quantity: str, share: float) -> Reading:
    """A quantity of the masks at a moment: (seeds, images), or (seeds, 1) of whole sets."""
    metric, of, source = quantity.partition(" of ")
    rows, images = [], set()
    for run in done:
        number = run.moment(share)
        if run.study is None or number is None:
            when = (
                f"no moment near {100 * share:g} % of the budget"
                if run.study
                else "not been studied"
            )
            return Reading.none(f"{arm}: the masks of {run.folder.name} have {when}")
        images.add(run.study["images_sha256"])
        if of:
            found = _per_image(run, number, source, metric)
        else:
            found = _of_set(run.study, number, quantity)
        if found is None:
            return Reading.none(f"{arm}: {quantity} is not known of {run.folder.name}")
        rows.append(found)
    if len(images) > 1:
        return Reading.none(f"{arm}: the runs' masks are of different images")
    return Reading(np.stack(rows))


def _per_image(run: Done, moment: int, source: str, metric: str) -> NDArray[np.float64] | None:
    assert run.study is not None
    wanted = (moment, source, metric)
    table = run.study["tables"]["saliency"]
    at = [i for i, r in enumerate(table) if (r["moment"], r["source"], r["metric"]) == wanted]
    if not at or run.values is None or run.values.shape != (len(table), run.study["images"]):
        return None
    return np.asarray(run.values[at[0]], dtype=np.float64)


def _of_set(study: Mapping[str, Any], moment: int, name: str) -> NDArray[np.float64] | None:
    table = study["tables"]["geometry"]
    found = next((r["value"] for r in table if (r["moment"], r["name"]) == (moment, name)), None)
    return None if found is None else np.array([float(found)])


def cost(runs: Runs) -> float | None:
    """Seconds that the finished runs took, all parts of their ledgers; None where none finished."""
    done = [run for run in runs.values() if isinstance(run, Done)]
    beside = ("paused", "checkpoint", "probes", "compilation")
    found = [
        run.record["ledger"]["seconds_total"]
        + sum(run.record["ledger"]["seconds"].get(name) or 0 for name in beside)
        for run in done
    ]
    return round(sum(found), 1) if found else None


def tidy(bench: Bench) -> list[dict[str, Any]]:
    """Every number that was compared: a row per comparison, side and seed; means over images."""
    rows = []
    for one in bench.asked.compare:
        quantity, _ = bench.difference(one)
        for side, point in (("high", one.high), ("low", one.low)):
            found = bench.side(one, quantity, point)
            for seed in range(bench.asked.runs.seeds):
                value = None if found.missing else mean(found.values[seed])
                rows.append(
                    {
                        "comparison": one.what, "quantity": quantity, "side": side,
                        "arm": point.arm, "at": point.at, "seed": seed, "value": value,
                    }
                )  # fmt: skip
    return rows


def mean(values: NDArray[np.float64]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
