"""Kinds of values in a benchmark's file, each checked where it stands."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from maskbench.budget import Match, parse
from maskbench.data.kinds import check_kind
from maskbench.errors import UsageError
from maskbench.registry import check_name
from maskbench.spec import preset, shares
from maskbench.strict import Word


def _many(given: Any) -> Any:
    """One of a kind stands for a list of one."""
    return [given] if isinstance(given, str) else given


def _counted(given: Any) -> Any:
    """A number of seeds stands for 0, 1, ..."""
    if isinstance(given, int) and not isinstance(given, bool):
        if not 1 <= given <= 1000:
            raise ValueError(f"{given} seeds: choose 1 to 1000, or list them, as in [0, 1, 2]")
        return tuple(range(given))
    return given


def _once_each(given: Any) -> Any:
    """Nothing stands twice in a list."""
    for one in given if isinstance(given, tuple) else ():
        if given.count(one) > 1:
            raise ValueError(f"{one!r} stands here twice; leave one")
    return given


def _each(check: Callable[[str], object]) -> AfterValidator:
    """Every word passes a check that says what is wrong with a usage error."""

    def checked(given: Any) -> Any:
        for word in given if isinstance(given, tuple) else (given,):
            try:
                check(word)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return given

    return AfterValidator(checked)


def _amount(budget: str) -> None:
    """Refuse what is no budget, and what would have to wait for another run.

    Raises:
        UsageError: It cannot be.
    """
    if isinstance(parse(budget), Match):
        raise UsageError(
            f"budget {budget!r}: runs of a benchmark may run in any order, so none can wait for "
            "another: write the amount, for example 350Tflop or 90min."
        )


Words = Annotated[
    tuple[Word, ...],
    BeforeValidator(_many),
    Field(min_length=1, max_length=100, strict=False),
    AfterValidator(_once_each),
]
Data = Annotated[Words, _each(check_kind)]
Models = Annotated[Words, _each(preset)]
Budgets = Annotated[Words, _each(_amount)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...],
    BeforeValidator(_counted),
    Field(min_length=1, max_length=1000, strict=False),
    AfterValidator(_once_each),
]
Strategy = Annotated[Word, _each(check_name)]
Percentages = Annotated[Word, _each(shares)]
