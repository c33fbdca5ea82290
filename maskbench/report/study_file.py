"""The study of a run's masks, read back without torch; what others wrote is checked first."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from safetensors import safe_open

from maskbench import trust
from maskbench.errors import StoreError
from maskbench.findings import FOLDER, JSON, VALUES
from maskbench.record import Count, Name, Part, Positive, fitting
from maskbench.report.frame import Run
from maskbench.shown import SHOWN
from maskbench.trust import MAX_BYTES, plain

SOURCES, QUANTITIES, MOMENTS, IMAGES = 16, 64, 100, 100_000
"""At most so many in a study."""
ROUNDING = 1e-3
"""How far the mean of a row's values may be from what the table says, over it or over 1."""
LARGEST = 1e6
"""No metric of an image is larger."""


def _plain(text: str) -> str:
    return plain(text)


Label = Annotated[str, Field(max_length=100), AfterValidator(_plain)]
Words = Annotated[str, Field(max_length=1000), AfterValidator(_plain)]
Number = float | None
Which = Annotated[int, Field(ge=0, lt=MOMENTS)]


class _Moment(Part):
    share: Annotated[float, Field(ge=0, le=1)]
    step: Count
    hidden: Count | None = None


class _Grid(Part):
    rows: Positive
    columns: Positive
    hidden: Count


class Saliency(Part):
    """A metric of a saliency source at a moment, beside its three nulls."""

    moment: Which
    source: Label
    metric: Label
    value: Number
    uniform: Number
    uniform_low: Number
    uniform_high: Number
    torus: Number
    torus_low: Number
    torus_high: Number
    shuffle: Number
    shuffle_low: Number
    shuffle_high: Number
    note: Words


class Quantity(Part):
    """A number of the masks of a moment: their shape, or how they move."""

    moment: Which
    name: Label
    value: Number
    low: Number
    high: Number
    null: Number
    null_low: Number = None
    null_high: Number = None
    note: Words = ""


class Drift(Quantity):
    """How masks move; its name is called ``quantity`` in the file."""

    name: Annotated[Label, Field(alias="quantity")]


class Effect(Part):
    """A coefficient at a moment; its name is called ``covariate`` in the file."""

    moment: Which
    name: Annotated[Label, Field(alias="covariate")]
    value: Number
    low: Number
    high: Number
    p: Number
    note: Words = ""


class _Tables(Part):
    saliency: Annotated[list[Saliency], Field(min_length=1, max_length=20_000)]
    geometry: Annotated[list[Quantity], Field(max_length=QUANTITIES * MOMENTS)]
    drift: Annotated[list[Drift], Field(max_length=QUANTITIES * MOMENTS)]
    effects: Annotated[list[Effect], Field(max_length=SOURCES * MOMENTS)]


class Document(Part):
    """What ``masks.json`` must be."""

    version: Annotated[Literal[1], Field(alias="schema")]
    run: Name
    data_fingerprint: Name
    images: Annotated[int, Field(ge=1, le=IMAGES)]
    images_sha256: Name
    grid: _Grid
    moments: Annotated[list[_Moment], Field(min_length=1, max_length=MOMENTS)]
    reference: Words | None
    alarms: Annotated[list[Words], Field(max_length=1000)]
    tables: _Tables
    maps: list[Label] = Field(default=[], max_length=SOURCES)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        tables = self.tables
        if len(set(self.maps)) < len(self.maps):
            raise ValueError("a map is there twice")
        quantities: list[Quantity | Effect] = [*tables.geometry, *tables.drift, *tables.effects]
        every = [row.moment for table in (tables.saliency, quantities) for row in table]
        if max(every) >= len(self.moments):
            raise ValueError("a row is of no moment")
        rows = {(row.moment, row.source, row.metric) for row in tables.saliency}
        if len(rows) < len(tables.saliency) or len({row.source for row in tables.saliency}) > (
            SOURCES
        ):
            raise ValueError(f"a row is there twice, or there are more than {SOURCES} sources")
        for table in (tables.geometry, tables.drift, tables.effects):
            names = {row.name for row in table}
            twice = len({(row.moment, row.name) for row in table}) < len(table)
            if twice or len(names) > QUANTITIES:
                raise ValueError(f"a row is there twice, or more than {QUANTITIES} quantities")
        return self


@dataclass(frozen=True, eq=False)
class Found:
    """A run's study.

    Args:
        run: The run.
        document: Of its masks.
        values: Of every image, (rows of the saliency table, images); NaN where undefined.
        maps: Saliency maps of the first few images by source, (shown, rows, columns) each, NaN
            where an image has none; nothing in older studies.
    """

    run: Run
    document: Document
    values: NDArray[np.float32]
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def saliency(self) -> Mapping[tuple[int, str, str], tuple[Saliency, NDArray[np.float64]]]:
        """Rows and their values by moment, source and metric."""
        rows = zip(self.document.tables.saliency, self.values, strict=True)
        return {
            (row.moment, row.source, row.metric): (row, values.astype(np.float64))
            for row, values in rows
        }

    @property
    def head(self) -> "Found":
        """The same without its rows and values, which are large."""
        none = _Tables.model_construct(saliency=[], geometry=[], drift=[], effects=[])
        document = self.document.model_copy(update={"tables": none})
        return replace(self, document=document, values=self.values[:0].copy())

    @property
    def shares(self) -> list[float]:
        """Of the budget, of every moment."""
        return [moment.share for moment in self.document.moments]

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What must be equal for two studies to be put side by side, but for their moments."""
        it = self.document
        grid = (it.grid.rows, it.grid.columns, it.grid.hidden)
        return it.data_fingerprint, it.images_sha256, it.images, grid, it.reference


def has_study(run: Run) -> bool:
    """Whether there is something to read."""
    try:
        return (run.folder / FOLDER / JSON).exists()
    except OSError:
        return True


def read_study(run: Run) -> Found:
    """A run's study.

    Raises:
        StoreError: A file is missing, damaged, too large, or of another run.
    """
    name = f"{FOLDER}/{JSON}"
    try:
        content = trust.parse(trust.read_text(run.folder, name), smallest=0)
        document = fitting(Document, content, "the file")
        own = (run.id, plain(run.folder.resolve().name))
        if plain(document.run) not in own:
            raise ValueError(f"it is of another run, {document.run[:100]}")
        if document.data_fingerprint != run.record["data"]["fingerprint"]:
            raise ValueError("it is of other data than the run")
        name = f"{FOLDER}/{VALUES}"
        path = trust.inside(run.folder, name, MAX_BYTES)
        with safe_open(path, framework="numpy") as file:
            return Found(run, document, _values(file, document), _maps(file, document))
    except FileNotFoundError as error:
        raise StoreError(f"no {name}: 'maskbench masks' makes it.") from error
    except Exception as error:
        why = plain(str(error) or type(error).__name__).replace(str(run.folder), run.folder.name)
        raise StoreError(f"{name}: {why[:200]}") from error


def _values(file: Any, document: Document) -> NDArray[np.float32]:
    """Numbers per image; refused unless they are those of the table."""
    table = document.tables.saliency
    shape = file.get_slice("values").get_shape()
    if list(shape) != [len(table), document.images]:
        raise ValueError(f"values of shape {shape} for {len(table)} rows")
    values: NDArray[Any] = file.get_tensor("values")
    if values.dtype != np.float32 or (np.abs(values) > LARGEST).any():
        raise ValueError(f"values that are no 32-bit numbers up to {LARGEST:g}")
    known = np.isfinite(values)
    sums = np.where(known, values, 0).sum(axis=1, dtype=np.float64)
    for row, count, total in zip(table, known.sum(axis=1), sums, strict=True):
        told, mean = row.value, total / count if count else None
        fits = told is mean is None
        if told is not None and mean is not None:
            fits = abs(mean - told) <= ROUNDING * max(1.0, abs(told))
        if not fits:
            raise ValueError("values and table do not fit together")
    return values


def _maps(file: Any, document: Document) -> dict[str, NDArray[np.float32]]:
    """Saliency maps by source; refused unless they are of the grid and whole or not there."""
    names, grid = document.maps, document.grid
    if not names:
        return {}
    shape = list(file.get_slice("maps").get_shape())
    if shape != [len(names), min(SHOWN, document.images), grid.rows, grid.columns]:
        raise ValueError(f"maps of shape {shape} for {len(names)} sources")
    maps: NDArray[Any] = file.get_tensor("maps")
    gaps = np.isnan(maps)
    torn = gaps.any(axis=(2, 3)) & ~gaps.all(axis=(2, 3))
    if maps.dtype != np.float16 or torn.any() or np.isinf(maps).any() or (maps < 0).any():
        raise ValueError("maps that are no 16-bit numbers from 0")
    return dict(zip(names, maps.astype(np.float32), strict=True))
