"""What is known about a learning rate: which were tried, on what, and which was chosen."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from maskbench import trust
from maskbench.errors import StoreError, UsageError
from maskbench.results import Store, write_json
from maskbench.spec import RunSettings

GRID = (0.5, 1.0, 2.0)
"""Multiples of the preset's learning rate, the same for every strategy."""
FOLDER = "tuning"
KEY = (
    "strategy", "strategy_settings", "strategy_digest", "budget", "data", "data_fingerprint",
    "limit", "model", "hidden", "batch", "weight_decay", "warmup", "precision",
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
        seed: Of the trials.
        shots: Labelled images per class of the accuracy.
        trials: By factor.
        base_lr: The chosen rate.
    """

    seed: int
    shots: int
    trials: list[Trial]
    base_lr: float

    def write(self, settings: RunSettings, store: Store) -> Path:
        """Keep it for the runs it holds for; an earlier one for the same is replaced."""
        path = file_of(settings, store)
        write_json(path, asdict(self))
        return path


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
    path = file_of(settings, store)
    try:
        told = trust.parse(trust.read_text(path.parent, path.name))
        rate, trials = float(told["base_lr"]), len(told["trials"])
        if not 0 < rate < 1000:
            raise ValueError(f"a rate of {rate}")
    except FileNotFoundError as error:
        raise UsageError(
            f"--lr tuned: no learning rate has been tuned for {settings.strategy} with this data, "
            "model, budget and recipe; 'maskbench tune' with the same options does it."
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is not a readable tuning: {error}. Delete it, tune again."
        ) from error
    return settings.model_copy(update={"base_lr": rate, "lr_trials": trials})
