"""Probe any encoder on any data set: what ``maskbench probe`` does.

What was found lies in one JSON file per encoder, data set and settings, beside the run or in a
folder of its own; asked again, it is read and not computed again.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskbench import lock, provenance
from maskbench.data import Images, open_data
from maskbench.errors import DataError, StoreError, UsageError
from maskbench.events import Progress
from maskbench.files import unwritten
from maskbench.inquiry import FROZEN, Inquiry, check
from maskbench.plan import pick_device
from maskbench.probes import deep
from maskbench.probes.backbone import Backbone, of_encoder, untrained
from maskbench.probes.cache import FOLDER as FEATURES
from maskbench.probes.cache import Cache, digest
from maskbench.probes.foreign import Opened, open_backbone
from maskbench.probes.score import Scored, score
from maskbench.probes.suite import SUITE
from maskbench.probes.supervised import supervised
from maskbench.probes.task import Part, digests, task_of
from maskbench.record import probes_of
from maskbench.results import Store, read_record, write_json
from maskbench.spec import RunSettings, preset
from maskbench.trust import parse, read_text

SCHEMA = 1
FOLDER = "probes"
MANIFESTS = "manifests"


@dataclass(frozen=True)
class Found:
    """What an inquiry found.

    Args:
        path: The file it lies in.
        content: What is in it.
        reused: Whether it had been found before.
    """

    path: Path
    content: dict[str, Any]
    reused: bool


def probe(inquiry: Inquiry, store: Store, out: Path | None, progress: Progress) -> Found:
    """Probe an encoder, or read what was found before.

    Args:
        inquiry: What is asked.
        store: Where runs, and packed data sets, live.
        out: Folder for the findings (default: the run's, or ``probes`` for checkpoints of others).
        progress: Told how far it is.

    Raises:
        MaskbenchError: With what happened, where, and what to do.
    """
    check(inquiry)
    device = pick_device(inquiry.device)
    opened = open_backbone(inquiry.encoder, store, device, inquiry.side)
    run = None if inquiry.of_others else store.find(inquiry.encoder)
    record = read_record(run) if run else None
    if inquiry.data is None and record and record["data"]["name"] != "scenes":
        raise UsageError(
            f"{run} was trained on {record['data']['name']}; where that lies is not in its record. "
            "Give --data: folder:PATH, hf:NAME|PATH, or scenes."
        )
    backbone = opened.backbone
    images = _images(inquiry, backbone, store, progress)
    task = task_of(images, inquiry.pool)
    for note in (*opened.notes, *task.notes):
        progress.note(note)
    facts = {
        **inquiry.model_dump(mode="json", exclude={"encoder", "data", "device"}),
        "suite": SUITE,
        "encoder": digest(backbone),
        "data": images.fingerprint,
        "device": device,
    }
    mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    beside = run is not None and out is None
    folder = run / FOLDER if run is not None and out is None else out or Path(FOLDER)
    words = [images.name] if beside else [backbone.name, images.name]
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-.")[:100]
    path = folder / f"{stem}-{mark}.json"
    if path.exists():
        content = read(path)
        if content["asked"] != json.loads(json.dumps(facts)):
            raise DataError(f"{path} answers something else. Remove it to probe again.")
        return Found(path, content, reused=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(unwritten(folder, error)) from error
    with lock.hold(folder):
        cache = Cache(run / FEATURES if beside and run else None)
        asked = deep.Asked(backbone, task, inquiry.seed, inquiry.epochs, cache, progress)
        content = _Work(inquiry, opened, record, images, asked).answer()
        manifest = content.pop("manifest")
        if manifest is not None:
            (folder / MANIFESTS).mkdir(exist_ok=True)
            write_json(folder / MANIFESTS / path.name, manifest)
        write_json(path, {**content, "asked": facts})
    return Found(path, read(path), reused=False)


def _images(inquiry: Inquiry, backbone: Backbone, store: Store, progress: Progress) -> Images:
    """The data set, at the side that the encoder reads or smaller images are kept at."""
    side = inquiry.stored or backbone.side
    try:
        return open_data(
            inquiry.data or "scenes", side, store.home / "data", inquiry.max_bad, progress
        )
    except (UsageError, DataError) as error:
        if "smaller than" not in str(error) or not inquiry.of_others:
            raise
        raise type(error)(
            f"{backbone.name} reads {backbone.side} px. {error} Here, --enlarge-from 32 (or "
            "another side) enlarges smaller images, and --side has the encoder read fewer pixels."
        ) from error


def read(path: Path) -> dict[str, Any]:
    """What was found.

    Raises:
        DataError: It cannot be read.
    """
    try:
        found = parse(read_text(path.parent, path.name))
        probes_of(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}). Remove it to probe again.") from error
    content: dict[str, Any] = found
    return content


@dataclass(frozen=True)
class _Work:
    """What is asked, of whom, on what, and who watches."""

    inquiry: Inquiry
    opened: Opened
    record: Mapping[str, Any] | None
    images: Images
    asked: deep.Asked

    def answer(self) -> dict[str, Any]:
        """Everything that was found."""
        task, backbone, images = self.asked.task, self.asked.backbone, self.images
        facts: dict[str, Any] = {"duplicates": task.duplicates, "notes": list(task.notes)}
        found: dict[str, Any] = {"probing": facts, "rows": [], "controls": [], "manifest": None}
        for kind in self.inquiry.kinds:
            if kind == FROZEN:
                scored = self.frozen()
                found |= {"probing": scored.facts, "manifest": scored.manifest}
                found["rows"] += scored.rows
                found["controls"] += scored.controls
            else:
                found["rows"] += deep.KINDS[kind](self.asked)
        notes = list(self.opened.notes)
        return {
            "schema": SCHEMA,
            "encoder": {"name": backbone.name, "prior": backbone.prior, "notes": notes},
            "data": {
                "name": images.name,
                "fingerprint": images.fingerprint,
                "classes": list(images.classes),
                "train": len(images.train),
                "test": len(task.test.split),
                "pool": len(task.train.positions),
                "scored": len(task.test.positions),
            },
            "chance": 1 / len(images.classes),
            **found,
            "provenance": {
                **provenance.provenance(backbone.device.type),
                "finished": provenance.now(),
            },
        }

    def frozen(self) -> Scored:
        """Few-shot curve and nearest neighbours, beside all controls that there are."""
        asked, record = self.asked, self.record
        start = untrained(asked.backbone, record["seed"] if record else asked.seed)
        controls = {"untrained": start} if start else {}
        if self.inquiry.supervised and record:
            controls["supervised"] = self.supervised(record)
        return score(
            asked.backbone,
            asked.task,
            draws=self.inquiry.draws,
            controls=controls,
            cache=asked.cache,
            progress=asked.progress,
        )

    def supervised(self, record: Mapping[str, Any]) -> Backbone:
        """The run's encoder trained on the labels; images of the test split are left out."""
        try:
            settings = RunSettings.model_validate(record["settings"])
            seen = int(record["ledger"]["images"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"the record of {record['id']} does not say how it was trained, so there is no "
                "supervised control: run it again, or leave --supervised out."
            ) from error
        settings = settings.model_copy(update={"device": self.asked.backbone.device.type})
        train, scored = self.images.train, self.asked.task.test
        doubles = np.isin(
            digests(train, np.arange(len(train))), digests(scored.split, scored.positions)
        )
        part = Part(train, np.flatnonzero(~doubles), "").only()
        shape = preset(settings.model).shape
        trained = supervised(shape, part, settings, seen, self.asked.progress)
        return of_encoder(trained, "supervised encoder")
