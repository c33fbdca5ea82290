"""A study of masks as files: tidy tables, one JSON document, numbers per image, and figures."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from maskbench.errors import StoreError
from maskbench.figures import analysis as drawn
from maskbench.files import replacing, unwritten
from maskbench.results import plain_json, write_json

if TYPE_CHECKING:
    from maskbench.analysis.study import Study

SCHEMA = 1
FOLDER = "analysis"
JSON, VALUES = "masks.json", "values.safetensors"


def write(
    folder: Path,
    facts: dict[str, Any],
    study: "Study",
    images: NDArray[np.uint8],
    hidden: NDArray[np.bool_],
    *,
    kinds: Sequence[str],
    maps: Mapping[str, NDArray[np.float16]] | None = None,
) -> None:
    """Write everything; the JSON document last, so that what is there is whole.

    Args:
        folder: Made if needed; files of the same names are replaced.
        facts: Of the run, the data and the reference: the head of the document.
        study: What was found.
        images: The first few images, uint8, (images, side, side, 3), for the pictures.
        hidden: Their masks, (moments, images, rows, columns).
        kinds: Of files for the figures: ``svg``, ``png``.
        maps: Saliency maps of the first few images by source, (images, rows, columns) each, NaN
            where an image has none; None or nothing for none.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(unwritten(folder, error)) from error
    for name, rows in study.tables.items():
        with replacing(folder / f"{name}.csv") as file:
            file.write(table(rows).encode())
    arrays: dict[str, NDArray[Any]] = {
        "values": study.values,
        "frequency": study.frequency.astype(np.float32),
    }
    if maps:
        arrays["maps"] = np.ascontiguousarray(np.stack(list(maps.values())))
    with replacing(folder / VALUES) as file:
        file.write(save(arrays))
    for name, content in drawn.figures_of(facts, study, images, hidden, kinds).items():
        with replacing(folder / name) as file:
            file.write(content)
    radii, power = study.spectrum
    document = {
        "schema": SCHEMA,
        **facts,
        "alarms": study.alarms,
        "maps": list(maps or ()),
        "spectrum": {"radii": radii.tolist(), "power": power.tolist()},
        "tables": study.tables,
    }
    write_json(folder / JSON, document)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV; what is unknown is empty."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain_json(row) for row in rows)
    return file.getvalue()


def read(folder: Path) -> dict[str, Any] | None:
    """A study's document; None where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((folder / JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None
