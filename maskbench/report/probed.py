"""What ``maskbench probe`` found of runs on other data, from the files beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from maskbench import trust
from maskbench.errors import StoreError
from maskbench.record import Probes, probes_of
from maskbench.report.frame import Run, few_shot
from maskbench.report.reading import LeftOut
from maskbench.trust import plain

FOLDER, SUFFIX = "probes", ".json"
MOST = 64
"""Files that are read of one run, by name."""

Identity = tuple[str, tuple[str, ...], int, int]


@dataclass(frozen=True)
class Key:
    """What must be equal for scores of two encoders to be compared.

    Args:
        suite: How it was probed: C, and the version of the subsets.
        fingerprint: Of the data's pixels, labels and ids.
        pool: Images of a split that were used at most.
        draws: Few-shot subsets per shot.
        side: Input side that was asked for.
        stored: Side at which images were kept.
    """

    suite: str
    fingerprint: str
    pool: int
    draws: int
    side: int | None
    stored: int | None


@dataclass(frozen=True)
class Probed:
    """A run's few-shot curve on a data set.

    Args:
        key: The data and what was asked.
        identity: The data set whatever the side of its images: name, classes, sizes.
        finished: When, as an ISO text.
        file: Its name.
        scores: Shots to accuracy, mean over draws.
    """

    key: Key
    identity: Identity
    finished: str
    file: str
    scores: Mapping[int, float]


Elsewhere = Mapping[str, Sequence[Probed]]


def identity(data: Mapping[str, object]) -> Identity:
    """What names a data set, whatever the side at which its images are kept."""
    classes, train, test = data.get("classes"), data["train"], data["test"]
    names = tuple(map(str, classes)) if isinstance(classes, list) else ()
    return str(data["name"]), names, int(str(train)), int(str(test))


def read(runs: Iterable[Run]) -> tuple[Elsewhere, list[LeftOut]]:
    """Runs' keys to their files, the first that was finished first; and files that are not used."""
    found: dict[str, list[Probed]] = {}
    left_out: list[LeftOut] = []
    for run in runs:
        try:
            names = trust.listed(run.folder, FOLDER, SUFFIX)
        except StoreError as error:
            left_out.append(_unread(run, FOLDER, error))
            continue
        if len(names) > MOST:
            why = f"{len(names):,} files of probes; the first {MOST} by name are read"
            left_out.append(LeftOut(f"{run.id}/{FOLDER}", "unread", why))
        own: list[Probed] = []
        for name in names[:MOST]:
            try:
                own += _one(run, name)
            except (StoreError, ValueError, FileNotFoundError) as error:
                left_out.append(_unread(run, f"{FOLDER}/{name}", error))
        found[run.key] = sorted(own, key=lambda one: (one.finished, one.file))
    return found, left_out


def _unread(run: Run, name: str, error: Exception) -> LeftOut:
    why = str(error).replace(str(run.folder), run.folder.name)
    return LeftOut(plain(f"{run.id}/{name}"), "unreadable", plain(why))


def _one(run: Run, name: str) -> list[Probed]:
    """A file's curve; nothing where it holds other probes."""
    value = trust.parse(trust.read_text(run.folder, f"{FOLDER}/{name}"))
    content = probes_of(value)
    if content.encoder.name not in (run.id, plain(run.folder.resolve().name)):
        raise ValueError(f"it is of another encoder, {content.encoder.name[:100]}")
    scores = few_shot(value["rows"])
    return [_probed(content, name, scores)] if scores else []


def _probed(content: Probes, name: str, scores: Mapping[int, float]) -> Probed:
    asked, data = content.asked, content.data
    key = Key(asked.suite, data.fingerprint, asked.pool, asked.draws, asked.side, asked.stored)
    return Probed(key, identity(data.model_dump()), content.provenance.finished, name, scores)
