"""The shape of ``record.json``: what a record of others must be before anything looks at it.

More fields may be there. ``docs/files.md`` says what they mean.
"""

from collections.abc import Mapping, Sized
from typing import Annotated, Any, Literal, NotRequired, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator, with_config
from typing_extensions import TypedDict

from maskbench.trust import plain

SHOTS = 64
"""Different numbers of labelled images per class, at most."""

Name = Annotated[str, Field(max_length=1000)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Amounts = dict[Name, Amount | None]
Shape = TypeVar("Shape", bound=BaseModel)


class Part(BaseModel):
    """A part of a file of others: strict types, more fields may be there."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)


@with_config(ConfigDict(strict=True, extra="ignore"))
class Row(TypedDict):
    """One probe. No ``Part``: a record has some thousand, and a model takes twice as long."""

    metric: NotRequired[Name | None]
    layer: NotRequired[Name | None]

    probe: Name
    feature: Name
    shots: Annotated[int, Field(ge=1, le=1_000_000)] | None
    draw: Count | None
    accuracy: Annotated[float, Field(ge=0, le=1)]
    classes: Annotated[int, Field(ge=2)]


Rows = Annotated[list[Row], Field(max_length=100_000)]


class _Probing(Part):
    """What the probes were asked."""

    duplicates: Count = 0
    notes: Annotated[list[str], Field(max_length=100)] = []
    development_classes: list[str] = []
    best_layer: Positive | None = None
    manifest_sha256: Name | None = None


class _Moment(Part):
    images: Amount
    flops_total: Amount
    seconds_total: Amount
    rows: Rows


class _Strategy(Part):
    name: Name
    settings: dict[Name, Any] | None = None
    changed: dict[Name, Any] | None = None
    source: Name | None = None
    prior: str | None = None


class _Settings(Part):
    strategy: Name
    strategy_settings: dict[Name, Any] | None = None
    strategy_digest: Name | None = None
    budget: Name | None = None
    data: Name | None = None
    model: Name | None = None
    lr_trials: Count | None = None
    scored_on: Name | None = None
    probe_at: list[Amount] | None = None


class _File(Part):
    path: str
    reason: str


class _Skipped(Part):
    count: Count
    files: list[_File]


class _Data(Part):
    name: Name
    fingerprint: Name
    classes: list[str] | None = None
    train: Positive
    test: Count
    skipped: _Skipped | None = None


class _Model(Part):
    preset: Name
    image: Positive
    patch: Positive
    width: Positive
    depth: Positive
    hidden: Count


class _Budget(Part):
    text: Name
    unit: Literal["images", "flops", "seconds"] | None = None  # not in the oldest records
    amount: Annotated[float, Field(gt=0)] | None = None
    images: Positive
    steps: Positive
    epochs: Annotated[float, Field(gt=0)]
    seconds_expected: Amount | None = None


class _Ledger(Part):
    """Every field may be missing: such a run is listed, not ranked."""

    images: Amount | None = None
    images_distinct: Amount | None = None
    steps: Amount | None = None
    tokens_encoded: Amount | None = None
    flops: Amounts | None = None
    flops_total: Amount | None = None
    flops_prior: Amount | None = None
    flops_known: bool | None = None
    flops_relative_to_random: Amount | None = None
    seconds: Amounts | None = None
    seconds_total: Amount | None = None
    images_per_s: Amount | None = None
    peak_memory_bytes: Amounts | None = None
    machine: dict[Name, Any] | None = None
    energy_joules: Amount | None = None
    stop_reason: Name | None = None


class _Gap(Part):
    gap: float
    error: float | None  # None for one image


class _Masks(Part):
    images: Count | None = None
    moments: Annotated[list[Amount], Field(max_length=100)] | None = None
    steps: Annotated[list[Amount], Field(max_length=100)] | None = None
    difficulty: Annotated[list[_Gap], Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        found: list[Sized] = [f for f in (self.moments, self.steps, self.difficulty) if f]
        if len(set(map(len, found))) > 1 or (self.difficulty and not self.moments):
            raise ValueError("moments, steps and difficulty do not fit together")
        return self


class _Device(Part):
    gpu: Name | None
    cpu: Name | None
    cores: Count | None = None


class _Provenance(Part):
    versions: dict[Name, Name]
    commit: Name | None
    device: _Device
    threads: Count
    started: Name
    finished: Name | None = None


class _Benchmark(Part):
    """Which benchmark planned a run."""

    name: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    run: Name


class Record(Part):
    """A run's record."""

    id: Name
    status: Literal["running", "finished", "failed", "diverged", "interrupted"]
    error: str | None = None
    strategy: _Strategy
    settings: _Settings
    benchmark: _Benchmark | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: _Data
    model: _Model
    budget: _Budget
    ledger: _Ledger
    probes: Rows
    probes_during: Annotated[list[_Moment], Field(max_length=1000)] | None = None
    controls: Rows
    probing: _Probing | None = None
    masks: _Masks
    provenance: _Provenance

    @model_validator(mode="after")
    def _few_shots(self) -> Self:
        if len({row["shots"] for row in (*self.probes, *self.controls)}) > SHOTS:
            raise ValueError(f"more than {SHOTS} different shots")
        return self


class _ProbedData(Part):
    name: Name
    fingerprint: Name
    classes: Annotated[list[Name], Field(min_length=2)]
    train: Positive
    test: Positive


class _Asked(Part):
    """The settings of ``maskbench probe``; more of them may be there."""

    data: Name
    suite: Name
    pool: Positive
    draws: Positive
    side: Positive | None
    stored: Positive | None


class _Encoder(Part):
    name: Name


class _Finished(Part):
    finished: Name


class Probes(Part):
    """A file of ``maskbench probe``."""

    version: Annotated[Literal[1], Field(alias="schema")]
    encoder: _Encoder
    data: _ProbedData
    asked: _Asked
    rows: Rows
    provenance: _Finished

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.asked.data != self.data.fingerprint:
            raise ValueError("asked and data name different data")
        wanted = ("logreg", "patchmean")
        found = [row for row in self.rows if (row["probe"], row["feature"]) == wanted]
        if len({row["shots"] for row in found}) > SHOTS:
            raise ValueError(f"more than {SHOTS} different shots")
        if any(row["classes"] != len(self.data.classes) for row in found):
            raise ValueError("rows and data have different numbers of classes")
        return self


def check(value: Mapping[str, Any]) -> None:
    """Refuse a record of another shape.

    Raises:
        ValueError: What is wrong, in a line.
    """
    fitting(Record, value, "the record")


def probes_of(value: Any) -> Probes:
    """What a file of ``maskbench probe`` holds.

    Raises:
        ValueError: It has another shape; what is wrong, in a line.
    """
    return fitting(Probes, value, "the file")


def fitting(shape: type[Shape], value: Any, whole: str) -> Shape:
    """What a file holds, if it has the shape.

    Args:
        shape: What it must be.
        value: What was parsed.
        whole: What it is called in an error.

    Raises:
        ValueError: It has another shape; what is wrong, in a line.
    """
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(plain(part)[:40] for part in first["loc"]) or whole
        rest = f" (and {len(more)} more)" if more else ""
        raise ValueError(f"{where}: {first['msg'].lower()}{rest}") from error
