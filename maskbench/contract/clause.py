"""What a clause is, how it fails, and what is said of it."""

from collections.abc import Callable
from dataclasses import dataclass

from maskbench.contract.subject import Subject


class Broken(Exception):  # noqa: N818 - a clause is broken, nothing else went wrong
    """A clause is not kept.

    Args:
        expected: What the contract wants, in a phrase.
        seen: What the strategy did instead.
    """

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected, self.seen = expected, seen


class Skipped(Exception):  # noqa: N818 - nothing went wrong
    """A clause that cannot be judged here, and why."""


@dataclass(frozen=True)
class Clause:
    """One promise of a strategy.

    Args:
        name: A short name, such as ``resume``.
        meaning: The promise in one line (the first of the function's text).
        test: Raises ``Broken`` when the promise is not kept, ``Skipped`` when nobody can tell.
        gate: Whether the clauses after it make no sense when it is broken.
    """

    name: str
    meaning: str
    test: Callable[[Subject], None]
    gate: bool = False

    @classmethod
    def of(cls, test: Callable[[Subject], None], *, gate: bool = False) -> "Clause":
        """A clause named after its function and explained by the function's text."""
        meaning = (test.__doc__ or "").strip().split("\n")[0].rstrip(".")
        return cls(test.__name__.replace("_", "-"), meaning, test, gate)


@dataclass(frozen=True)
class Verdict:
    """What became of one clause.

    Args:
        clause: Its name.
        meaning: Its promise in one line.
        passed: Whether it is kept (false too when it was skipped).
        expected: What was expected, if it is broken.
        seen: What was seen instead.
        skipped: Why it was not judged; empty if it was.
        error: What the strategy raised, if it did.
        seconds: How long judging took.
    """

    clause: str
    meaning: str
    passed: bool
    expected: str = ""
    seen: str = ""
    skipped: str = ""
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the clause was judged and is broken."""
        return not self.passed and not self.skipped
