"""What long work tells whoever watches; the library knows no terminal."""

from typing import Protocol


class Progress(Protocol):
    """Somebody who wants to know how far the work is (the CLI, a notebook, nobody)."""

    def start(self, label: str, total: int, unit: str) -> None:
        """A stage begins: ``total`` units of work."""

    def advance(self, done: int, **values: float) -> None:
        """``done`` units are finished so far; values are shown beside the bar."""

    def finish(self) -> None:
        """The stage is over."""

    def message(self, text: str) -> None:
        """One line worth reading."""

    def note(self, text: str) -> None:
        """One line that must be said, whether or not anybody watches a bar."""


class Silent:
    """Nobody watches."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Ignore."""

    def advance(self, done: int, **values: float) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
