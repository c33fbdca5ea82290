"""A clock's hand for tests: time passes when it is told to."""


class Hand:
    """A clock's hand that moves when it is told."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at
