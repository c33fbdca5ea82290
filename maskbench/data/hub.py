"""Data sets of Hugging Face's ``datasets`` (extra ``hf``): found by feature type, packed like any.

``datasets`` finds, downloads and maps the rows; the images' bytes go through ``decode`` like those
of a folder (``Image(decode=False)``), so that the same files give the same pixels.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskbench.data import packing
from maskbench.data.decode import Source
from maskbench.data.judging import some
from maskbench.data.kinds import check_kind
from maskbench.data.packed import Bad, File, Plan, short_name
from maskbench.data.source import Images
from maskbench.errors import DataError
from maskbench.events import Progress
from maskbench.trust import plain

TESTS = ("test", "validation", "val", "valid")
"""Names of splits to score on, in the order they are tried."""

Found = Mapping[str, Any]
"""``datasets.Dataset`` by split."""


def open_hub(text: str, side: int, cache: Path, max_bad: float, progress: Progress) -> Images:
    """Open a data set of Hugging Face; its images are decoded at most once.

    Args:
        text: A path (a Parquet file, a folder of them, a folder of ``save_to_disk``) or a name on
            the hub; then perhaps ``#`` and the column of labels, or ``#`` alone for none.
        side: Side of the model's input in pixels.
        cache: Folder for packed data sets; created when needed.
        max_bad: Largest share of all rows that may be unusable, 0 to 1.
        progress: Told about packing.

    Raises:
        DataError: It cannot be found, read or used.
        StoreError: The packed images cannot be written.
        UsageError: The extra is not installed.
    """
    check_kind(f"hf:{text}")
    name, mark, column = text, "", ""
    if not Path(text).expanduser().exists():
        name, mark, column = text.partition("#")
    path = Path(name).expanduser()
    local = path.resolve() if path.exists() else None
    found = _loaded(name, local)
    return packing.opened(
        _plan(name, local, found, column if mark else None), side, cache, max_bad, progress
    )


def _loaded(name: str, local: Path | None) -> Found:
    """The splits, mapped into memory by ``datasets``; no code of the data set is run."""
    import datasets

    try:
        if local is None:
            found = datasets.load_dataset(name)
        elif local.is_file():
            found = datasets.load_dataset("parquet", data_files=str(local))
        elif any((local / known).is_file() for known in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(local))
        else:
            found = datasets.load_dataset(str(local))
    except Exception as error:
        why = plain((str(error).splitlines() or [type(error).__name__])[0])[:300]
        remedy = (
            "There is no such path here, so it was looked for on the Hugging Face hub: check the "
            "name and the network, or give a path."
            if local is None
            else "Expected is a Parquet file, a folder of them, or one written by save_to_disk."
        )
        raise DataError(f"--data hf:{plain(name)} cannot be read: {why} {remedy}") from error
    if isinstance(found, datasets.Dataset):
        return {"train": found}
    return {str(split): rows for split, rows in found.items()}


def _plan(name: str, local: Path | None, found: Found, column: str | None) -> Plan:
    """What is to be packed of the splits that were found."""
    shown = f"--data hf:{plain(name)}"
    if "train" not in found:
        raise DataError(
            f"{shown} has no split train, only {some(found)}. Choose one and save it: "
            'datasets.DatasetDict(train=...).save_to_disk("FOLDER"), then --data hf:FOLDER.'
        )
    features = found["train"].features
    image, label = _image(shown, features), _label(shown, features, column)
    chosen = {"train": "train"}
    if label is not None:
        chosen["test"] = _test(shown, found, label)
    kept = [image] if label is None else [image, label]
    tables = {split: _table(found[source], kept) for split, source in chosen.items()}
    classes = () if label is None else tuple(features[label].names)
    splits: dict[str, Sequence[File]] = {}
    skipped: list[Bad] = []
    for split, table in tables.items():
        labels = np.full(len(table), -1) if label is None else _labels(table.column(label))
        fine = (label is None) | ((labels >= 0) & (labels < len(classes)))
        rows = [File(f"{split}/{n:08}", int(labels[n]), 0, 0) for n in range(len(table))]
        splits[split] = [row for row, good in zip(rows, fine, strict=True) if good]
        skipped += [Bad(row.path, "no label") for row, g in zip(rows, fine, strict=True) if not g]
    columns = f"column {' and '.join(map(plain, kept))}"
    return Plan(
        root=local or Path(name),
        name=short_name(local.name if local else name),
        layout=f"Hugging Face data set: {columns}; split {' and '.join(chosen.values())}",
        classes=tuple(map(plain, classes)),
        splits=splits,
        skipped=skipped,
        kind="hf",
        mark=_mark([found[source] for source in chosen.values()]),
        fetch=_Rows({split: table.column(image) for split, table in tables.items()}, local),
    )


def _image(shown: str, features: Found) -> str:
    """The column of images."""
    import datasets

    names = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(names) == 1 or "image" in names:
        return "image" if "image" in names else names[0]
    what = f"several columns of images, {some(names)}" if names else "no column of images"
    known = ", ".join(f"{plain(name)} ({type(kind).__name__})" for name, kind in features.items())
    raise DataError(
        f"{shown} has {what}; its columns are {known}. Give it one column named image with the "
        "feature datasets.Image(), as by cast_column, and save it by save_to_disk."
    )


def _label(shown: str, features: Found, column: str | None) -> str | None:
    """The column of labels, if there is one and it is wanted."""
    import datasets

    names = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if column == "" or (column is None and not names):
        return None
    if column in names:
        return column
    if column is None and ("label" in names or len(names) == 1):
        return "label" if "label" in names else names[0]
    what = "several" if column is None else f"no column {plain(column)}"
    raise DataError(
        f"{shown} has {what} of class labels (datasets.ClassLabel); there are {some(names)}. Name "
        f"one behind a #, as in '{shown}#{plain(names[0]) if names else 'label'}', or none for "
        f"pretraining alone, as in '{shown}#'."
    )


def _test(shown: str, found: Found, label: str) -> str:
    """The split to score on: the first that has labels (the hub's test splits often hide them)."""
    for name in TESTS:
        if name in found and (_labels(_table(found[name], [label]).column(label)) >= 0).any():
            return name
    raise DataError(
        f"{shown} has classes, and no labelled split named {', '.join(TESTS[:-1])} or {TESTS[-1]} "
        f"to score on; there are {some(found)}. Save one beside train by "
        f"datasets.DatasetDict(train=..., test=...).save_to_disk, or add # for pretraining alone: "
        f"'{shown}#'."
    )


def _table(dataset: Any, columns: list[str]) -> Any:
    """Some columns as an Arrow table; still on the disk, mapped into memory."""
    return dataset.select_columns(columns).with_format("arrow")[:]


def _labels(column: Any) -> NDArray[np.int64]:
    """Labels of all rows; -1 where there is none."""
    return np.asarray(column.fill_null(-1).to_numpy(), dtype=np.int64)


def _mark(used: Sequence[Any]) -> str:
    """What changes when the data does: names, sizes and times of the files behind the rows."""
    files = [Path(one["filename"]) for dataset in used for one in dataset.cache_files]
    facts = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return json.dumps([facts, [repr(dataset.features) for dataset in used]])


class _Rows:
    """Gives the bytes of a row's image.

    Args:
        columns: Arrow columns of images, by split.
        local: Where the data set lies, if it is not the hub's.
    """

    def __init__(self, columns: Found, local: Path | None) -> None:
        from datasets.config import HF_CACHE_HOME, HF_DATASETS_CACHE
        from huggingface_hub.constants import HF_HUB_CACHE

        homes = [HF_CACHE_HOME, HF_DATASETS_CACHE, HF_HUB_CACHE, *([local] if local else [])]
        self._columns = columns
        self._homes = [Path(home).resolve() for home in homes]

    def __call__(self, file: File) -> Source:
        """The bytes, or the path of a file that belongs to the data set."""
        split, _, row = file.path.partition("/")
        cell = self._columns[split][int(row)].as_py()
        if cell and cell["bytes"] is not None:
            return BytesIO(cell["bytes"])
        if not cell or not cell["path"]:
            raise ValueError("no image in this row")
        path = Path(cell["path"]).resolve()
        if not path.is_file():
            raise ValueError("no such file")
        if not any(path.is_relative_to(home) for home in self._homes):
            raise ValueError("a file outside the data set")
        return str(path)
