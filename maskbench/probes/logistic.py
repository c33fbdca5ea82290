"""Multinomial logistic regression with an L2 penalty, many problems at once.

The objective is scikit-learn's: 1/2 ||W||^2 + C * the sum of the rows' losses, intercepts free. So
is its habit with two classes: one sigmoid, whose weights are the difference of ours, and which in
softmax is half the strength. A class without rows is left out, as if it did not exist.

A problem is some rows of a pool, such as the labelled images of a draw. It is solved in the span of
these rows, where the minimum lies (the representer theorem), in the basis in which their
coordinates are uncorrelated: no more unknowns than rows, and Hessians that are nearly diagonal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from maskbench.probes.lbfgs import HISTORY, Problems

TOLERANCE = 1e-7
"""A tenth of what is usual for scikit-learn: at C = 1,000 the usual lets 3 of 10,000 predictions
differ from the optimum's; a fifth more iterations leave none or one."""
MAX_ITERATIONS = 2000
MEMORY = 2**30
"""Bytes that problems solved side by side may take; a problem that needs more is solved alone."""
_RANK = 1e-13  # a dimension with less of the largest's second moment than this is rounding


@dataclass(frozen=True)
class Fits:
    """Solved problems, each at every strength.

    Args:
        weights: (problems, strengths, classes, D).
        intercepts: (problems, strengths, classes); minus infinity for a class without rows.
        loss: The objective, (problems, strengths).
        iterations: (problems, strengths).
        converged: Whether the gradient became small enough, (problems, strengths).
    """

    weights: Tensor
    intercepts: Tensor
    loss: Tensor
    iterations: Tensor
    converged: Tensor


def solve(
    pool: Tensor,
    labels: Tensor,
    rows: Tensor,
    classes: int,
    *,
    strengths: Tensor,
    weights: Tensor | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    memory: int = MEMORY,
) -> Fits:
    """Fit every problem at every strength.

    Args:
        pool: Features, finite, float64, (images, D).
        labels: Classes of the pool's images, (images,).
        rows: Each problem's images, (problems, n): positions in the pool.
        classes: How many classes there are.
        strengths: Scikit-learn's C, float64, (strengths,).
        weights: What each row weighs, float64, (problems, n); one if not given. Problems of fewer
            rows are filled up with any rows that weigh nothing.
        tolerance: Largest length of the gradient of the objective over C and the rows' weight;
            scikit-learn asks the same of its largest entry.
        max_iterations: A problem is given up after so many.
        memory: Bytes, about; decides how many problems are solved side by side.

    Returns:
        On the pool's device.
    """
    weights = torch.ones_like(rows, dtype=pool.dtype) if weights is None else weights
    rank = 1 + min(rows.shape[1], pool.shape[1])
    of_span = rows.shape[1] * (3 * pool.shape[1] + rank)
    of_fit = rows.shape[1] * (rank + 5 * classes) + (2 * HISTORY + 6) * rank * classes
    found = []
    for part in pieces(len(rows), 8 * (of_span + of_fit * len(strengths)), memory):
        span = _Span.of(pool[rows[part]], labels[rows[part]], weights[part])
        which = torch.arange(len(span.rows), device=pool.device).repeat_interleave(len(strengths))
        asked = strengths.repeat(len(span.rows))
        for few in pieces(len(which), 8 * of_fit, memory):
            found.append(_fit(span.at(which[few]), asked[few], classes, tolerance, max_iterations))
    shape = (len(rows), len(strengths))
    flat = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Fits(*(part.reshape(*shape, *part.shape[1:]) for part in flat))


def pieces(count: int, each: int, memory: int = MEMORY) -> Iterator[slice]:
    """Cut ``count`` things of ``each`` bytes into slices that fit into memory, one at least."""
    size = max(1, memory // max(1, each))
    return (slice(start, start + size) for start in range(0, count, size))


@dataclass(frozen=True)
class _Span:
    """Problems' rows about their mean in their principal axes, the intercept as a last dimension.

    Args:
        rows: (problems, n, r + 1).
        labels: (problems, n).
        share: What a row weighs, (problems, n), of sum one.
        total: What all rows weigh, (problems,).
        mean: (problems, D).
        basis: (problems, D, r); zero where the rows span fewer dimensions.
        moments: Mean square of every dimension, (problems, r + 1).
    """

    rows: Tensor
    labels: Tensor
    share: Tensor
    total: Tensor
    mean: Tensor
    basis: Tensor
    moments: Tensor

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, weights: Tensor) -> "_Span":
        """From features (problems, n, D); they are centred in place."""
        total = weights.sum(1)
        share = weights / total[:, None]
        mean = share[:, None] @ features
        centred = features.sub_(mean)
        weighed = centred * share.sqrt()[..., None]
        if features.shape[1] < features.shape[2]:
            moments, sides = torch.linalg.eigh(weighed @ weighed.mT)
            length = moments.clamp(min=0).sqrt()[:, None]
            basis = weighed.mT @ torch.where(_spanned(moments)[:, None], sides / length, 0)
        else:
            moments, basis = torch.linalg.eigh(weighed.mT @ weighed)
        moments = moments.where(_spanned(moments), 0)
        one = torch.ones_like(total)[:, None]
        rows = torch.cat([centred @ basis, one[..., None].expand(-1, features.shape[1], 1)], 2)
        moments = torch.cat([moments, one], 1)
        return cls(rows, labels, share, total, mean[:, 0], basis, moments)

    def at(self, which: Tensor) -> "_Span":
        """These problems, which may be the same one several times."""
        return _Span(*(getattr(self, entry.name)[which] for entry in fields(self)))


def _spanned(moments: Tensor) -> Tensor:
    """Which principal axes are more than rounding."""
    return moments > _RANK * moments.amax(1, keepdim=True)


def _fit(
    span: _Span, strengths: Tensor, classes: int, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Fit each of the problems at its own strength: the fields of ``Fits``, flat."""
    count, size, width = span.rows.shape
    seen = torch.zeros_like(span.rows[:, 0, :1]).repeat(1, classes)
    present = seen.scatter_add(1, span.labels, span.share) > 0
    several = present.sum(1)
    halved = torch.where(several == 2, strengths / 2, strengths)
    penalty = (1 / (halved * span.total))[:, None].repeat(1, width)
    penalty[:, -1] = 0
    reach = torch.ones_like(penalty)
    reach[:, -1] += span.mean.norm(dim=1)  # the intercept here is about the mean
    anyone = present.to(torch.int64).argmax(1, keepdim=True)
    problems = Problems(
        rows=span.rows,
        labels=span.labels.where(span.share > 0, anyone)[:, None],
        share=span.share[:, None],
        penalty=penalty[:, None],
        spectrum=span.moments[:, None],
        reach=reach[:, None],
        logits=span.rows.new_zeros(count, classes, size).masked_fill_(
            ~present[..., None], -torch.inf
        ),
        freedom=(several - 1).clamp(min=1)[:, None, None],
    )
    solved, value, iterations, converged = _descended(problems, tolerance, max_iterations)
    weights = solved[..., :-1] @ span.basis.mT
    about = solved[..., -1] - (weights @ span.mean[..., None])[..., 0]
    intercepts = about.masked_fill(~present, -torch.inf)
    return weights, intercepts, value * strengths * span.total, iterations, converged


def _descended(
    problems: Problems, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Step until each has a small gradient, cannot move, or has had its iterations.

    Returns:
        Weights (problems, classes, r + 1); value, iterations and convergence, (problems,).
    """
    weights, value = torch.zeros_like(problems.weights), problems.value.flatten().clone()
    active = torch.arange(len(weights), device=weights.device)
    iterations, converged = torch.zeros_like(active), torch.zeros_like(active, dtype=torch.bool)
    stuck = converged
    for iteration in range(max_iterations + 1):
        flat = ~stuck & (problems.steepness() <= tolerance)
        ended = flat | stuck | (iteration == max_iterations)
        if ended.any():
            at = active[ended]
            weights[at], value[at] = problems.weights[ended], problems.value[ended].flatten()
            iterations[at], converged[at] = iteration, flat[ended]
            rest = (~ended).nonzero()[:, 0]
            if not len(rest):
                break
            active = active[rest]
            problems.keep(rest)
        stuck = ~problems.step()
    return weights, value, iterations, converged
