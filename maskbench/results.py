"""The run store: one folder per run, plain files, one record; never pickle, never overwritten."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench import trust
from maskbench.errors import SchemaError, StoreError, UsageError, unknown
from maskbench.files import replacing, unwritten
from maskbench.record import check
from maskbench.trust import plain

SCHEMA = 1
RECORD = "record.json"
METRICS = "metrics.jsonl"
MASKS = "masks.safetensors"
ENCODER = "encoder.safetensors"
SETTINGS = "settings.json"
PRIMARY = "patchmean"
"""The feature that runs are known by, of the trained encoder."""
BEGUN, UNREADABLE = "begun", "unreadable"
FLOP_PARTS = (
    "encoder", "decoder", "mask generator", "teacher", "feature extraction", "clustering",
)  # fmt: skip
FIELDS = (
    "schema", "id", "status", "strategy", "settings", "seed", "data", "model", "budget", "ledger",
    "probes", "controls", "masks", "provenance",
)  # fmt: skip
LEDGER = (
    "images", "images_distinct", "steps", "tokens_encoded",
    *(f"flops.{part}" for part in FLOP_PARTS),
    "flops_total", "flops_prior", "flops_known", "flops_relative_to_random",
    "seconds.training", "seconds.setup", "seconds.data", "seconds.step", "seconds.strategy",
    "seconds.compilation", "seconds.paused", "seconds.checkpoint", "seconds.probes",
    "seconds_total", "images_per_s", "peak_memory_bytes.host", "peak_memory_bytes.device",
    "machine.device", "machine.threads", "machine.load_before", "machine.load_after",
    "machine.battery", "energy_joules", "stop_reason",
)  # fmt: skip
"""What a ledger must say for its run to be ranked; a dot leads into a part."""
MAY_BE_NULL = {
    "peak_memory_bytes.device", "machine.load_before", "machine.load_after", "energy_joules",
}  # fmt: skip


def plain_json(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Replace a file atomically: temporary file, flush, fsync, rename.

    Raises:
        StoreError: The file cannot be written.
    """
    with replacing(path) as file:
        text = json.dumps(plain_json(value), indent=1, allow_nan=False)
        file.write(f"{text}\n".encode())


def read_record(folder: Path) -> dict[str, Any]:
    """A run's record; of others, so nothing in it is believed before its shape is checked.

    Raises:
        SchemaError: It is of another schema.
        StoreError: Missing, not JSON, of another shape, or too large.
    """
    path = folder / RECORD
    try:
        record = trust.parse(trust.read_text(folder, RECORD))
    except FileNotFoundError as error:
        raise StoreError(f"no record at {path}: not a run folder.") from error
    except ValueError as error:
        raise StoreError(f"{path} is not a readable record: {error}.") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise _other_schema(path, record.get("schema") if isinstance(record, dict) else "none")
    missing = [name for name in FIELDS if name not in record]
    if missing:
        raise StoreError(f"{path} lacks {', '.join(missing)}.")
    try:
        check(record)
    except ValueError as error:
        raise StoreError(f"{path} is not a record of schema {SCHEMA}: {error}.") from error
    return record


def _other_schema(path: Path, found: Any) -> SchemaError:
    """Which schema it has, which is read, and what to do."""
    said = f"{path} has schema {plain(found)[:40]}; this maskbench reads {SCHEMA}"
    if not isinstance(found, int) or isinstance(found, bool):
        return SchemaError(f"{said}: no maskbench wrote it.")
    if found > SCHEMA:
        return SchemaError(f"{said}. A newer maskbench made it: upgrade maskbench to read it.")
    return SchemaError(
        f"{said}. An older maskbench made it: compare it with that version, or run it again."
    )


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All metric lines of a run, as ``each_metric`` reads and refuses them."""
    return list(each_metric(folder))


def each_metric(folder: Path) -> Iterator[dict[str, Any]]:
    """The metric lines of a run; lines that are torn or no JSON object are left out.

    Raises:
        StoreError: The file is a link out of the folder, no regular file, or too large.
    """
    try:
        lines = trust.read_text(folder, METRICS).splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            row = trust.parse(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


@dataclass(frozen=True)
class Store:
    """A folder of runs.

    Args:
        root: The folder; created when the first run starts.
        of: The store it is a part of, in which runs are found by name and data is kept.
    """

    root: Path
    of: Path | None = None

    @property
    def home(self) -> Path:
        """Where runs are found by name, and packed data lies."""
        return self.of or self.root

    def folders(self) -> list[Path]:
        """Every run folder, by name."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent for path in self.root.glob(f"*/{RECORD}"))

    def unrecorded(self) -> list[Path]:
        """Folders that a run was begun in and that have no record, by name.

        A run that ended before its first record, or of which a copy is not whole.
        """
        if not self.root.is_dir():
            return []
        found = (
            path.parent for name in (SETTINGS, METRICS) for path in self.root.glob(f"*/{name}")
        )
        return sorted(folder for folder in set(found) if not (folder / RECORD).exists())

    def records(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Every readable record, and a line for each that is not."""
        return read_all(self.folders())

    def finished(self, run_id: str) -> Path | None:
        """The latest finished run with these settings, if there is one."""
        return next((f for f in self._attempts(run_id) if status(f) == "finished"), None)

    def unfinished(self, run_id: str) -> Path | None:
        """The latest run with these settings, if it is not finished."""
        known = (folder for folder in self._attempts(run_id) if status(folder) != UNREADABLE)
        latest = next(known, None)
        return latest if latest and status(latest) != "finished" else None

    def prepare(self) -> None:
        """Make the store's folder.

        Raises:
            StoreError: It cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(unwritten(self.root, error)) from error

    def create(self, run_id: str) -> Path:
        """A new folder for a run; ``-2``, ``-3``... when earlier ones exist (they are kept).

        Raises:
            StoreError: The store cannot be written.
        """
        attempt, folder = 1, self.root / run_id
        while True:
            try:
                self.prepare()
                folder.mkdir()
            except FileExistsError:
                attempt += 1
                folder = self.root / f"{run_id}-{attempt}"
                continue
            except OSError as error:
                raise StoreError(unwritten(folder, error)) from error
            return folder

    def find(self, name: str) -> Path:
        """A run by folder, or by the name (or a unique beginning) it has in the store.

        Raises:
            UsageError: No such run, or more than one.
        """
        path = Path(name)
        if (path / RECORD).is_file():
            return path
        names = {folder.name: folder for folder in Store(self.home).folders()}
        if name in names:
            return names[name]
        near = [folder for key, folder in names.items() if key.startswith(name)]
        if len(near) == 1:
            return near[0]
        if near:
            several = ", ".join(folder.name for folder in near)
            raise UsageError(f"{name!r} begins several runs, name more of it: {several}.")
        raise UsageError(f"{unknown('run', name, names)} Looked in {self.home}/.")

    def _attempts(self, run_id: str) -> list[Path]:
        """Folders of runs with these settings, the latest first; one may have no record yet."""
        found = [
            folder
            for folder in self.root.glob(f"{run_id}*")
            if folder.name == run_id or folder.name.removeprefix(f"{run_id}-").isdigit()
        ]
        return sorted(found, key=lambda folder: (len(folder.name), folder.name), reverse=True)


def status(folder: Path) -> str:
    """What a run's record says of it; ``BEGUN`` before there is one, or ``UNREADABLE``."""
    try:
        return str(read_record(folder)["status"])
    except StoreError:
        return UNREADABLE if (folder / RECORD).exists() else BEGUN


def read_all(folders: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of folders (each with its ``folder`` added), and a line for each unreadable one."""
    records, refused = [], []
    for folder in folders:
        try:
            records.append({**read_record(folder), "folder": str(folder)})
        except StoreError as error:
            refused.append(str(error))
    return records, refused


def brief(record: Mapping[str, Any]) -> dict[str, Any]:
    """The line a listing shows of a record."""
    trained = (record["ledger"].get("seconds") or {}).get("training")
    return {
        "run": record["id"],
        "status": record["status"],
        "strategy": record["strategy"]["name"],
        "model": record["model"]["preset"],
        "data": record["data"]["name"],
        "budget": record["budget"]["text"],
        "seed": record["seed"],
        "logreg@16": mean_accuracy(record["probes"], "logreg", 16),
        "knn20": mean_accuracy(record["probes"], "knn20", None),
        "minutes": trained / 60 if isinstance(trained, int | float) else None,
        "folder": record.get("folder"),
    }


def lacking(ledger: Any) -> list[str]:
    """What a ledger must say and does not; a part that is not there at all is named once."""
    missing = []
    for name in LEDGER:
        part, _, key = name.rpartition(".")
        within = ledger.get(part) if part and isinstance(ledger, Mapping) else ledger
        found = within.get(key, ...) if isinstance(within, Mapping) else ...
        if found is ... or (found is None and name not in MAY_BE_NULL):
            there = not part or isinstance(within, Mapping)
            missing.append(name.replace(".", " ") if there else part)
    return list(dict.fromkeys(missing))


def mean_accuracy(
    rows: list[dict[str, Any]], probe: str, shots: int | None, feature: str = PRIMARY
) -> float | None:
    """Mean accuracy over draws of one feature, 0 to 1; None when no row fits."""
    found = [
        row["accuracy"]
        for row in rows
        if (row["probe"], row["shots"], row["feature"]) == (probe, shots, feature)
    ]
    return sum(found) / len(found) if found else None
