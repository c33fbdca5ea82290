"""What a run's masks are studied on, and the study itself: at the end of every run, or later."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench import findings
from maskbench.analysis import drift
from maskbench.analysis.agreement import Source
from maskbench.analysis.study import Moment, study
from maskbench.data import Images
from maskbench.maps import Known, maps
from maskbench.masks import Seen, crop, pixels, probe_images
from maskbench.reference import Reference
from maskbench.results import read_metrics
from maskbench.session import Session
from maskbench.shown import SHOWN

OWN = "own"


@dataclass(frozen=True)
class Subject:
    """A run and the images its masks are studied on."""

    record: Mapping[str, Any]
    images: Images
    positions: NDArray[np.int64]

    @property
    def side(self) -> int:
        """Pixels along one side of the model's input."""
        return int(self.record["model"]["image"])

    @property
    def rows(self) -> int:
        """Patch rows."""
        return self.side // int(self.record["model"]["patch"])

    def crops(self) -> NDArray[np.uint8]:
        """Centre squares as the model sees them."""
        return crop(pixels(self.images.train, self.positions), self.side)

    def known(self) -> Known:
        """What the data itself knows of them."""
        split, every = self.images.train, np.ones(len(self.positions), bool)
        objects, contours = (
            None if known is None else crop(known[self.positions], self.side)
            for known in (split.objects, split.contours)
        )
        edges = None if contours is None else contours.astype(np.float32)
        return Known(objects, every, edges, every)


@dataclass(frozen=True)
class Look:
    """What was seen at one moment; what an older run did not record is None.

    Args:
        share: Of the budget.
        step: Steps done.
        hidden: (images, patches).
        again: A second draw.
        keep: Keep-probabilities.
        losses: Under the masks and under random ones, (2, images).
    """

    share: float
    step: int
    hidden: NDArray[np.bool_]
    again: NDArray[np.bool_] | None
    keep: NDArray[np.float16] | None
    losses: NDArray[np.float64] | None

    def moment(self, rows: int, frozen: NDArray[np.float64] | None, factor: float | None) -> Moment:
        """On a grid of so many rows, with a frozen model's losses and lambda."""
        return Moment(
            self.share,
            self.step,
            self.hidden.reshape(-1, rows, rows),
            None if self.again is None else self.again.reshape(-1, rows, rows),
            None if self.keep is None else self.keep.astype(np.float64),
            self.losses,
            frozen,
            factor,
        )

    @classmethod
    def of(cls, share: float, step: int, seen: Seen) -> "Look":
        """From what was seen just now."""
        return cls(share, step, seen.hidden, seen.again, seen.keep, seen.losses)


def at_end(session: Session) -> None:
    """Study the masks that a run has recorded, with its own final model as reference.

    What cannot be computed is noted: a trained run is not lost for it.
    """
    job, split = session.job, session.planned.images.train
    session.progress.message("studying the masks")
    subject = Subject(session.record, session.planned.images, probe_images(split))
    looks = [Look.of(*one) for one in session.tape.looks()]
    with job.clock.on("paused"):
        try:
            write_study(session.folder, subject, looks, subject.known(), Reference.of(job, OWN))
        except Exception as error:  # whatever it is, the encoder is trained
            why = f"{type(error).__name__}: {error}"
            session.progress.note(f"the masks could not be studied: {why}")
            session.record["masks"]["not_studied"] = why
            (session.folder / findings.FOLDER / findings.JSON).unlink(missing_ok=True)


def write_study(
    run: Path,
    subject: Subject,
    looks: Sequence[Look],
    known: Known,
    judge: Reference | None,
    *,
    folder: Path | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Compute everything and write it.

    Args:
        run: The run's folder.
        subject: The images.
        looks: Their masks.
        known: What the data knows of them.
        judge: Difficulty and attention; None leaves both unknown.
        folder: Where it is written (default: what a run itself writes).
        facts: More to say at the head of the document.

    Raises:
        ValueError: Masks and maps do not fit together.
        StoreError: It cannot be written.
    """
    rows, crops = subject.rows, subject.crops()
    hidden = int(looks[-1].hidden[0].sum())
    sources = maps(crops, rows, hidden, known, judge)
    factors = schedule(read_metrics(run), [look.share for look in looks])
    frozen = judged(judge, crops, [look.hidden for look in looks])
    moments = [
        look.moment(rows, losses, factor)
        for look, losses, factor in zip(looks, frozen, factors, strict=True)
    ]
    record = subject.record
    head = {
        "run": record["id"],
        "strategy": record["strategy"]["name"],
        "seed": record["seed"],
        "data": subject.images.name,
        "data_fingerprint": subject.images.fingerprint,
        "images": len(subject.positions),
        "images_sha256": hashlib.sha256(subject.positions.tobytes()).hexdigest(),
        "grid": {"rows": rows, "columns": rows, "hidden": hidden},
        "moments": [
            {"share": look.share, "step": look.step, "hidden": int(look.hidden[0].sum())}
            for look in looks
        ],
        "reference": judge.name if judge else None,
        **(facts or {}),
    }
    findings.write(
        folder or run / findings.FOLDER,
        head,
        study(moments, sources),
        crops[:SHOWN],
        np.stack([moment.hidden[:SHOWN] for moment in moments]),
        kinds=("svg", "png") if facts else ("svg",),  # a run does not wait for more
        maps=pictured(sources, rows),
    )


def pictured(sources: Sequence[Source], rows: int) -> dict[str, NDArray[np.float16]]:
    """Maps of the first few images, of every source that any of them has.

    Args:
        sources: Of all images.
        rows: Patch rows, and columns.

    Returns:
        Name to (shown, rows, columns); NaN where an image has no map.
    """
    found = {}
    for source in sources:
        maps = source.maps[:SHOWN]
        known = source.known[:SHOWN] & np.isfinite(maps).all(axis=1)
        if known.any():
            bounded = maps.clip(max=float(np.finfo(np.float16).max))
            kept = np.where(known[:, None], bounded, np.nan).astype(np.float16)
            found[source.name] = kept.reshape(-1, rows, rows)
    return found


def judged(
    judge: Reference | None, crops: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.float64] | None]:
    """A frozen model's losses under the masks of every moment and under random ones: (2, images).

    Args:
        judge: The model; None for nothing.
        crops: The images.
        masks: Of every moment, (images, patches).
    """
    if judge is None:
        return [None] * len(masks)
    counts = [int(hidden[0].sum()) for hidden in masks]
    random = {count: judge.random_losses(crops, count) for count in dict.fromkeys(counts)}
    return [
        np.stack([judge.losses(crops, hidden), random[count]])
        for hidden, count in zip(masks, counts, strict=True)
    ]


def schedule(metrics: Sequence[Mapping[str, Any]], shares: Sequence[float]) -> list[float | None]:
    """The strategy's lambda at these shares of the budget, as it was logged."""
    known = drift.logged(metrics)
    if not known:
        return [None] * len(shares)
    return [float(value) for value in np.interp(shares, list(known), list(known.values()))]
