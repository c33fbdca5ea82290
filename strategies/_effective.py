r"""The maths of a data curriculum: prototypes, sampling weights, effective share, temperature.

Everything that decides a draw is in float64: in float32 :math:`1 - 1/N` is rounded, so that a
uniform draw from a million images seems to show 62.9 % of them instead of 63.2 %.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import davies_bouldin_score
from torch import Tensor

UNIFORM = 1 - math.exp(-1)
"""Share of a large data set that one epoch of uniform draws with replacement shows."""
RANGE = (8, 1024)
SAMPLE = 20_000
BATCH = 4096
CONSTANT = 1e-6
COLDEST, HOTTEST = 1e-6, 1e6
PIECE = 2**16

Floats = NDArray[np.floating[Any]]


class Clusters(NamedTuple):
    """Where every image stands in its cluster.

    Args:
        distance: Float64, (images,): 0 at the cluster's nearest image, 1 at its farthest.
        clusters: How many.
        flops: What it took.
    """

    distance: Tensor
    clusters: int
    flops: int


def share(p: Tensor) -> float:
    """Expected share of distinct images in as many draws as there are images.

    Args:
        p: Float64 probabilities, (images,).
    """
    draws = len(p)
    return float(-torch.expm1(draws * torch.log1p(-p)).mean())


def probabilities(distance: Tensor, temperature: float) -> Tensor:
    """Softmax of minus the distance over the temperature, over the data set: float64, (images,)."""
    return torch.softmax(-distance.double() / temperature, dim=0)


def temperature(distance: Tensor, target: float) -> float:
    """The temperature at which the expected share of distinct images meets a target.

    The share rises with the temperature, so bisection (of its logarithm) finds it. Targets below
    or above what any temperature gives end at 1e-6 or 1e6.

    Args:
        distance: (images,), not all equal.
        target: A share above 0 and below 1.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(100):
        middle = (low + high) / 2
        found = share(probabilities(distance, math.exp(middle)))
        if abs(found - target) < 1e-10:
            break
        low, high = (middle, high) if found < target else (low, middle)
    return math.exp((low + high) / 2)


def draw(p: Tensor, generator: torch.Generator) -> Tensor:
    """As many draws with replacement as there are images, by the inverse of the summed weights.

    Args:
        p: Float64 weights, (images,); an image of weight 0 is never drawn.
        generator: Of the CPU.

    Returns:
        Long positions, (images,).
    """
    edges = p.cumsum(0)
    at = torch.rand(len(p), generator=generator, dtype=torch.float64)
    return torch.searchsorted(edges / edges[-1], at, right=True)


def normalise(values: Floats) -> Floats:
    """Z-scores per dimension, then unit length per image; what does not vary becomes 0.

    Args:
        values: (images, features), finite.
    """
    mean, scale = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    scale[scale <= CONSTANT * np.abs(values).max(0)] = np.inf
    scores: Floats = np.empty(values.shape, np.float32)
    for rows in _pieces(len(values)):
        scores[rows] = (values[rows] - mean) / scale
    length = np.linalg.norm(scores, axis=1, keepdims=True)
    np.divide(scores, length, out=scores, where=length > 0)
    return scores


def _pieces(images: int) -> list[slice]:
    """Rows to work on at a time: float64 copies of all of them would double the memory."""
    return [slice(first, first + PIECE) for first in range(0, images, PIECE)]


def cluster(values: Floats, count: int, seed: int) -> Clusters:
    """K-means, and every image's distance to its own centroid on its cluster's scale.

    Args:
        values: (images, features), normalised.
        count: Clusters; 0 for the number with the lowest Davies-Bouldin index among powers of two
            from 8 to 1024, at most a tenth of the images (tried on 20,000 images at most).
        seed: Of the k-means, not negative.
    """
    flops = 0
    if not count:
        count, flops = _best_count(values, seed)
    labels, spent = _k_means(values, count, seed)
    members = np.bincount(labels, minlength=count).clip(min=1)
    centres = np.zeros((count, values.shape[1]))
    np.add.at(centres, labels, values)
    centres /= members[:, None]
    distance = np.empty(len(values))
    for rows in _pieces(len(values)):
        distance[rows] = np.sqrt(np.square(values[rows] - centres[labels[rows]]).sum(1))
    return Clusters(torch.from_numpy(within(distance, labels)), count, flops + spent)


def within(distance: Floats, labels: NDArray[np.integer[Any]]) -> Floats:
    """Distances from 0 (the cluster's nearest) to 1 (its farthest); 0 where all are equal.

    Args:
        distance: (images,).
        labels: (images,): which cluster.
    """
    count = int(labels.max()) + 1
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, labels, distance)
    np.maximum.at(high, labels, distance)
    width = high - low
    width[~(width > CONSTANT * np.abs(high))] = np.inf
    scaled: Floats = (distance - low[labels]) / width[labels]
    return scaled


def _best_count(values: Floats, seed: int) -> tuple[int, int]:
    """The best of the counts, and the FLOPs of trying them all."""
    sample, flops = values, 0
    if len(values) > SAMPLE:
        rows = np.random.default_rng(seed).permutation(len(values))[:SAMPLE]
        sample = values[np.sort(rows)]
    scores = {}
    for count in counts(len(values)):
        labels, spent = _k_means(sample, count, seed)
        flops += spent
        several = 1 < len(np.unique(labels)) < len(sample)
        scores[count] = davies_bouldin_score(sample, labels) if several else math.inf
    return min(scores, key=scores.__getitem__), flops


def counts(images: int) -> list[int]:
    """The numbers of clusters to choose from."""
    most = max(1, min(images // 10, RANGE[1]))
    powers = [2**n for n in range(most.bit_length())]
    return [power for power in powers if power >= RANGE[0]] or powers[-1:]


def _k_means(values: Floats, count: int, seed: int) -> tuple[NDArray[np.int64], int]:
    """Labels, (images,), and FLOPs: 2 per multiply-add of the distances to all centroids."""
    batch = min(BATCH, len(values))
    recipe: Any = {"n_init": 3, "max_iter": 20}
    model = MiniBatchKMeans(count, batch_size=batch, random_state=seed, **recipe)
    labels = model.fit_predict(values).astype(np.int64)
    seen = model.n_steps_ * batch + len(values)
    return labels, 2 * seen * count * values.shape[1]
