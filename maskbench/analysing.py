"""Study a run's masks: what ``maskbench masks`` does, and every run at its end."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskbench import findings, lock
from maskbench.data import Images, limited, open_data, truth
from maskbench.data.development import development
from maskbench.errors import StoreError, UsageError
from maskbench.events import Progress
from maskbench.maps import Known
from maskbench.masks import MOMENTS as TAPE_MOMENTS
from maskbench.masks import probe_images
from maskbench.moments import Rebuilt, final_model, kept
from maskbench.plan import pick_device
from maskbench.question import Question
from maskbench.question import mark as mark_of
from maskbench.reference import Reference
from maskbench.report.tape import read_masks
from maskbench.results import Store, read_record
from maskbench.studying import OWN, Look, Subject, write_study


@dataclass(frozen=True)
class Answer:
    """What was found.

    Args:
        folder: Where it lies.
        content: The document.
        reused: Whether it had been found before.
    """

    folder: Path
    content: dict[str, Any]
    reused: bool


def analyse(question: Question, store: Store, out: Path | None, progress: Progress) -> Answer:
    """Study a run's masks, or read what was found before.

    Args:
        question: What is asked.
        store: Where runs, and packed data sets, live.
        out: Folder for the findings (default: one in the run's ``analysis`` folder).
        progress: Told how far it is.

    Raises:
        MaskbenchError: With what happened, where, and what to do.
    """
    if question.images < 2:
        raise UsageError(f"--images {question.images}: choose at least 2 (256 or more to publish).")
    run = store.find(question.run)
    record = read_record(run)
    images = None
    if question.data is not None or not (question.plain and findings.read(run / findings.FOLDER)):
        images = _images(question, record, store, progress)
        if images.fingerprint == record["data"]["fingerprint"]:
            question = replace(question, own=True)
    mark = mark_of(question, run, record, store, images)
    own = run / findings.FOLDER
    folder = out or (own if question.plain else own / mark)
    found = findings.read(folder)
    # what a run wrote at its end names no question: it is of the finished run
    if found and found.get("asked", mark if folder == own and question.plain else None) == mark:
        return Answer(folder, found, reused=True)
    images = images or _images(question, record, store, progress)
    with lock.hold(run) if out is None else nullcontext():
        _answer(question, run, folder, mark, images, store=store, progress=progress)
    content = findings.read(folder)
    if content is None:
        raise StoreError(f"{folder / findings.JSON} cannot be read back. Look at the disk.")
    return Answer(folder, content, reused=False)


def _answer(
    question: Question,
    run: Path,
    folder: Path,
    mark: str,
    images: Images,
    *,
    store: Store,
    progress: Progress,
) -> None:
    """Make the masks, or take those that were recorded, and study them."""
    record, device = read_record(run), pick_device(question.device)
    subject = Subject(record, images, probe_images(images.train, question.images))
    if len(subject.positions) < question.images:
        progress.note(
            f"{images.name} has {len(subject.positions):,} images to mask, not {question.images:,}"
        )
    if kept(run):
        looks = _masked(question, run, subject, store, device=device, progress=progress)
    else:
        looks = _recorded(run, subject)
    judge, notes = _reference(question, run, subject, store, device=device, progress=progress)
    known = _truth(question, subject, progress)
    for note in (*notes, *known.notes):
        progress.note(note)
    progress.message("studying the masks")
    facts = {"asked": mark, "notes": [*notes, *known.notes]}
    write_study(run, subject, looks, known, judge, folder=folder, facts=facts)


def _images(
    question: Question, record: Mapping[str, Any], store: Store, progress: Progress
) -> Images:
    """The data set: the run's own as it was trained on, or another."""
    name = record["data"]["name"]
    if question.data is None and name != "scenes":
        raise UsageError(
            f"{record['id']} was trained on {name}; where that lies is not in its record. Give "
            "--data: folder:PATH, hf:NAME|PATH, or scenes."
        )
    side = int(record["model"]["image"])
    cache = store.home / "data"
    images = open_data(question.data or "scenes", side, cache, question.max_bad, progress)
    if images.fingerprint == record["data"]["fingerprint"]:
        images = limited(images, record["settings"].get("limit"))
        if record["settings"].get("scored_on") == "development":
            images = development(images)
    return images


def _masked(
    question: Question,
    run: Path,
    subject: Subject,
    store: Store,
    *,
    device: str,
    progress: Progress,
) -> list[Look]:
    """Masks made anew, from the run's model and strategy as they were at every moment."""
    foreign = subject.images.fingerprint != subject.record["data"]["fingerprint"]
    rebuilt = Rebuilt(
        run, subject.record, subject.images, store, foreign=foreign,
        device=device, strategy=question.strategy, progress=progress,
    )  # fmt: skip
    looks: list[Look] = []
    steps = subject.record["masks"].get("steps")
    progress.start("masking", len(steps) if steps else TAPE_MOMENTS, "moments")
    try:
        for state in rebuilt.states(steps):
            moment = rebuilt.load(state)
            seen = rebuilt.see(subject.positions, moment)
            looks.append(Look.of(moment.share, moment.step, seen))
            progress.advance(len(looks))
    finally:
        progress.finish()
    if steps and len(looks) < len(steps):
        progress.note(f"{len(steps) - len(looks)} of {len(steps)} moments are not there")
    return looks


def _recorded(run: Path, subject: Subject) -> list[Look]:
    """The masks that the run recorded itself, of its own images."""
    tape = read_masks(run)
    if not np.array_equal(tape.positions, subject.positions) or (
        subject.images.fingerprint != subject.record["data"]["fingerprint"]
    ):
        raise StoreError(
            f"{run.name} kept no moments (--no-moments, or made by an older maskbench): only the "
            f"masks of {len(tape.positions)} of its own images are there. Leave out --data and "
            "--images, or run it again."
        )
    if tape.hidden.shape[2] != subject.rows:
        raise StoreError(
            f"the masks of {run.name} are of a {tape.hidden.shape[2]}x{tape.hidden.shape[3]} grid, "
            f"its model's is {subject.rows}x{subject.rows}: its files do not belong together."
        )
    steps = max(int(subject.record["budget"]["steps"]), int(tape.steps[-1]), 1)
    shares = subject.record["masks"].get("moments") or (tape.steps / steps).tolist()
    flat = tape.hidden.reshape(*tape.hidden.shape[:2], -1)
    return [
        Look(
            share,
            int(tape.steps[n]),
            flat[n],
            None if tape.again is None else tape.again[n].reshape(flat[n].shape),
            None if tape.keep is None else tape.keep[n],
            None if tape.losses is None else tape.losses[n].astype(np.float64),
        )
        for n, share in enumerate(shares)
    ]


def _reference(
    question: Question,
    run: Path,
    subject: Subject,
    store: Store,
    *,
    device: str,
    progress: Progress,
) -> tuple[Reference | None, list[str]]:
    """Who judges difficulty and attention, or why nobody does."""
    name = question.reference
    where = run if name == OWN else store.find(name)
    if not kept(where):
        return None, [f"no difficulty and no attention: {where.name} kept no moments"]
    model = final_model(where, read_record(where), device, progress)
    if model is None:
        why = "its final moment is not there (unfinished, or damaged)"
        return None, [f"no difficulty and no attention of {where.name}: {why}"]
    if (model.shape.image, model.shape.side) != (subject.side, subject.rows):
        its, own = f"{model.shape.image} px, {model.shape.side} rows", f"{subject.side} px"
        why = f"{where.name} reads {its} of patches; the masks are of {own}, {subject.rows} rows"
        return None, [f"no difficulty and no attention: {why}"]
    precision = str(read_record(where)["settings"].get("precision", "fp32"))
    judge = OWN if name == OWN else where.name
    return Reference(judge, model, torch.device(device), precision), []


def _truth(question: Question, subject: Subject, progress: Progress) -> Known:
    """Ground truth of the images from a folder.

    Raises:
        UsageError: The images have no folder that it could be beside.
    """
    if question.truth is None:
        return subject.known()
    if question.data is None or question.data == "scenes":
        raise UsageError(
            "--truth names files like those of an image folder: give --data folder:PATH, too. (The "
            "built-in scenes know their objects and contours themselves.)"
        )
    split, at = subject.images.train, subject.positions
    ids = [split.ids[int(position)] for position in at]
    where = Path(question.data.partition(":")[2])
    read = truth.read(question.truth, where, ids, split.side, progress)
    found = truth.centred(read, subject.side)
    notes = [f"{bad.path}: {bad.reason}" for bad in found.missing[:3]]
    if len(found.missing) > 3:
        notes.append(f"... and {len(found.missing) - 3:,} more images without ground truth")
    return Known(
        found.objects,
        found.known_objects,
        found.contours,
        found.known_contours,
        tuple(notes),
        void=found.void,
        drawn=found.drawn,
        annotators=found.annotators,
    )
