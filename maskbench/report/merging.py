"""Records of several stores, machines and people: copies count once, what differs is named.

Nothing here looks at where a record lies, except between copies that say the same: whoever merges
the same records gets the same numbers, in whatever folders and order they are given.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskbench import trust
from maskbench.errors import StoreError
from maskbench.findings import FOLDER, JSON, VALUES
from maskbench.report.apart import conditions
from maskbench.report.frame import TRAINED, Run, variant
from maskbench.report.words import consumed
from maskbench.results import MASKS, METRICS
from maskbench.trust import plain

Record = Mapping[str, Any]
Differences = Sequence[tuple[str, str, str]]
"""What differs, in the record that counts and in the other one."""
COPY, REPEATED = "copy", "repeated"
WANTED = (f"{FOLDER}/{JSON}", f"{FOLDER}/{VALUES}", MASKS, METRICS)
"""Of copies the one that has these is read."""
SHOWN = 12
"""So many characters of a commit."""


def digest(record: Record) -> str:
    """A hash of what a record says, however it is written."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def ordered(runs: Iterable[Run]) -> list[Run]:
    """Those that were started first come first; of equal ones the records' hashes decide."""
    found = list(runs)
    tied = Counter(begin(run) for run in found)

    def place(run: Run) -> tuple[str, int, str, str]:
        return (*begin(run), digest(run.record) if tied[begin(run)] > 1 else "")

    return sorted(found, key=place)


def begin(run: Run) -> tuple[str, int, str]:
    """When a run was started, and its name."""
    return run.started, len(run.id), run.id


def copies(held: Mapping[Path, Record]) -> dict[Path, tuple[str, str]]:
    """Folders whose run lies in another one, too, as it is or as it was later: what to say of them.

    Args:
        held: Records by folder.

    Returns:
        Folder to status and reason; all others count.
    """
    same: dict[tuple[str, ...], list[Path]] = {}
    for folder, record in held.items():
        same.setdefault(_identity(record), []).append(folder)
    found: dict[Path, tuple[str, str]] = {}
    for folders in same.values():
        if len(folders) > 1:
            found |= _of_one_run(folders, held)
    return found


def _identity(record: Record) -> tuple[str, ...]:
    """What a run that is still going on has from its first record on."""
    device = origin(record)
    return tuple(str(device[name]) for name in ("run", "started", "machine"))


def _of_one_run(
    folders: Sequence[Path], held: Mapping[Path, Record]
) -> dict[Path, tuple[str, str]]:
    contents: dict[str, list[Path]] = {}
    for folder in folders:
        contents.setdefault(digest(held[folder]), []).append(folder)
    found: dict[Path, tuple[str, str]] = {}
    firsts = []
    for _, alike in sorted(contents.items()):
        first, *rest = sorted(alike, key=_fullest)
        firsts.append(first)
        found |= {folder: _copied(first, folder, held) for folder in rest}
    ended = [folder for folder in firsts if held[folder]["status"] == "finished"]
    open_ones = sorted((f for f in firsts if f not in ended), key=lambda f: -_seen(held[f]))
    for folder in open_ones if ended else open_ones[1:]:
        now = "it has finished" if ended else "it came further"
        status = plain(held[folder]["status"])
        found[folder] = COPY, f"an earlier copy, in which the run is {status}; in another one {now}"
    return found


def _seen(record: Record) -> float:
    images = record["ledger"].get("images")
    return images if isinstance(images, int | float) else 0


def _fullest(folder: Path) -> tuple[int, int, str, str]:
    """Copies with more files come first, then what is in them; the path decides of equal ones."""
    there = [folder / name for name in WANTED if (folder / name).is_file()]
    content = json.dumps(_beside(folder), sort_keys=True)
    return -len(there), -sum(1 for _ in folder.glob("*/*")), content, str(folder)


def _beside(folder: Path) -> dict[str, str]:
    """Hashes of what a report reads beside a record, by name; what it cannot read is not there."""
    from maskbench.report import probed

    found = {}
    try:
        listed = trust.listed(folder, probed.FOLDER, probed.SUFFIX)[: probed.MOST]
    except StoreError:
        listed = []
    for name in (*WANTED, *(f"{probed.FOLDER}/{name}" for name in listed)):
        try:
            content = trust.inside(folder, name, trust.MAX_BYTES).read_bytes()
        except (OSError, StoreError):
            continue
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def _copied(first: Path, folder: Path, held: Mapping[Path, Record]) -> tuple[str, str]:
    """What is said of a copy; also what only it has, which nobody reads."""
    if first.resolve() == folder.resolve():
        return REPEATED, f"the same folder as {plain(held[first]['id'])}, by another path"
    why = "a copy of this run: the same record is in another folder, and counts once"
    read, here = _beside(first), _beside(folder)
    unread = [plain(name) for name in sorted(here) if here[name] != read.get(name)]
    more = f"; not read, for the one that counts has others or none: {', '.join(unread)}"
    return COPY, why + (more if unread else "")


def origin(record: Record) -> dict[str, Any]:
    """Where a record comes from, as far as it says: whose shape may be odd."""
    told = record.get("provenance")
    provenance: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    versions = provenance.get("versions")
    known: Mapping[str, Any] = versions if isinstance(versions, Mapping) else {}
    benchmark = record.get("benchmark")
    found = {
        "run": record.get("id"),
        "status": record.get("status"),
        "machine": _machine(provenance),
        "maskbench": known.get("maskbench"),
        "torch": known.get("torch"),
        "commit": provenance.get("commit"),
        "benchmark": benchmark.get("name") if isinstance(benchmark, Mapping) else None,
        "started": provenance.get("started"),
        "finished": provenance.get("finished"),
    }
    return {name: None if value is None else plain(value) for name, value in found.items()}


def _machine(provenance: Mapping[str, Any]) -> str | None:
    """As ``Run.machine`` says it."""
    device, threads = provenance.get("device"), provenance.get("threads")
    if not isinstance(device, Mapping):
        return None
    plural = "" if threads == 1 else "s"
    return str(device.get("gpu") or f"{device.get('cpu')}, {threads} thread{plural}")


def differences(first: Run, other: Run) -> Differences:
    """In what two runs of one name differ: what they were to be, where they ran, what came out."""
    one, two = origin(first.record), origin(other.record)
    pairs = [
        *conditions(first, other),
        ("strategy", _strategy(first), _strategy(other)),
        ("seed", str(first.seed), str(other.seed)),
        ("budget", consumed(*first.planned), consumed(*other.planned)),
        *((name, _said(one[name]), _said(two[name])) for name in ("machine", "benchmark")),
        ("versions", *_versions(first, other)),
        ("commit", _said(one["commit"])[:SHOWN], _said(two["commit"])[:SHOWN]),
        *((name, _said(one[name]), _said(two[name])) for name in ("started", "finished")),
        *_numbers(first, other),
    ]
    found = [pair for pair in pairs if pair[1] != pair[2]]
    return found or [("record", *_fields(first.record, other.record))]


def in_words(found: Differences) -> str:
    """Differences as a part of a sentence."""
    return "; ".join(f"{name}: {one} and {two}" for name, one, two in found)


def _said(value: Any) -> str:
    return "not known" if value is None else str(value)


def _strategy(run: Run) -> str:
    name, settings = variant(run)
    told = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{name} ({told})" if told else name


def _versions(first: Run, other: Run) -> tuple[str, str]:
    """Of the packages whose versions differ."""
    one, two = (dict(run.record["provenance"]["versions"]) for run in (first, other))
    names = [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]
    told = (
        ", ".join(f"{n} {versions.get(n, 'not said')}" for n in names) for versions in (one, two)
    )
    return next(told), next(told)


def _numbers(first: Run, other: Run) -> Differences:
    """Accuracies with the most labels and of the neighbours, and what was consumed."""
    found = []
    shots = max(first.scores.get(TRAINED, {}), default=0)
    for name, one, two in (
        (f"{shots}-shot", first.accuracy(TRAINED, shots), other.accuracy(TRAINED, shots)),
        ("20-NN", first.neighbours.get(TRAINED), other.neighbours.get(TRAINED)),
    ):
        found.append((name, _percent(one), _percent(two)))
    for name in ("images", "flops_total", "seconds_total"):
        one, two = first.cost(name), other.cost(name)
        found.append((name.replace("_", " "), f"{one:.6g}", f"{two:.6g}"))
    return found


def _percent(value: float | None) -> str:
    return "not probed" if value is None else f"{100 * value:.2f} %"


def _fields(one: Record, two: Record) -> tuple[str, str]:
    """Where nothing of the above differs: the fields of the record that do."""
    names = [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]
    told = plain(", ".join(names))
    return f"its {told} (hash {digest(one)[:8]})", f"other {told} (hash {digest(two)[:8]})"
