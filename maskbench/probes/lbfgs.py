"""L-BFGS for many softmax regressions at once, each at its own pace.

The method is Nocedal and Wright's (Numerical Optimization, 2nd ed., algorithms 7.4 and 7.5) with
two changes that the problem invites. Logits are linear in the weights, so that a line search needs
no product with the data, only an exponential per logit. And the recursion starts not from one
curvature but from that of each dimension, in coordinates where the dimensions are uncorrelated: a
fifth of the iterations on an encoder's features.
"""

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

HISTORY = 10
_TRIALS = 30
_FLAT = 0.9  # a step ends where the slope has shrunk to this: strong Wolfe's second condition
_NOISE = 1e-14  # what rounding may add to a mean loss
_TINY = torch.finfo(torch.float64).tiny


@dataclass
class Problems:
    """Softmax regressions on their way: the data, where they are, and what they remember.

    A problem's objective is the sum of share * loss over its rows + the sum of penalty *
    weights^2 / 2. All in float64.

    Args:
        rows: (problems, n, r).
        labels: (problems, 1, n).
        share: What a row weighs, (problems, 1, n), of sum one.
        penalty: Of each dimension, (problems, 1, r).
        spectrum: Second moment of each dimension, (problems, 1, r); those between them should be
            near zero.
        reach: What a dimension's gradient counts in ``steepness``, (problems, 1, r).
        logits: Before the first step, (problems, classes, n): zero, or minus infinity for classes
            that a problem lacks. Changed in place.
        freedom: Classes that a problem has, less one, (problems, 1, 1).
    """

    rows: Tensor
    labels: Tensor
    share: Tensor
    penalty: Tensor
    spectrum: Tensor
    reach: Tensor
    logits: Tensor
    freedom: Tensor
    weights: Tensor = field(init=False)
    gradient: Tensor = field(init=False)
    value: Tensor = field(init=False)
    spread: Tensor = field(init=False)
    past: list[tuple[Tensor, Tensor]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        count, classes, _ = self.logits.shape
        self.weights = self.rows.new_zeros(count, classes, self.rows.shape[2])
        chances, total = _softmax(self.logits.clone())
        self.value = self._mean(total) - self._labelled(self.logits)
        self._look(chances)

    def steepness(self) -> Tensor:
        """Length of each gradient, (problems,)."""
        return (self.gradient * self.reach).square().sum((1, 2)).sqrt()

    def keep(self, which: Tensor) -> None:
        """Forget all problems but these positions, (fewer problems,)."""
        for entry in fields(self):
            if entry.name != "past":
                setattr(self, entry.name, getattr(self, entry.name)[which])
        self.past = [(step[which], change[which]) for step, change in self.past]

    def step(self) -> Tensor:
        """One iteration of each.

        Returns:
            Which have moved, (problems,); the others can get no lower in this precision.
        """
        direction = self._direction()
        length, chances = self._search(direction)
        step = length * direction
        before = self.gradient
        self.weights = self.weights + step
        self._look(chances)
        change = self.gradient - before
        product = _dot(step, change)
        unit = product.rsqrt().where(product > 0, 0)  # zero: nothing learnt from this step
        self.past = [*self.past, (step.mul_(unit), change.mul_(unit))][-HISTORY:]
        return length[:, 0, 0] > 0

    def _look(self, chances: Tensor) -> None:
        """Gradient and mean curvature of the loss; the probabilities are used up."""
        sure = (chances * chances).sum(1, keepdim=True)
        self.spread = self._mean(1 - sure) / self.freedom
        wrong = chances.scatter_add_(1, self.labels, -torch.ones_like(self.share))
        self.gradient = wrong.mul_(self.share) @ self.rows + self.penalty * self.weights

    def _direction(self) -> Tensor:
        """Minus the gradient times the estimated inverse Hessian, (problems, classes, r)."""
        scale = 1 / (self.penalty + self.spread * self.spectrum + _TINY)
        found = -self.gradient
        parts = []
        for step, change in reversed(self.past):
            parts.append(_dot(step, found))
            found.addcmul_(parts[-1], change, value=-1)
        found *= scale
        if self.past:
            _, change = self.past[-1]
            size = _dot(change, scale * change)
            found *= size.reciprocal().where(size > 0, 1)
        for step, change in self.past:
            found.addcmul_(parts.pop() - _dot(change, found), step)
        return found

    def _search(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Go along a direction to where the slope is less and the objective is no higher.

        Secants on the slope inside a bracket: the objective is convex, so a slope's sign says
        which way to go. Logits and values become those of the place reached.

        Returns:
            Steps' lengths, (problems, 1, 1), zero where there is no such place; probabilities.
        """
        slopes = direction @ self.rows.mT
        bend = _dot(direction, self.penalty * direction)
        slant = _dot(direction, self.penalty * self.weights) - self._labelled(slopes)
        still = _dot(self.weights, self.penalty * self.weights) / 2 - self._labelled(self.logits)
        first = _dot(direction, self.gradient)
        length = torch.ones_like(first)
        bracket = _Bracket(first)
        for _ in range(_TRIALS):
            chances, total = _softmax(torch.addcmul(self.logits, length, slopes))
            value = self._mean(total) + still + length * (slant + length * bend / 2)
            slope = self._mean((chances * slopes).sum(1, keepdim=True)) + slant + length * bend
            good = (slope.abs() <= _FLAT * first.abs()) & (value <= self.value + _NOISE)
            if good.all():
                break
            length = torch.where(good, length, bracket.narrowed(length, slope))
        length = torch.where(good, length, 0)
        self.logits.addcmul_(length, slopes)
        self.value = torch.where(good, value, self.value)
        return length, chances

    def _mean(self, of_rows: Tensor) -> Tensor:
        """Weighted mean over rows: (problems, 1, n) to (problems, 1, 1)."""
        return (of_rows * self.share).sum(2, keepdim=True)

    def _labelled(self, of_classes: Tensor) -> Tensor:
        """Weighted mean of what each row's own class has, (problems, 1, 1)."""
        return self._mean(of_classes.gather(1, self.labels))


class _Bracket:
    """Where the slope changes its sign: between ``low`` and ``high``, (problems, 1, 1) each."""

    def __init__(self, slope: Tensor) -> None:
        self.first = self.below = slope
        self.above = torch.full_like(slope, torch.nan)
        self.low = torch.zeros_like(slope)
        self.high = torch.full_like(slope, torch.inf)

    def narrowed(self, length: Tensor, slope: Tensor) -> Tensor:
        """The length to try after one and its slope: a secant's, kept well inside."""
        short = slope < 0
        self.low, self.high = length.where(short, self.low), self.high.where(short, length)
        self.below, self.above = slope.where(short, self.below), self.above.where(short, slope)
        further = (self.first / (self.first - slope)).where(slope > self.first, 10).clamp(2, 10)
        inside = (self.below / (self.below - self.above)).clamp(0.1, 0.9)
        between = self.low + inside * (self.high - self.low)
        return torch.where(self.high.isinf(), length * further, between)


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, written over the logits, and the log of the sum of exponentials."""
    top = logits.amax(1, keepdim=True)
    chances = logits.sub_(top).exp_()
    total = chances.sum(1, keepdim=True)
    return chances.div_(total), top + total.log()


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of each problem's, (problems, 1, 1)."""
    return (one * other).sum((1, 2), keepdim=True)
