r"""Do masks hide what is salient? Metrics of fixation prediction; fixated is what is hidden.

With the number of hidden patches :math:`n_1` of :math:`L` fixed, every metric is *linear* in an
image's mask :math:`m`: :math:`T = \sum_l m_l w_l + c`, where :math:`w` and :math:`c` depend on the
image's saliency map alone. So one product gives it for all images, and its nulls are exact
(``maskbench.analysis.nulls``). Definitions: AUC as the normalised Mann-Whitney statistic (Judd et
al., ICCV 2009, with all visible patches as negatives and ties counted one half), NSS (Peters et
al., 2005), CC, SIM and KL as in Bylinskii et al., arXiv 1604.03605; shuffled AUC after Zhang et
al., JoV 2008.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EPSILON = 2.2e-16
"""Added to a saliency share before its logarithm is taken (as the MIT benchmark does)."""
FLAT = 1e-9
"""A map whose deviation is below this share of its largest value is constant."""
MEANS = {
    "auc": "chance that a hidden patch is more salient than a visible one; 0.5: no relation",
    "sauc": "the same against patches that other images' masks hide: position counts for nothing",
    "gap": "AUC on the own image minus AUC on other images: what the content adds",
    "nss": "mean standardised saliency of hidden patches",
    "contrast": "mean standardised saliency, hidden minus visible patches",
    "cc": "correlation of mask and saliency",
    "share": "share of the saliency that is hidden",
    "lift": "that share over the share of patches that is hidden",
    "sim": "overlap of the saliency with the mask as a map",
    "kl": "divergence of the saliency from the mask as a map, nats",
    "coverage": "share of the object's (contour's) patches that is hidden",
}
"""Every metric in words."""
NEUTRAL = {"auc": 0.5, "sauc": 0.5, "gap": 0.0, "nss": 0.0, "contrast": 0.0, "cc": 0.0, "lift": 1.0}
"""Values without any relation, where they do not depend on the image."""


@dataclass(frozen=True)
class Source:
    """One kind of saliency map of a set of images.

    Args:
        name: Such as ``edges``.
        maps: (images, patches), not negative: mean over each patch's pixels; rows of images that
            have none hold anything.
        known: (images,): which images have a map.
        tokens: (images, patches), the patches that count as object or contour; None where the map
            has no such thing.
    """

    name: str
    maps: Floats
    known: Bools
    tokens: Bools | None = None

    @property
    def usable(self) -> Bools:
        """(images,): images that have a map which is not constant."""
        spread = self.maps.std(axis=1) > FLAT * np.abs(self.maps).max(axis=1)
        usable: Bools = self.known & spread & np.isfinite(self.maps).all(axis=1)
        return usable


@dataclass(frozen=True)
class Functional:
    """A metric of given saliency maps: ``mask . weights + offset`` for every image.

    Args:
        weights: (images, patches).
        offset: (images,).
    """

    weights: Floats
    offset: Floats

    def of(self, masks: Bools) -> Floats:
        """The metric of every image: (images, patches) to (images,)."""
        found: Floats = np.einsum("il,il->i", masks, self.weights) + self.offset
        return found

    @cached_property
    def scatter(self) -> Floats:
        """Sums of squares and products of the patches' weights around their means: (L, L)."""
        return scatter(self.weights)

    def power(self, rows: int) -> Floats:
        """Squared moduli of the weights' Fourier transform: (images, rows, columns)."""
        if rows not in self._powers:
            self._powers[rows] = power(self.weights, rows)
        return self._powers[rows]

    @cached_property
    def _powers(self) -> dict[int, Floats]:
        return {}


def scatter(values: Floats | Bools) -> Floats:
    """Sums of squares and products of the columns around their means: (L, L)."""
    centred = values - values.mean(axis=0)
    found: Floats = centred.T @ centred
    return found


def power(values: Floats | Bools, rows: int) -> Floats:
    """Squared moduli of the Fourier transform on a grid: (images, rows, columns)."""
    grid = values.reshape(len(values), rows, -1)
    found: Floats = np.abs(np.fft.fft2(grid)) ** 2
    return found


def standardised(maps: Floats) -> Floats:
    """Maps with mean 0 and (population) deviation 1 in every image."""
    centred = maps - maps.mean(axis=1, keepdims=True)
    deviation: Floats = centred / maps.std(axis=1, keepdims=True)
    return deviation


def functionals(maps: Floats, hidden: int) -> Mapping[str, Functional]:
    """Every metric that needs only the saliency maps.

    Args:
        maps: (images, patches), not negative and not constant in any image.
        hidden: Hidden patches of every mask (n1).

    Returns:
        ``auc``, ``gap``, ``nss``, ``contrast``, ``cc``, ``share``, ``lift``, ``sim`` and ``kl``.
        NSS, contrast and CC tell the same in other units: CC = NSS sqrt(n1 / n0) and contrast =
        NSS L / n0; so do share and lift.
    """
    count, patches = maps.shape
    visible = patches - hidden
    none = np.zeros(count)
    z = standardised(maps)
    p = maps / maps.sum(axis=1, keepdims=True)
    ranks = scipy.stats.rankdata(maps, axis=1) / (hidden * visible)
    auc = Functional(ranks, np.full(count, -(hidden + 1) / (2 * visible)))
    bits = -np.log(p + EPSILON) - np.log(hidden)
    return {
        "auc": auc,
        "gap": against_others(auc),
        "nss": Functional(z / hidden, none),
        "contrast": Functional(z * patches / (hidden * visible), none),
        "cc": Functional(z / np.sqrt(hidden * visible), none),
        "share": Functional(p, none),
        "lift": Functional(p * patches / hidden, none),
        "sim": Functional(np.minimum(p, 1 / hidden), none),
        "kl": Functional(bits / hidden, none),
    }


def against_others(own: Functional) -> Functional:
    """A metric on the own image minus its mean on all other images; 0 for one image."""
    count = len(own.weights)
    if count == 1:
        return Functional(np.zeros_like(own.weights), np.zeros(1))
    share = count / (count - 1)  # x - (sum - x) / (n - 1) = n / (n - 1) (x - mean)
    return Functional(
        share * (own.weights - own.weights.mean(axis=0)), share * (own.offset - own.offset.mean())
    )


def coverage(tokens: Bools) -> tuple[Functional, Bools]:
    """Share of an image's object (or contour) patches that is hidden.

    Args:
        tokens: (images, patches), True on the object.

    Returns:
        The metric of the images that have some such patches, but not only such, and which they
        are, (images,).
    """
    count = tokens.sum(axis=1)
    some = (count > 0) & (count < tokens.shape[1])
    weights = tokens[some] / count[some, None]
    return Functional(weights, np.zeros(len(weights))), some


def shuffled_auc(maps: Floats, masks: Bools) -> Functional:
    """Shuffled AUC, as weights for these masks: negatives are what *other* images' masks hide.

    Args:
        maps: (images, patches).
        masks: (images, patches); at least two images.

    Returns:
        A metric whose value for an image is the chance that a patch its mask hides is more salient
        than a patch that another image's mask hides, ties one half.
    """
    count, patches = maps.shape
    others = (masks.sum(axis=0) - masks).astype(np.float64)
    order = np.argsort(maps, axis=1, kind="stable")
    value = np.take_along_axis(maps, order, axis=1)
    running = np.cumsum(np.take_along_axis(others, order, axis=1), axis=1)
    before = np.concatenate([np.zeros((count, 1)), running], axis=1)
    place = np.broadcast_to(np.arange(patches), maps.shape)
    new = np.concatenate([np.ones((count, 1), bool), value[:, 1:] != value[:, :-1]], axis=1)
    last = np.concatenate([new[:, 1:], np.ones((count, 1), bool)], axis=1)
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    final = np.where(last, place, patches)[:, ::-1]
    final = np.minimum.accumulate(final, axis=1)[:, ::-1]
    low = np.take_along_axis(before, first, axis=1)
    high = np.take_along_axis(before, final + 1, axis=1)
    below = np.empty_like(low)
    np.put_along_axis(below, order, (low + high) / 2, axis=1)
    hidden = masks.sum(axis=1, keepdims=True)
    return Functional(below / (others.sum(axis=1, keepdims=True) * hidden), np.zeros(count))
