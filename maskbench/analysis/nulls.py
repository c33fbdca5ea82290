r"""Three nulls, three questions, each in closed form for metrics that are linear in the mask.

* **uniform**: every choice of :math:`n_1` patches is as likely. Is it random masking?
  Mean :math:`n_1 \bar w + c`, variance :math:`\frac{n_1 n_0}{L - 1} \mathrm{var}(w)` (sampling
  without replacement, Cochran, Sampling Techniques, ch. 2).
* **torus**: the mask itself, mirrored and shifted round the frame at random. Does its place matter,
  given its shape? The mean is the uniform one; the variance over all shifts is
  :math:`L^{-2} \sum_{k \ne 0} |\hat m_k|^2 |\hat w_k|^2` (Parseval), averaged over the mirrors.
* **shuffle**: the mask of one image on the saliency of another. Does it look at the image? Mean and
  variance of :math:`\sum_i A_{i \pi(i)}` over permutations (Hoeffding, Ann. Math. Stat. 1951);
  with :math:`A_{ij} = m_i \cdot w_j + c_j` the doubly centred sum of squares is a product of two
  scatter matrices of the patches.

So no draw is needed, and a p-value is not bounded below by the number of draws. p-values take the
mean over images as normal, which it is within 1 % from some tens of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from maskbench.analysis.agreement import Bools, Floats, Functional, power, scatter

LEAST = 1e-12
"""Below this share of the weights' scale, a deviation is rounding: nothing can be tested."""
SPREAD = 1.959963984540054


@dataclass(frozen=True)
class Null:
    """What the mean over images would be.

    Args:
        mean: Expected.
        deviation: Its standard deviation; 0 where it could be nothing else.
    """

    mean: float
    deviation: float

    @property
    def band(self) -> tuple[float, float]:
        """Where 95 % of the means lie."""
        return self.mean - SPREAD * self.deviation, self.mean + SPREAD * self.deviation

    def p(self, found: float) -> float | None:
        """Two-sided p-value; None where the null allows one value only."""
        if not self.deviation:
            return None
        return float(2 * scipy.stats.norm.sf(abs(found - self.mean) / self.deviation))


def uniform(metric: Functional, hidden: int) -> Null:
    """Of uniformly random masks.

    Args:
        metric: On given saliency maps.
        hidden: Hidden patches of every mask.
    """
    patches = metric.weights.shape[1]
    mean = hidden * metric.weights.mean(axis=1) + metric.offset
    factor = hidden * (patches - hidden) / (patches - 1) if patches > 1 else 0.0
    return _null(float(mean.mean()), float(factor * metric.weights.var(axis=1).sum()), metric)


def torus(metric: Functional, masks: Bools, rows: int, spectrum: Floats | None = None) -> Null:
    """Of the same masks, each mirrored and shifted round the frame at random.

    Args:
        metric: On given saliency maps.
        masks: (images, patches).
        rows: Patch rows.
        spectrum: Of the masks, where it is known: ``agreement.power``.
    """
    patches = masks.shape[1]
    spectrum = power(masks, rows) if spectrum is None else spectrum
    mirrored = spectrum[:, -np.arange(rows)]  # both mirrors together change none
    product = (spectrum + mirrored) / 2 * metric.power(rows)
    product[:, 0, 0] = 0
    mean = masks.sum(axis=1) * metric.weights.mean(axis=1) + metric.offset
    return _null(float(mean.mean()), float(product.sum()) / patches**2, metric)


def shuffle(metric: Functional, masks: Bools, scattered: Floats | None = None) -> Null:
    """Of the same masks on each other's images.

    Args:
        metric: On given saliency maps.
        masks: (images, patches).
        scattered: Of the masks, where it is known: ``agreement.scatter``.
    """
    count = len(masks)
    mean = float((masks @ metric.weights.mean(axis=0)).mean() + metric.offset.mean())
    if count < 2:
        return Null(mean, 0.0)
    own = scatter(masks) if scattered is None else scattered
    total = float((own * metric.scatter).sum())
    return _null(mean, total / (count - 1), metric)


def adjusted(p: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's adjustment of the p-values that are there (JRSS B 1995)."""
    known = [value for value in p if value is not None]
    found = iter(scipy.stats.false_discovery_control(known, method="bh").tolist() if known else [])
    return [None if value is None else float(next(found)) for value in p]


def _null(mean: float, variance: float, metric: Functional) -> Null:
    """Of the mean over images, from the variance of their sum."""
    count = len(metric.weights)
    deviation = float(np.sqrt(max(variance, 0.0))) / count
    scale = float(np.abs(metric.weights).max(initial=0.0))
    return Null(mean, deviation if deviation > LEAST * scale else 0.0)
