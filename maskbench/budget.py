"""Budgets: how long a run lasts, in words a user types, resolved to images and steps."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from maskbench.errors import UsageError, unknown

DEFAULT_BUDGET = "2ep"
LARGEST = 10**15
UNITS = {
    "ep": "passes over the training set",
    "step": "optimiser steps",
    "img": "images seen, with multiplicity",
}
_SCALES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_EXAMPLES = "for example 400ep, 200step or 1.5Mimg"


@dataclass(frozen=True)
class Budget:
    """An amount of one unit, as parsed.

    Args:
        amount: Exact amount; larger than 0.
        unit: One of ``UNITS``.
    """

    amount: Fraction
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read ``400ep``, ``200step``, ``1.5Mimg`` (scales k, M, G; exponents as in ``2e6img``).

        Raises:
            UsageError: Not a number, an unknown unit, not larger than zero, or part of a step.
        """
        match = re.fullmatch(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?)\s*([A-Za-z]*)\s*", text)
        if not match:
            raise UsageError(f"budget {text!r} is not an amount and a unit, {_EXAMPLES}.")
        amount, suffix = Fraction(match[1]), match[2]
        known = {
            scale + unit: (factor, unit) for scale, factor in _SCALES.items() for unit in UNITS
        }
        if suffix not in known:
            what = unknown("budget unit", suffix, UNITS) if suffix else "budget has no unit."
            raise UsageError(f"{what} Write {_EXAMPLES} (scales k, M, G).")
        factor, unit = known[suffix]
        amount *= factor
        if amount <= 0:
            raise UsageError(f"budget {text!r} must be larger than zero, {_EXAMPLES}.")
        if amount > LARGEST:
            raise UsageError(f"budget {text!r} is more than {LARGEST:,} {unit}, {_EXAMPLES}.")
        if unit in ("step", "img") and amount.denominator != 1:
            raise UsageError(f"budget {text!r} is not a whole number of {UNITS[unit]}.")
        return cls(amount, unit)

    def __str__(self) -> str:
        number = self.amount.numerator if self.amount.denominator == 1 else float(self.amount)
        return f"{number}{self.unit}"


@dataclass(frozen=True)
class Plan:
    """A budget resolved for one data set and batch size.

    Args:
        images: Images that will be seen; the last batch is cut so that this is exact.
        steps: Optimiser steps.
        batch: Images per step.
        train_images: Size of the training set.
    """

    images: int
    steps: int
    batch: int
    train_images: int

    @classmethod
    def of(cls, budget: Budget, train_images: int, batch: int) -> "Plan":
        """Resolve a budget.

        Raises:
            UsageError: The batch is larger than the data set, or the budget is below one image.
        """
        if not 1 <= batch <= train_images:
            raise UsageError(
                f"a batch of {batch:,} does not fit a training set of {train_images:,} images; "
                f"choose --batch between 1 and {train_images:,}."
            )
        if budget.unit == "step":
            images = int(budget.amount) * batch
        elif budget.unit == "img":
            images = int(budget.amount)
        else:
            images = round(budget.amount * train_images)
        if images < 1:
            raise UsageError(f"budget {budget} is less than one image of {train_images:,}.")
        return cls(images, math.ceil(images / batch), batch, train_images)

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.images / self.train_images

    def progress(self, step: int) -> float:
        """Share of the budget consumed: 0 at the first step, 1 at the last and after it."""
        return min(step / max(self.steps - 1, 1), 1.0)

    def middle(self, step: int) -> float:
        """Share of the budget consumed half way through a step (for the learning rate)."""
        return min((step + 0.5) / self.steps, 1.0)

    def __str__(self) -> str:
        return f"{self.images:,} images = {self.epochs:g} epochs = {self.steps:,} steps"
