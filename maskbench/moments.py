"""A finished run's model and strategy as they were at every look, to mask any images with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from maskbench import registry, seeds
from maskbench.budget import Budget
from maskbench.checkpoint import MOMENTS, Checkpoints, State, parse
from maskbench.data import Images, Split
from maskbench.errors import StoreError, UsageError
from maskbench.events import Progress
from maskbench.job import Job
from maskbench.masks import IMAGES, Moment, Seen, batch_of, joined, pixels, see
from maskbench.model import MaskedAutoencoder
from maskbench.plan import Planned, digest_of, public_name
from maskbench.prepare import build
from maskbench.results import Store
from maskbench.spec import RunSettings, preset


class Rebuilt:
    """A run's model and strategy, brought back to its moments one after the other.

    Args:
        run: Its folder.
        record: Its record.
        images: What will be masked; the strategy is set up with them.
        store: Where runs, and packed data sets, live.
        device: Where it computes: ``cpu`` or ``cuda``.
        strategy: Where the strategy's file lies, if that is not built in or installed.
        progress: Told what takes long.
        foreign: Whether the images are not those that the run was trained on.

    Raises:
        StoreError: The record does not say how the run was made.
        UsageError: The strategy cannot be had as it was.
    """

    def __init__(
        self,
        run: Path,
        record: Mapping[str, Any],
        images: Images,
        store: Store,
        *,
        device: str,
        strategy: str | None,
        progress: Progress,
        foreign: bool = False,
    ) -> None:
        self.run, self._progress, self._images = run, progress, images
        self._own = int(record["data"]["train"]) if foreign else None
        self._checkpoints = Checkpoints(run, MOMENTS, kept=None)
        try:
            settings = RunSettings.model_validate(record["settings"])
        except (KeyError, TypeError, ValidationError) as error:
            raise StoreError(
                f"the record of {run.name} does not say how it was made, so its strategy cannot be "
                "brought back: run it again."
            ) from error
        self.settings = settings
        cls = registry.load(strategy or settings.strategy)
        if public_name(strategy or settings.strategy) != settings.strategy:
            raise UsageError(f"{run.name} was run with {settings.strategy}, not {strategy}.")
        if digest_of(cls) != settings.strategy_digest:
            raise UsageError(
                f"the file of strategy {settings.strategy} has changed since {run.name} was run: "
                "its masks cannot be made again. Take the file as it was, or run it again."
            )
        given = settings.model_copy(update={"device": device, "compile": False})
        planned = Planned(
            given, cls(cls.Settings(**settings.strategy_settings)), images,
            Budget.parse(settings.budget),
        )  # fmt: skip
        self.job: Job = build(planned, store, progress, train_images=record["data"]["train"])

    def states(self, steps: Sequence[int] | None = None) -> Iterator[State]:
        """The moments that are whole, in order, one in memory at a time.

        Args:
            steps: Those that count, where it is known; each that is damaged is named.

        Raises:
            StoreError: There is none.
        """
        none = True
        for saved in self._checkpoints.whole(self._progress.note, oldest_first=True):
            if steps is None or saved.step in steps:
                none = False
                yield parse(saved.payload)
        if none:
            raise StoreError(
                f"{self.run.name} has no whole moment: run it again, or leave out --data, "
                "--images, --truth and --reference."
            )

    def load(self, state: State) -> Moment:
        """Bring model and strategy back to a moment.

        Raises:
            UsageError: The strategy keeps something for each of its training images.
        """
        try:
            if self._own is not None and any(
                torch.is_tensor(value) and value.ndim and len(value) == self._own
                for value in state["strategy"].values()
            ):
                raise ValueError(f"it keeps something for each of {self._own:,} images")
            self.job.model.load_state_dict(state["model"])
            self.job.strategy.load_state_dict(state["strategy"])
            return Moment(**state["moment"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"strategy {self.settings.strategy} of {self.run.name} cannot be brought back with "
                f"{self._images.name} ({str(error).splitlines()[-1].strip()}). If it keeps "
                "something for each of its training images, it can mask only these: give the run's "
                "own --data."
            ) from error

    def see(self, positions: NDArray[np.int64], moment: Moment) -> Seen:
        """What the strategy does to images of the training split now, in batches of 256."""
        split: Split = self._images.train
        parts = []
        for first in range(0, len(positions), IMAGES):
            some = positions[first : first + IMAGES]
            batch = batch_of(self.job, pixels(split, some), some, first)
            parts.append(see(self.job, batch, moment.context(self.job)))
        return joined(parts)


def final_model(
    run: Path, record: Mapping[str, Any], device: str, progress: Progress
) -> MaskedAutoencoder | None:
    """A run's autoencoder, decoder included, as its training left it; None if that is not there.

    Raises:
        StoreError: It does not fit the record.
    """
    shape = preset(str(record["settings"]["model"])).shape
    saved = Checkpoints(run, MOMENTS, kept=None).newest(progress.note)
    state = parse(saved.payload) if saved else {}
    if state.get("moment", {}).get("share") != 1:
        return None
    model = MaskedAutoencoder(shape, seeds.generator(0, "init"))
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise StoreError(f"the model of {run.name} does not fit its record ({error}).") from error
    return model.to(device).eval()


def kept(run: Path) -> bool:
    """Whether a run has moments; they may be damaged."""
    return Checkpoints(run, MOMENTS).any()
