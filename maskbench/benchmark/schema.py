"""A benchmark's file: a question, and the runs that answer it."""

import hashlib
import json
from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from maskbench.benchmark.words import Budgets, Data, Models, Percentages, Seeds, Strategy
from maskbench.errors import MaskbenchError, UsageError, unknown
from maskbench.registry import check_name
from maskbench.spec import Request, check_numbers, shares
from maskbench.strict import Part, Word, said

METRICS = {
    "fs-aulc": "higher",
    "knn20": "higher",
    "seconds": "lower",
    "flops": "lower",
}
"""What arms can be ranked by, and which direction is better."""
ALL = 10_000
"""Runs of one benchmark, at most."""


class Arm(Part):
    """A strategy with its settings, once per data set, model, budget and seed.

    Attributes:
        strategy: As ``--strategy`` takes it; the arm's own name if it is left out.
        settings: As ``--set`` takes them.
        lr: As ``--lr`` takes it, instead of the benchmark's.
        budgets: Instead of the benchmark's.
    """

    strategy: Strategy | None = None
    settings: dict[Word, str | int | float | bool] = Field(default={})
    lr: Annotated[float, Field(gt=0, strict=False)] | Literal["tuned"] | None = None
    budgets: Budgets | None = None


class Probes(Part):
    """What trained encoders are asked.

    Attributes:
        draws: Few-shot subsets per shot.
        at: Percentages of the budget at which a run is probed, too.
    """

    draws: Annotated[int, Field(ge=1, le=1000)] = 10
    at: Percentages = "100%"


class Options(Part):
    """The recipe and the machine, as the options of ``maskbench run`` take them."""

    batch: Annotated[int, Field(ge=1)] | None = None
    hidden: Annotated[int, Field(ge=1)] | None = None
    lr: Annotated[float, Field(gt=0, strict=False)] | Literal["tuned"] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    max_bad: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.01


class Tier(Part):
    """What is otherwise where the benchmark is asked for under this name; the rest stays."""

    data: Data | None = None
    model: Models | None = None
    budgets: Budgets | None = None
    seeds: Seeds | None = None
    probes: Probes | None = None
    options: Options | None = None


class Item(Part):
    """One run of a benchmark.

    Attributes:
        name: Unique in its benchmark.
        arm: Whose run.
        request: As ``maskbench run`` would be asked.
    """

    name: str
    arm: str
    request: Request


class ArmError(UsageError):
    """Something of one strategy of a benchmark cannot be.

    Args:
        arm: Its name in the file.
        message: What.
    """

    def __init__(self, arm: str, message: str) -> None:
        super().__init__(f"strategies.{arm}: {message}")
        self.arm, self.message = arm, message


class Benchmark(Part):
    """A whole file.

    Attributes:
        title: A few words.
        question: What is asked.
        expected: What the authors of the file expect, written before the runs.
        cost: Where, how long, measured or estimated.
        metric: By which arms are ranked: one of ``METRICS``.
        direction: Which of its values are better.
        baseline: The arm that others are compared with.
        data: As ``--data`` takes it, one or several.
        model: Presets, one or several.
        budgets: As ``--budget`` takes them, one or several.
        seeds: How many (0, 1, ...), or which.
        probes: What encoders are asked.
        options: The recipe and the machine.
        strategies: The arms, by name.
        tiers: Smaller and larger variants, by name.
        tier: The one that is meant where none is named; none: the file as it is.
    """

    title: Word
    question: Word
    expected: Word
    cost: Word
    metric: Word = "fs-aulc"
    direction: Literal["higher", "lower"] = "higher"
    baseline: Word | None = None
    data: Data = ("scenes",)
    model: Models = ("nano",)
    budgets: Budgets
    seeds: Seeds = (0, 1, 2)
    probes: Probes = Probes()
    options: Options = Options()
    strategies: Annotated[dict[Word, Arm], Field(min_length=1)]
    tiers: dict[Word, Tier] = Field(default={})
    tier: Word | None = None

    @field_validator("metric")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in METRICS:
            raise ValueError(unknown("metric", value, METRICS))
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        better = METRICS[self.metric]
        if self.direction != better:
            raise ValueError(f"{better} {self.metric} is better: write direction = {better!r}")
        if self.baseline is not None and self.baseline not in self.strategies:
            raise ValueError(unknown("strategy (of baseline)", self.baseline, self.strategies))
        if self.tier is not None and self.tier not in self.tiers:
            raise ValueError(unknown("tier", self.tier, self.tiers))
        return self

    def at(self, tier: str | None, **given: Any) -> "Benchmark":
        """The benchmark of one tier, without tiers.

        Args:
            tier: Its name; None: the file's own choice.
            given: Fields of ``Tier`` that come before all others; those that are None stay.

        Raises:
            UsageError: No such tier, or a value that cannot be.
        """
        name = tier or self.tier
        if name is not None and name not in self.tiers:
            raise UsageError(unknown("tier", name, self.tiers))
        told = self.tiers[name].model_dump(exclude_unset=True) if name else {}
        own = self.model_dump(exclude_unset=True)
        for part in ("probes", "options"):
            told[part] = {**own.get(part, {}), **told.get(part, {})}
        told |= {key: value for key, value in given.items() if value is not None}
        try:
            return Benchmark(**{**own, **told, "tiers": {}, "tier": None})
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"--{option} {first['input']}: {said(first)}.") from error

    def resolved(self) -> dict[str, Any]:
        """Everything that is asked, as plain values, defaults included."""
        return self.model_dump(mode="json", exclude={"tiers", "tier", "cost"})

    def digest(self) -> str:
        """SHA-256 of what is asked: another question is another benchmark, another cost is not."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()

    def items(self) -> dict[str, Item]:
        """All runs by name, checked as far as that goes without data; all arms of a seed first.

        Raises:
            UsageError: A name, number or combination that cannot be; the message says which arm.
        """
        found: dict[str, Item] = {}
        for seed, data, model in product(self.seeds, self.data, self.model):
            for arm, own in self.strategies.items():
                for budget in own.budgets or self.budgets:
                    item = self._item(arm, budget=budget, seed=seed, data=data, model=model)
                    if item.name in found:
                        other = found[item.name]
                        if other == item:
                            raise ArmError(arm, f"{item.name} is asked for twice.")
                        raise ArmError(
                            arm,
                            f"two runs would be called {item.name!r}, for {arm!r} on {data} and "
                            f"{other.arm!r} on {other.request.data}: a name keeps letters, digits "
                            "and .+-_ alone. Choose another one (for a folder, a link).",
                        )
                    found[item.name] = item
        if len(found) > ALL:
            raise UsageError(f"a benchmark of {len(found):,} runs: at most {ALL:,} are planned.")
        return found

    def _item(self, arm: str, **at: Any) -> Item:
        own = self.strategies[arm]
        many = {
            "data": len(self.data) > 1,
            "model": len(self.model) > 1,
            "budget": len(own.budgets or self.budgets) > 1,
        }
        words = [arm, *(str(at[key]) for key, several in many.items() if several)]
        name = "-".join([*(_plain(word) for word in words), f"s{at['seed']}"])
        options: Mapping[str, Any] = self.options.model_dump() | ({"lr": own.lr} if own.lr else {})
        try:
            check_name(own.strategy or arm)
            request = Request(
                strategy=own.strategy or arm,
                sets=tuple(f"{key}={_text(value)}" for key, value in own.settings.items()),
                draws=self.probes.draws,
                probe_at=shares(self.probes.at),
                **at,
                **options,
            )
            check_numbers(request)
        except MaskbenchError as error:
            raise ArmError(arm, str(error)) from error
        return Item(name=name, arm=arm, request=request)


def _plain(word: str) -> str:
    """A word as part of a name."""
    return "".join(char if char.isalnum() or char in ".+-_" else "_" for char in word)


def _text(value: str | int | float | bool) -> str:
    """A setting as ``--set`` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
