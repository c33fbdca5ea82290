"""Run records as checked runs: their scores, costs and conditions."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from maskbench.errors import StoreError
from maskbench.results import read_metrics
from maskbench.trust import plain

REFERENCE = "random"
TRAINED, UNTRAINED, PIXELS = "patchmean", "untrained", "pixels"
UNPROBED = "none"
PROBE, VARIED = "logreg", ("logreg-C/10", "logreg-Cx10")
RECIPE = ("batch", "base_lr", "weight_decay", "warmup", "precision", "compile", "limit", "draws")
POSITIVE = (
    ("images",), ("steps",), ("flops_total",), ("flops_relative_to_random",), ("images_per_s",),
    ("seconds", "training"), ("seconds_total",),
)  # fmt: skip

Scores = Mapping[str, Mapping[int, float]]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


@dataclass(frozen=True)
class Moment:
    """What a run had used and could do at some point of its training.

    Args:
        images: Seen so far.
        flops: Spent so far.
        seconds: On the clock so far.
        scores: Shots to accuracy.
    """

    images: float
    flops: float
    seconds: float
    scores: Mapping[int, float]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        record: As stored.
        folder: Where it lies.
        scores: Feature to shots to accuracy (logistic regression, mean over draws).
        neighbours: Feature to the accuracy of 20 nearest neighbours.
        varied: Probe to shots to accuracy of the trained encoder, where the logistic regression
            was repeated under another C.
        classes: Classes of the probes; 0 without probes.
        conditions: What must be equal for two runs to be alike, in words; the budget is not among
            it.
    """

    record: Mapping[str, Any]
    folder: Path
    scores: Scores
    neighbours: Mapping[str, float]
    varied: Scores
    classes: int
    conditions: Mapping[str, str]

    @property
    def id(self) -> str:
        """The run's name."""
        return plain(self.record["id"])

    @property
    def key(self) -> str:
        """What tells it from all other runs of a report; two stores may use one name."""
        return str(self.folder)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.record["seed"])

    @property
    def machine(self) -> str:
        """Device and threads; seconds compare only where they are equal."""
        found, threads = self.record["provenance"]["device"], self.record["provenance"]["threads"]
        plural = "" if threads == 1 else "s"
        return plain(found["gpu"] or f"{found['cpu']}, {threads} thread{plural}")

    @property
    def started(self) -> str:
        """When, as an ISO text."""
        return str(self.record["provenance"]["started"])

    @property
    def planned(self) -> tuple[str, float]:
        """The budget it was given: unit and amount."""
        budget = self.record["budget"]
        return plain(budget["unit"]), _number(budget["amount"])

    @cached_property
    def variant(self) -> tuple[str, Mapping[str, Any]]:
        """The strategy's name and its settings (with the digest of a user's own file)."""
        settings = flat(self.record["strategy"].get("settings") or {})
        digest = self.record["settings"].get("strategy_digest")
        if digest:
            settings["file"] = str(digest)[:8]
        return plain(self.record["strategy"]["name"]), dict(sorted(settings.items()))

    @property
    def says_cost(self) -> bool:
        """Whether its strategy says what it costs; else its FLOPs are a lower bound."""
        return self.record["ledger"]["flops_known"] is True

    @property
    def trials(self) -> int:
        """Learning rates that were tried to choose its own; 0 if it was not tuned."""
        return int(self.record["settings"].get("lr_trials") or 0)

    @cached_property
    def moments(self) -> Sequence[Moment]:
        """Probed moments in order; the last is the end of the run."""
        during = self.record.get("probes_during") or []
        found = [
            Moment(
                _number(row["images"]),
                _number(row["flops_total"]),
                _number(row["seconds_total"]),
                few_shot(row["rows"]),
            )
            for row in sorted(during, key=lambda row: _number(row["images"]))
        ]
        images, flops, seconds = (
            self.cost(key) or 0 for key in ("images", "flops_total", "seconds_total")
        )
        before = [moment for moment in found if moment.images < images]
        return [*before, Moment(images, flops, seconds, self.scores.get(TRAINED, {}))]

    @cached_property
    def metrics(self) -> Sequence[Mapping[str, Any]]:
        """What was logged while it trained, line by line; none where it cannot be read."""
        try:
            return read_metrics(self.folder)
        except StoreError:
            return []

    def cost(self, *keys: str) -> float | None:
        """A number of the ledger; None when it was not counted."""
        value: Any = self.record["ledger"]
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else _number(value)

    def accuracy(self, feature: str, shots: int) -> float | None:
        """Mean accuracy over draws."""
        return self.scores.get(feature, {}).get(shots)

    def aulc(self, shots: Sequence[int] = (), probe: str = PROBE) -> float | None:
        """FS-AULC: mean over shots of the share of the way from chance to 1.

        Args:
            shots: Labelled images per class; all that were probed if none are named.
            probe: The logistic regression, or one of ``VARIED``.

        Returns:
            From below 0 (below guessing) to 1; None where a shot is missing.
        """
        own = self.scores.get(TRAINED, {}) if probe == PROBE else self.varied.get(probe, {})
        wanted = shots or tuple(own)
        if not wanted or any(n not in own for n in wanted):
            return None
        chance = 1 / self.classes if self.classes else 0
        return sum((own[n] - chance) / (1 - chance) for n in wanted) / len(wanted)

    @classmethod
    def of(cls, folder: Path, record: Mapping[str, Any]) -> "Run":
        """A run from its record; its ledger is not looked at.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: The record is not whole.
        """
        rows = [*record["probes"], *record["controls"]]
        means = _means(rows)
        return cls(
            record=record,
            folder=folder,
            scores=_scores(means),
            varied={probe: _scores(means, probe).get(TRAINED, {}) for probe in VARIED},
            neighbours={name: v for (name, probe, _), v in means.items() if probe == "knn20"},
            classes=int(rows[0]["classes"]) if rows else 0,
            conditions=conditions(record),
        )

    def check(self) -> None:
        """Raise unless everything a report always shows is there."""
        for keys in POSITIVE:
            if not (self.cost(*keys) or 0) > 0:
                raise ValueError(f"the ledger has no {' '.join(keys)}")
        _ = self.id, self.seed, self.machine, self.started, self.planned, self.trials
        _ = variant(self), self.moments
        _ = self.record["provenance"]["versions"], self.record["provenance"]["commit"]


def few_shot(rows: Iterable[Mapping[str, Any]]) -> Mapping[int, float]:
    """Shots to accuracy of the trained encoder: the primary probe, mean over draws."""
    primary = (row for row in rows if (row["feature"], row["probe"]) == (TRAINED, PROBE))
    return _scores(_means(primary)).get(TRAINED, {})


Means = Mapping[tuple[str, str, int | None], float]


def _means(rows: Iterable[Mapping[str, Any]]) -> Means:
    """Mean accuracy over draws by feature, probe and shots; ``record.Row`` has checked them."""
    cells: defaultdict[tuple[str, str, int | None], list[float]] = defaultdict(list)
    for row in rows:
        cells[row["feature"], row["probe"], row["shots"]].append(row["accuracy"])
    return {cell: sum(found) / len(found) for cell, found in sorted(cells.items(), key=_name)}


def _name(cell: tuple[tuple[Any, ...], Any]) -> str:
    """What cells are sorted by: without their numbers, of which there may be many."""
    return str(cell[0])


def _scores(means: Means, wanted: str = PROBE) -> dict[str, dict[int, float]]:
    scores: dict[str, dict[int, float]] = {}
    for (feature, probe, shots), value in means.items():
        if probe == wanted and shots is not None:
            scores.setdefault(feature, {})[shots] = value
    return {feature: dict(sorted(by.items())) for feature, by in scores.items()}


def conditions(record: Mapping[str, Any]) -> dict[str, str]:
    """What must be equal for two runs to be alike."""
    data, model, settings = record["data"], record["model"], record["settings"]
    patches = (model["image"] // model["patch"]) ** 2
    sizes = ", ".join(f"{k} {v}" for k, v in model.items() if k not in ("preset", "hidden"))
    told = {key: settings.get(key) for key in RECIPE}
    recipe = {key: value for key, value in told.items() if value is not None and value is not False}
    trials = settings.get("lr_trials")
    if trials:
        rates = " ".join(f"{rate:.4g}" for rate in settings.get("lr_grid") or ())
        recipe["base_lr"] = f"tuned, {trials} trials{f' of {rates}' if rates else ''}"
    found = {
        "data": f"{data['name']} ({str(data['fingerprint'])[:12]})",
        "model": f"{model['preset']} ({sizes})",
        "hidden": f"{model['hidden']} of {patches} patches",
        "recipe": ", ".join(f"{key} {value}" for key, value in recipe.items()),
    }
    primary: Mapping[str, Any] = next(
        (r for r in record["probes"] if (r["probe"], r["feature"]) == (PROBE, TRAINED)), {}
    )
    found["probes"] = f"few-shot C {primary['C']:g}" if primary.get("C") else UNPROBED
    return {key: plain(value) for key, value in found.items()}


def variant(run: Run) -> tuple[str, Mapping[str, Any]]:
    """A strategy's name and its settings (with the digest of a user's own file)."""
    return run.variant


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by full key, without those left to the strategy; parts have settings of their own.

    ``{"ratio": {"first": 0.5, "last": None}}`` is ``{"ratio.first": 0.5}``.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        elif value is not None:
            found[key] = value
    return found
