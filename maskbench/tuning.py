"""What is known about a learning rate: which were tried, on what, and which was chosen."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from maskbench import trust
from maskbench.errors import StoreError, UsageError
from maskbench.results import Store, write_json
from maskbench.spec import RunSettings

GRID = (0.5, 1.0, 2.0)
"""Multiples of the preset's learning rate, the same for every strategy."""
FOLDER = "tuning"
KEY = (
    "strategy", "strategy_settings", "strategy_digest", "budget", "data", "data_fingerprint",
    "limit", "model", "hidden", "batch", "weight_decay", "warmup", "precision", "compile", "device",
)  # fmt: skip
"""What a learning rate is tuned for; the seed is not among it."""


@dataclass(frozen=True)
class Trial:
    """One learning rate that was tried.

    Args:
        factor: Multiple of the centre of the grid.
        base_lr: Per 256 images.
        accuracy: On the development images, 0 to 1; None if the run diverged.
        run: The trial's run.
    """

    factor: float
    base_lr: float
    accuracy: float | None
    run: str


@dataclass(frozen=True)
class Tuning:
    """What was tried, and what was chosen.

    Args:
        seed: Of the latest trials.
        shots: Labelled images per class of the accuracy.
        trials: All that were ever made, by learning rate.
        base_lr: The chosen rate: the best of all.
    """

    seed: int
    shots: int
    trials: list[Trial]
    base_lr: float

    @classmethod
    def of(cls, seed: int, shots: int, trials: Sequence[Trial], earlier: Sequence[Trial]) -> Self:
        """The best of all trials, not all of which diverged; of equal ones the smallest rate.

        Args:
            seed: Of the new trials.
            shots: Labelled images per class of the accuracy.
            trials: The new ones; they replace earlier ones of the same run.
            earlier: Those made before, with other rates or another seed.
        """
        all_of = {(trial.run, trial.base_lr): trial for trial in (*earlier, *trials)}
        kept = sorted(all_of.values(), key=lambda trial: (trial.base_lr, trial.run))
        good = [trial for trial in kept if trial.accuracy is not None]
        best = max(good, key=lambda trial: (trial.accuracy or 0.0, -trial.base_lr))
        return cls(seed, shots, kept, best.base_lr)

    @property
    def rates(self) -> tuple[float, ...]:
        """All learning rates that were tried, ascending."""
        return tuple(sorted({trial.base_lr for trial in self.trials}))

    def write(self, settings: RunSettings, store: Store) -> Path:
        """Keep it for the runs it holds for."""
        path = file_of(settings, store)
        write_json(path, asdict(self))
        return path


def known(settings: RunSettings, store: Store) -> Tuning | None:
    """What has been tried for a run; None if nothing has.

    Raises:
        StoreError: The file cannot be read.
    """
    path = file_of(settings, store)
    try:
        told = trust.parse(trust.read_text(path.parent, path.name))
        trials = [
            Trial(
                float(one["factor"]),
                float(one["base_lr"]),
                None if one["accuracy"] is None else float(one["accuracy"]),
                str(one["run"]),
            )
            for one in told["trials"]
        ]
        return Tuning(int(told["seed"]), int(told["shots"]), trials, float(told["base_lr"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is not a readable tuning: {error}. Delete it, tune again."
        ) from error


def file_of(settings: RunSettings, store: Store) -> Path:
    """Where the tuning for a run lies."""
    told = {name: value for name, value in settings.model_dump(mode="json").items() if name in KEY}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return store.root / FOLDER / f"{digest}.json"


def tuned(settings: RunSettings, store: Store) -> RunSettings:
    """The settings with the learning rate that was chosen for them.

    Raises:
        UsageError: None has been chosen; says what to do.
        StoreError: The file cannot be read.
    """
    found = known(settings, store)
    if found is None:
        raise UsageError(
            f"--lr tuned: no learning rate has been tuned for {settings.strategy} with this data, "
            "model, budget, recipe and device; 'maskbench tune' with the same options does it."
        )
    rates = found.rates
    told = {"base_lr": found.base_lr, "lr_trials": len(rates), "lr_grid": rates}
    return settings.model_copy(update=told)
