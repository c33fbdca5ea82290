"""How many seeds earn which words."""

from enum import StrEnum

FOR_INTERVAL, FOR_EFFECT, FOR_TEST, FOR_CLAIM = 3, 5, 6, 8
"""Seeds from which on there is an interval, an effect size, a p-value, a verdict.

An exact two-sided sign-flip test of S seeds reaches 2 / 2^S at best: 0.0625 with five, 0.031 with
six, 0.0078 with eight, which is what Holm's first step asks of four strategies (0.0125).
"""


class Tier(StrEnum):
    """What a number of seeds may say."""

    SMOKE = "smoke"
    DRAFT = "draft"
    STANDARD = "standard"
    CLAIM = "claim"


def tier(seeds: int) -> Tier:
    """The tier of a number of seeds; two are a smoke test, as one is."""
    if seeds < FOR_INTERVAL:
        return Tier.SMOKE
    if seeds < FOR_EFFECT:
        return Tier.DRAFT
    return Tier.STANDARD if seeds < FOR_CLAIM else Tier.CLAIM
