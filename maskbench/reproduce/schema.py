"""A figure's file: its claim, its runs, and the rule it is judged by, fixed before the runs."""

import importlib.util
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from maskbench import strict
from maskbench.analysis.agreement import MEANS
from maskbench.budget import parse
from maskbench.data.kinds import check_kind
from maskbench.errors import UsageError, unknown
from maskbench.registry import check_name
from maskbench.spec import Request, check_numbers, preset, shares
from maskbench.strict import Part, Word

PACKAGE, FOLDER = "maskbench.benchmarks", "paper-figures"
SOURCES = (
    "objects", "contours", "spectral residual", "edges", "centre", "difficulty", "attention",
)  # fmt: skip
SHAPES = (
    "moran", "joins_mixed", "joins_hidden", "joins_visible", "joins_horizontal", "joins_vertical",
    "visible_components", "visible_largest", "hidden_components", "hidden_largest",
    "low_frequency", "same_image", "score_entropy", "soft_share_error", "slope", "anisotropy",
    "chi2", "chi2_p", "entropy", "position_share", "hamming", "iou_hidden", "iou_visible",
)  # fmt: skip
ACCURACY, EPOCHS, KNN = "accuracy", "epochs", "knn20"
QUANTITIES = {
    **{f"{metric} of {source}": "per image" for metric, source in product(MEANS, SOURCES)},
    **dict.fromkeys(SHAPES, "of the masks"),
    ACCURACY: "FS-AULC: few-shot accuracy, mean over shots of the share of the way to 1",
    KNN: "accuracy of 20 nearest neighbours",
    EPOCHS: "share of the budget until the baseline's final accuracy is reached",
}
"""Everything that can be compared."""
AT = {"start": 0.0, "middle": 0.5, "end": 1.0}


class Arm(Part):
    """What is run under one name, once per seed.

    Attributes:
        strategy: As ``--strategy`` takes it.
        settings: As ``--set`` takes them.
        probe_at: Percentages of the budget at which it is probed, too.
    """

    strategy: Word
    settings: dict[str, str | int | float | bool] = Field(default={})
    probe_at: Word = "100%"


class Runs(Part):
    """What all runs share.

    Attributes:
        data: As ``--data`` takes it.
        model: A preset.
        budget: As ``--budget`` takes it.
        seeds: How many: 0, 1, ...
        draws: Few-shot subsets per shot.
    """

    data: Word = "scenes"
    model: Word = "nano"
    budget: Word
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3
    draws: Annotated[int, Field(ge=1, le=1000)] = 10


class Point(Part):
    """An arm at a moment of its training."""

    arm: Word
    at: Literal["start", "middle", "end"] = "end"


class Compare(Part):
    """One difference, paired by seed (and image): ``high`` minus ``low``, claimed to be above 0.

    Attributes:
        what: In words.
        quantity: One of ``QUANTITIES``.
        instead: What takes its place where the data do not know the first.
        absolute: Whether its absolute value is compared.
        high: Where it is claimed to be larger.
        low: Where it is claimed to be smaller.
        smallest: The smallest difference of interest, in the quantity's unit.
        decisive: Whether the verdict depends on it.
    """

    what: Word
    quantity: Word
    instead: Word | None = None
    absolute: bool = False
    high: Point
    low: Point
    smallest: Annotated[float, Field(gt=0)]
    decisive: bool = False

    @field_validator("quantity", "instead")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        return value if value is None else _quantity(value)


class Figure(Part):
    """What is drawn.

    Attributes:
        masks: Under which masks the first images are shown.
        panels: Quantities over the budget.
        few_shot: Accuracy over labelled images.
        progress: Accuracy over the budget.
    """

    masks: tuple[Point, ...] = Field(default=(), strict=False)
    panels: tuple[Word, ...] = Field(default=(), strict=False)
    few_shot: bool = False
    progress: bool = False

    @field_validator("panels")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_quantity(name) for name in value)


class Benchmark(Part):
    """A whole file.

    Attributes:
        question: What is asked.
        claim: What the paper says, as this project states it.
        source: The paper and its figure.
        expected: What is seen if the claim holds.
        baseline: The arm whose final accuracy ``epochs`` counts to.
        runs: What all runs share.
        arms: What is run, by name.
        compare: What is compared; at least one decides.
        figure: What is drawn.
    """

    question: Word
    claim: Word
    source: Word
    expected: Word
    baseline: Word | None = None
    runs: Runs
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    compare: Annotated[tuple[Compare, ...], Field(min_length=1, strict=False)]
    figure: Figure

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for point in (p for one in self.compare for p in (one.high, one.low)):
            _named(point.arm, self.arms)
        for point in self.figure.masks:
            _named(point.arm, self.arms)
        if self.baseline is not None:
            _named(self.baseline, self.arms)
        elif any(one.quantity == EPOCHS for one in self.compare):
            raise ValueError(f"{EPOCHS} are counted to an arm's final accuracy: name it: baseline")
        if not any(one.decisive for one in self.compare):
            raise ValueError("nothing decides: write decisive = true in a [[compare]]")
        return self

    def changed(self, **given: Any) -> Self:
        """The same with other shared settings; those that are None stay.

        Args:
            given: Fields of ``Runs``.

        Raises:
            UsageError: A value that cannot be.
        """
        told = {name: value for name, value in given.items() if value is not None}
        try:
            runs = Runs(**{**self.runs.model_dump(), **told})
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"--{option} {first['input']}: {strict.said(first)}.") from error
        return self.model_copy(update={"runs": runs})

    def request(self, arm: str, seed: int) -> Request:
        """The run of one arm and seed.

        Raises:
            UsageError: A name or number that cannot be.
        """
        own, runs = self.arms[arm], self.runs
        check_name(own.strategy)
        check_kind(runs.data)
        parse(runs.budget)
        preset(runs.model)
        request = Request(
            strategy=own.strategy,
            sets=tuple(f"{key}={value}" for key, value in own.settings.items()),
            budget=runs.budget,
            data=runs.data,
            model=runs.model,
            seed=seed,
            draws=runs.draws,
            probe_at=shares(own.probe_at),
        )
        check_numbers(request)
        return request

    def requests(self) -> dict[tuple[str, int], Request]:
        """All runs, by arm and seed; all arms of a seed, then the next."""
        return {
            (arm, seed): self.request(arm, seed)
            for seed, arm in product(range(self.runs.seeds), self.arms)
        }


def _quantity(name: str) -> str:
    if name not in QUANTITIES:
        metric = name.partition(" of ")[0]
        metric = metric if metric in MEANS else "auc"  # not all products of metrics and sources
        near = [known for known in QUANTITIES if known.partition(" of ")[0] in (metric, known)]
        raise ValueError(unknown("quantity", name, near))
    return name


def _named(arm: str, arms: Mapping[str, Arm]) -> None:
    if arm not in arms:
        raise ValueError(unknown("arm", arm, arms))


def shipped() -> dict[str, Path]:
    """The files that come with maskbench, by name."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(f"the package {PACKAGE} is not installed: reinstall maskbench (uv sync).")
    folder = Path(found.origin).parent / FOLDER
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def located(name: str) -> Path:
    """The file that a name or a path means.

    Raises:
        UsageError: There is none.
    """
    path, known = Path(name), shipped()
    if name in known:
        return known[name]
    if path.suffix != ".toml":
        raise UsageError(f"{unknown('figure', name, known)} Your own: path/to/figure.toml.")
    return path


def read(path: Path) -> Benchmark:
    """A figure's file.

    Raises:
        UsageError: It cannot be read, or something in it cannot be: file, line, key and remedy.
    """
    return strict.read(path, Benchmark, "'maskbench reproduce' lists whole files to look at.")
