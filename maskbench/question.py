"""What is asked of a run's masks, and how the answer is called."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench.checkpoint import MOMENTS
from maskbench.data import Images
from maskbench.masks import IMAGES
from maskbench.results import Store, read_record
from maskbench.studying import OWN


@dataclass(frozen=True)
class Question:
    """What is asked of a run's masks.

    Args:
        run: Folder, name or its beginning.
        data: Other images than the run's own; None for these.
        images: How many.
        truth: Folder of segmentations or boundaries of these images; None without.
        reference: The run whose final model judges difficulty and attention; ``own`` for its own.
        strategy: Where the strategy's file lies, if it is not built in or installed.
        device: ``cpu``, ``cuda`` or ``auto``.
        max_bad: Largest share of unusable files that is tolerated.
        own: Whether ``data`` has turned out to be the run's own.
    """

    run: str
    data: str | None = None
    images: int = IMAGES
    truth: Path | None = None
    reference: str = OWN
    strategy: str | None = None
    device: str = "auto"
    max_bad: float = 0.01
    own: bool = False

    @property
    def plain(self) -> bool:
        """Whether it asks what every run answers at its end."""
        asked = (self.images, self.truth, self.reference)
        return asked == (IMAGES, None, OWN) and (self.data is None or self.own)


def mark(
    question: Question, run: Path, record: Mapping[str, Any], store: Store, images: Images | None
) -> str:
    """A readable name for the question; equal questions to equal runs have equal names.

    The images count by their content, a ground truth by names, sizes and times of its files.
    """
    judge = run if question.reference == OWN else store.find(question.reference)
    facts = [
        *(str(one) for one in (record["id"], question.data, question.images, question.truth)),
        *(question.reference, judge.name, read_record(judge)["status"]),
        images.fingerprint if images else record["data"]["fingerprint"],
        *_files(question.truth),
        *sorted(path.name for path in (run / MOMENTS).glob("*.json")),
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    name = (question.data or record["data"]["name"]).rpartition("/")[2].replace(":", "-")
    return f"{name}-{question.images}-{digest}"


def _files(folder: Path | None) -> list[str]:
    """Every file below a folder with its size and time; nothing where there is no folder."""
    if folder is None or not folder.expanduser().is_dir():
        return []
    found = ((path, path.lstat()) for path in sorted(folder.expanduser().rglob("*")))
    return [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found]
