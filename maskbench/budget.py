"""Budgets: how long a run lasts, in words a user types; and the plan that comes of one."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from maskbench.errors import UsageError, unknown

Kind = Literal["images", "flops", "seconds"]

DEFAULT_BUDGET = "2ep"
UNITS = {
    "ep": "passes over the training set",
    "step": "optimiser steps",
    "img": "images seen, with multiplicity",
    "flop": "floating-point operations (2 per multiply-add) of everything that trains",
    "h": "hours on the run's own clock",
    "min": "minutes on the run's own clock",
    "s": "seconds on the run's own clock",
}
MATCHED = {"flop": "flops", "img": "images", "s": "seconds"}
_THOUSANDS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SCALES = {**_THOUSANDS, "T": 10**12, "P": 10**15, "E": 10**18, "Z": 10**21}
_SECONDS = {"h": 3600, "min": 60, "s": 1}
_LARGEST = {"flop": 10**30, "s": 10**9}
_ALSO = {
    **dict.fromkeys(("epoch", "epochs"), "ep"),
    **dict.fromkeys(("steps", "it", "iterations", "updates"), "step"),
    **dict.fromkeys(("image", "images", "imgs"), "img"),
    **dict.fromkeys(("flops", "flop/s"), "flop"),
    **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hour", "hours", "hr"), "h"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
}
_EXAMPLES = "for example 400ep, 200step, 1.5Mimg, 350Tflop, 90min or match:RUN:flop"


def _suffixes() -> dict[str, tuple[int, str]]:
    """What may follow a number: to its factor and unit."""
    found = {unit: (factor, "s") for unit, factor in _SECONDS.items()}
    for unit in ("ep", "step", "img", "flop"):
        scales = _SCALES if unit == "flop" else _THOUSANDS
        found.update({scale + unit: (factor, unit) for scale, factor in scales.items()})
    return found


@dataclass(frozen=True)
class Budget:
    """An amount of one unit, as parsed.

    Args:
        amount: Exact amount; larger than 0.
        unit: ``ep``, ``step``, ``img``, ``flop`` or ``s`` (hours and minutes are seconds).
    """

    amount: Fraction
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read an amount and a unit: ``400ep``, ``1.5Mimg``, ``2e18flop``, ``350Tflop``, ``90min``.

        Raises:
            UsageError: Not a number, an unknown unit, not larger than zero, or part of a step.
        """
        match = re.fullmatch(
            r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?)\s*([A-Za-z/]*)\s*", text
        )
        if not match:
            raise UsageError(f"budget {text!r} is not an amount and a unit, {_EXAMPLES}.")
        factor, unit = _unit_of(match[2])
        amount = Fraction(match[1]) * factor
        if amount <= 0:
            raise UsageError(f"budget {text!r} must be larger than zero, {_EXAMPLES}.")
        largest = _LARGEST.get(unit, 10**15)
        if amount > largest:
            raise UsageError(f"budget {text!r} is more than {largest:.0e} {unit}, {_EXAMPLES}.")
        if unit in ("step", "img", "flop") and amount.denominator != 1:
            raise UsageError(f"budget {text!r} is not a whole number of {UNITS[unit]}.")
        return cls(amount, unit)

    @property
    def kind(self) -> Kind:
        """What is counted until the run stops."""
        kinds: dict[str, Kind] = {"flop": "flops", "s": "seconds"}
        return kinds.get(self.unit, "images")

    def __str__(self) -> str:
        """Exact, and readable by ``parse``: ``350Tflop``, ``90min``, ``1.5ep``."""
        amount, unit = self.amount, self.unit
        if unit == "flop":
            for scale, factor in reversed(_SCALES.items()):
                if amount >= factor and (1000 * amount / factor).denominator == 1:
                    return f"{_plain(amount / factor)}{scale}{unit}"
        if unit == "s":
            for name, factor in _SECONDS.items():
                if (amount / factor).denominator == 1:
                    return f"{_plain(amount / factor)}{name}"
        return f"{_plain(amount)}{unit}"

    def short(self) -> str:
        """For a name: at most four digits."""
        if self.unit in ("ep", "step") or len(str(self)) < 9:
            return str(self)
        if self.unit == "s":
            name, factor = next((n, f) for n, f in _SECONDS.items() if self.amount >= f or n == "s")
            return f"{float(self.amount / factor):.4g}{name}"
        scale, factor = next((s, f) for s, f in reversed(_SCALES.items()) if self.amount >= f)
        return f"{float(self.amount / factor):.4g}{scale}{self.unit}"


@dataclass(frozen=True)
class Match:
    """As much as another run used: ``match:RUN:flop``.

    Args:
        run: The other run: folder, name or the beginning of one.
        unit: ``flop``, ``img`` or ``s``.
    """

    run: str
    unit: str

    def __str__(self) -> str:
        return f"match:{self.run}:{self.unit}"


def parse(text: str) -> Budget | Match:
    """Read what ``--budget`` takes.

    Raises:
        UsageError: It cannot be read; says how to write one.
    """
    if not text.startswith("match"):
        return Budget.parse(text)
    run, colon, unit = text.removeprefix("match:").rpartition(":")
    if not (text.startswith("match:") and colon and run):
        raise UsageError(f"budget {text!r}: write match:RUN:flop (or :img, :s).")
    if unit not in MATCHED:
        raise UsageError(f"budget {text!r}: {unknown('unit to match', unit, MATCHED)}")
    return Match(run, unit)


def one_kind(texts: Sequence[str]) -> None:
    """Budgets of one benchmark must count the same thing.

    Raises:
        UsageError: They mix epochs, FLOPs and times; names the kinds and what would work.
    """
    kinds: dict[str, str] = {}
    for text in texts:
        budget = parse(text)
        kind = MATCHED[budget.unit] if isinstance(budget, Match) else budget.kind
        kinds.setdefault(kind, text)
    if len(kinds) > 1:
        mixed = " and ".join(f"{kind} ({text})" for kind, text in kinds.items())
        raise UsageError(
            f"budgets of one benchmark mix {mixed}: runs that stop at different things cannot be "
            "ranked together. Keep one kind; match:RUN:flop turns a run's cost into a budget."
        )


def _unit_of(suffix: str) -> tuple[int, str]:
    known = _suffixes()
    if suffix in known:
        return known[suffix]
    lowered = {name.lower(): name for name in known}
    meant = lowered.get(suffix.lower()) or _ALSO.get(suffix.lower())
    if not suffix:
        what = "budget has no unit."
    elif meant:
        what = f"unknown budget unit {suffix!r}. Did you mean {meant!r}?"
    else:
        what = unknown("budget unit", suffix, UNITS)
    raise UsageError(f"{what} Write {_EXAMPLES} (scales k, M, G; for flop also T, P, E).")


def _plain(amount: Fraction) -> str:
    """All decimals, so that it is read back exactly; what has no last one is rounded."""
    decimals = next((n for n in range(200) if 10**n % amount.denominator == 0), None)
    if decimals is None:
        return repr(float(amount))
    digits = str(int(amount * 10**decimals)).zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits


@dataclass(frozen=True)
class Plan:
    """What a budget buys: exact for images, expected for FLOPs and seconds.

    Args:
        budget: As parsed.
        images: Images that will be seen; a budget of images cuts the last batch to meet it.
        steps: Optimiser steps.
        batch: Images per step.
        train_images: Size of the training set.
    """

    budget: Budget
    images: int
    steps: int
    batch: int
    train_images: int

    @classmethod
    def of(cls, budget: Budget, train_images: int, batch: int) -> "Plan":
        """Resolve a budget of images, steps or epochs.

        Raises:
            UsageError: The batch is larger than the data set, or the budget is below one step.
        """
        check_batch(batch, train_images)
        if budget.unit == "step":
            images = int(budget.amount) * batch
        elif budget.unit == "img":
            images = int(budget.amount)
        else:
            images = round(budget.amount * train_images)
        if images < batch:
            fits = f", or --batch {images}" if images > 0 else ""
            raise UsageError(
                f"budget {budget} is {images:,} of {train_images:,} images, less than one step of "
                f"{batch:,}: take 1step ({batch}img){fits}."
            )
        return cls.expecting(budget, train_images, batch, images)

    @classmethod
    def expecting(cls, budget: Budget, train_images: int, batch: int, images: int) -> "Plan":
        """A plan of so many images, at least one."""
        images = max(images, 1)
        return cls(budget, images, math.ceil(images / batch), batch, train_images)

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.images / self.train_images


def check_batch(batch: int, train_images: int) -> None:
    """Refuse a batch that is no batch.

    Raises:
        UsageError: It does not fit the training set.
    """
    if not 1 <= batch <= train_images:
        raise UsageError(
            f"a batch of {batch:,} does not fit a training set of {train_images:,} images; "
            f"choose --batch between 1 and {train_images:,}."
        )
