"""Run records as plain tables: what may be compared, and the numbers of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from maskbench.errors import StoreError
from maskbench.report.means import Mean, mean
from maskbench.results import read_record

REFERENCE = "random"
TRAINED, UNTRAINED, PIXELS = "patchmean", "untrained", "pixels"
RECIPE = ("batch", "base_lr", "weight_decay", "warmup", "precision", "limit", "draws")


@dataclass(frozen=True)
class LeftOut:
    """Something a report does not show.

    Args:
        run: Which run.
        status: ``failed``, ``running``, ``unreadable``, ``missing file``...
        reason: Why, in words.
    """

    run: str
    status: str
    reason: str


def text(value: Any) -> str:
    """A text from a record, without characters that would steer a terminal or break a file."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


@dataclass(frozen=True)
class Run:
    """A finished run, checked.

    Args:
        record: As stored.
        folder: Where it lies.
        scores: Feature to shots to accuracy (logistic regression, mean over draws).
        neighbours: Feature to the accuracy of 20 nearest neighbours.
        classes: Classes of the probes; 0 without probes.
        conditions: What must be equal for two runs to be compared, in words.
    """

    record: Mapping[str, Any]
    folder: Path
    scores: Mapping[str, Mapping[int, float]]
    neighbours: Mapping[str, float]
    classes: int
    conditions: Mapping[str, str]

    @property
    def id(self) -> str:
        """The run's name."""
        return text(self.record["id"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.record["seed"])

    @property
    def machine(self) -> str:
        """Device and threads; seconds compare only where they are equal."""
        found, threads = self.record["provenance"]["device"], self.record["provenance"]["threads"]
        return text(found["gpu"] or f"{found['cpu']}, {threads} threads")

    @property
    def started(self) -> str:
        """When, as an ISO text."""
        return str(self.record["provenance"]["started"])

    def cost(self, *keys: str) -> float | None:
        """A number of the ledger; None when it was not counted."""
        value: Any = self.record["ledger"]
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else _number(value)

    def accuracy(self, feature: str, shots: int) -> float | None:
        """Mean accuracy over draws."""
        return self.scores.get(feature, {}).get(shots)

    def aulc(self) -> float | None:
        """Mean over shots of the share of the way from chance to 1."""
        found = self.scores.get(TRAINED, {}).values()
        chance = 1 / self.classes if self.classes else 0
        above = [(accuracy - chance) / (1 - chance) for accuracy in found]
        return sum(above) / len(above) if above else None

    @classmethod
    def of(cls, folder: Path, record: Mapping[str, Any]) -> "Run":
        """A run from its record.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: The record is not whole.
        """
        cells: dict[tuple[str, str, int | None], list[float]] = {}
        rows = [*record["probes"], *record["controls"]]
        for row in rows:
            cell = (row["feature"], row["probe"], row["shots"])
            cells.setdefault(cell, []).append(_number(row["accuracy"]))
        means = {cell: sum(values) / len(values) for cell, values in sorted(cells.items(), key=str)}
        scores: dict[str, dict[int, float]] = {}
        for (feature, probe, shots), value in means.items():
            if probe == "logreg" and shots is not None:
                scores.setdefault(feature, {})[shots] = value
        found = cls(
            record=record,
            folder=folder,
            scores={feature: dict(sorted(by.items())) for feature, by in scores.items()},
            neighbours={name: v for (name, probe, _), v in means.items() if probe == "knn20"},
            classes=int(rows[0]["classes"]) if rows else 0,
            conditions=conditions(record),
        )
        found.check()
        return found

    def check(self) -> None:
        """Raise unless everything a report always shows is there."""
        needed = (("images",), ("flops_total",), ("flops_relative_to_random",), ("images_per_s",))
        for keys in (*needed, ("steps",), ("seconds", "training")):
            if not (self.cost(*keys) or 0) > 0:
                raise ValueError(f"the ledger has no {' '.join(keys)}")
        _ = self.id, self.seed, self.machine, self.started, variant(self)
        _ = self.record["provenance"]["versions"], self.record["provenance"]["commit"]


def conditions(record: Mapping[str, Any]) -> dict[str, str]:
    """What must be equal for two runs to be compared."""
    data, model, settings = record["data"], record["model"], record["settings"]
    patches = (model["image"] // model["patch"]) ** 2
    sizes = ", ".join(f"{k} {v}" for k, v in model.items() if k not in ("preset", "hidden"))
    recipe = ", ".join(f"{key} {settings[key]}" for key in RECIPE if settings.get(key) is not None)
    found = {
        "data": f"{data['name']} ({str(data['fingerprint'])[:12]})",
        "model": f"{model['preset']} ({sizes})",
        "hidden": f"{model['hidden']} of {patches} patches",
        "budget": f"{record['budget']['images']:,} images",
        "recipe": recipe,
    }
    return {key: text(value) for key, value in found.items()}


def read(folders: Iterable[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Finished runs, and everything else with the reason why it is not one."""
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for folder in folders:
        name = text(folder.name)
        try:
            record = read_record(folder)
            if record["status"] == "finished":
                runs.append(Run.of(folder, record))
            else:
                why = text(record.get("error") or "it has not finished")
                left_out.append(LeftOut(name, text(record["status"]), why))
        except StoreError as error:
            why = str(error).replace(str(folder), folder.name)
            left_out.append(LeftOut(name, "unreadable", text(why)))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            why = f"its record is not whole: {type(error).__name__} {error}"
            left_out.append(LeftOut(name, "unreadable", text(why)))
    kept, repeated = _first_of_each(runs)
    return kept, sorted([*left_out, *repeated], key=lambda item: (item.run, item.reason))


def _first_of_each(runs: Iterable[Run]) -> tuple[list[Run], list[LeftOut]]:
    """The run that was started first counts, so that nobody repeats one until it looks good."""
    kept: dict[tuple[Any, ...], Run] = {}
    repeated = []
    for run in sorted(runs, key=lambda run: (run.started, len(run.id), run.id)):
        first = kept.setdefault((*run.conditions.values(), str(variant(run)), run.seed), run)
        if first is not run:
            why = f"the same strategy, seed and conditions as {first.id}, which came first"
            repeated.append(LeftOut(run.id, "repeated", why))
    return list(kept.values()), repeated


def variant(run: Run) -> tuple[str, Mapping[str, Any]]:
    """A strategy's name and its settings (with the digest of a user's own file)."""
    settings = flat(run.record["strategy"].get("settings") or {})
    digest = run.record["settings"].get("strategy_digest")
    if digest:
        settings["file"] = str(digest)[:8]
    return text(run.record["strategy"]["name"]), dict(sorted(settings.items()))


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


@dataclass(frozen=True)
class Entry:
    """A strategy with its runs, by seed; ``label`` names settings where two entries differ."""

    label: str
    runs: Sequence[Run]

    @property
    def is_reference(self) -> bool:
        """Whether this is random masking."""
        return variant(self.runs[0])[0] == REFERENCE

    def mean(self, number: Callable[[Run], float | None]) -> Mean | None:
        """A number's mean over seeds."""
        return mean(number(run) for run in self.runs)

    def paired(self, other: "Entry", number: Callable[[Run], float | None]) -> Mean | None:
        """Mean difference to another entry over the seeds both have."""
        theirs = {run.seed: number(run) for run in other.runs}
        pairs = [(number(run), theirs.get(run.seed)) for run in self.runs]
        return mean(a - b for a, b in pairs if a is not None and b is not None)


@dataclass(frozen=True)
class Group:
    """Runs that may be compared: equal data, model, hidden patches, budget and recipe."""

    conditions: Mapping[str, str]
    entries: Sequence[Entry]

    @cached_property
    def reference(self) -> Entry | None:
        """Random masking, if it was run."""
        return next((entry for entry in self.entries if entry.is_reference), None)

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, strategy by strategy."""
        return [run for entry in self.entries for run in entry.runs]

    @cached_property
    def shots(self) -> list[int]:
        """Labelled images per class that every probed run has."""
        found = [set(run.scores[TRAINED]) for run in self.runs if TRAINED in run.scores]
        return sorted(set.intersection(*found)) if found else []

    def control(self, feature: str, shots: int) -> float | None:
        """A control's mean accuracy, every seed counted once."""
        by_seed = {run.seed: run.accuracy(feature, shots) for run in reversed(self.runs)}
        found = mean(by_seed.values())
        return found.value if found else None


def groups(runs: Sequence[Run]) -> list[Group]:
    """Runs by what may be compared; the largest budget first, random masking first within."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.conditions.values()), []).append(run)
    ordered = sorted(found.items(), key=lambda item: (-_images(item[1][0]), item[0]))
    return [Group(members[0].conditions, _entries(members)) for _, members in ordered]


def _images(run: Run) -> float:
    return run.cost("images") or 0


def _entries(runs: Sequence[Run]) -> list[Entry]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(str(variant(run)), []).append(run)
    members = [sorted(same, key=lambda run: (run.seed, run.id)) for same in found.values()]
    entries = [Entry(_label(same[0], runs), same) for same in members]
    return sorted(entries, key=lambda entry: (not entry.is_reference, entry.label))


def _label(run: Run, runs: Sequence[Run]) -> str:
    """The strategy's name, with those settings in which runs of that name differ."""
    name, settings = variant(run)
    others = [variant(other)[1] for other in runs if variant(other)[0] == name]
    differing = [key for key in settings if any(o.get(key) != settings[key] for o in others)]
    words = ", ".join(f"{key}={settings[key]}" for key in differing)
    return text(f"{name} ({words})" if words else name)
