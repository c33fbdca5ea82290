"""What scores of pretraining seeds can tell: pure functions on NumPy arrays, no torch.

The unit is a pretraining seed; few-shot draws and data sets are crossed within it, so they are
averaged (or resampled) with it, never counted as repetitions. Sources and formulas:
``docs/statistics.md``.
"""

from maskbench.statistics.over import Aggregate, aggregate, letters, normalised
from maskbench.statistics.paired import (
    MARGIN,
    Contrast,
    benjamini_hochberg,
    contrast,
    finding,
    holm,
)
from maskbench.statistics.scores import (
    CONFIDENCE,
    LEVEL,
    POWER,
    Array,
    detectable,
    effect_size,
    equivalence,
    half_width,
    sign_flip,
)
from maskbench.statistics.tiers import FOR_CLAIM, FOR_EFFECT, FOR_INTERVAL, FOR_TEST, Tier, tier

__all__ = [
    "CONFIDENCE", "FOR_CLAIM", "FOR_EFFECT", "FOR_INTERVAL", "FOR_TEST", "LEVEL", "MARGIN", "POWER",
    "Aggregate", "Array", "Contrast", "Tier", "aggregate", "benjamini_hochberg", "contrast",
    "detectable", "effect_size", "equivalence", "finding", "half_width", "holm", "letters",
    "normalised", "sign_flip", "tier",
]  # fmt: skip
