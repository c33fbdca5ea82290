"""How much of its budget a run has consumed, and whether there is a next step.

Every schedule follows ``Turn.progress``, so that each strategy ends fully decayed whatever its
budget counts. What was consumed before the first step (a strategy's setup) is paid from the budget;
the schedules run over what is left.
"""

import math
import statistics
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from maskbench import team
from maskbench.budget import Plan
from maskbench.clock import Clock

RECENT = 16
FEW = 3
"""Timed steps until which a budget of seconds trusts none that is slower than the calibration."""
AHEAD = 2
"""Steps that the host may queue on a GPU before a budget of seconds waits for it."""


@dataclass(frozen=True)
class Turn:
    """One step, before it is taken.

    Args:
        step: Steps taken before.
        images: In its batch; 0 when the budget is consumed.
        share: Share of the budget that was consumed before it.
        progress: The same, stretched to be 0 at the first and 1 at the last step.
        middle: Share consumed half way through it (for the learning rate).
        flops_left: FLOPs of the budget left after it; infinite where it counts something else.
    """

    step: int
    images: int
    share: float
    progress: float
    middle: float
    flops_left: float = math.inf


class Pace:
    """A budget of images: any step's turn is known in advance.

    Args:
        plan: What the budget buys.

    ``images`` counts what was seen, by the number of hidden patches: that may be a schedule.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps = 0
        self.images: Counter[int] = Counter()

    def turn(self, step: int) -> Turn:
        """The turn of a step; after the last one, a turn without images."""
        total, batch = self.plan.images, self.plan.batch
        seen = step * batch
        images = min(batch, total - seen)
        if images <= 0:
            return Turn(step, 0, 1.0, 1.0, 1.0)
        progress = min(seen / max(total - batch, 1), 1.0)
        return Turn(step, images, seen / total, progress, (2 * seen + images) / (2 * total))

    def seen(self, step: int) -> int:
        """Images seen before a step."""
        return min(step * self.plan.batch, self.plan.images)

    def took(self, turn: Turn, hidden: int) -> None:
        """A step is done.

        Args:
            turn: As it was.
            hidden: Patches hidden per image.
        """
        self.images[hidden] += turn.images
        self.steps = turn.step + 1

    def share(self) -> float:
        """Share of the budget consumed so far."""
        return min(sum(self.images.values()) / self.plan.images, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {"steps": self.steps, "images": dict(self.images)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run was."""
        self.steps, self.images = state["steps"], Counter(state["images"])


class LivePace(Pace):
    """A budget of something else: a turn is known when it comes, and is remembered until taken."""

    _turn: Turn | None = None

    def turn(self, step: int) -> Turn:
        """The coming step's turn.

        Raises:
            LookupError: Another step's.
        """
        if step != self.steps:
            raise LookupError(f"step {step} is not the coming one, {self.steps}")
        if self._turn is None:
            self._turn = self._next()
        return self._turn

    def seen(self, step: int) -> int:
        """Images seen before the coming step."""
        return sum(self.images.values())

    def took(self, turn: Turn, hidden: int) -> None:
        """A step is done."""
        super().took(turn, hidden)
        self._turn = None

    def _next(self) -> Turn:
        raise NotImplementedError


@dataclass(frozen=True)
class Prices:
    """What a run's FLOPs are, in closed form.

    Args:
        hidden: Share of the budget to the number of hidden patches.
        image: Number of hidden patches to FLOPs of one image's step.
        beside: FLOPs spent beside the steps so far.
    """

    hidden: Callable[[float], int]
    image: Callable[[int], int]
    beside: Callable[[], int]


class FlopPace(LivePace):
    """A budget of FLOPs; the last batch is cut, so that it is met to within one image.

    It is never exceeded by a step's own FLOPs. What a strategy spends beside the steps (a look at
    the whole data set) is nobody's to know before: it should stay within ``Turn.flops_left``.
    Progress never falls, whatever a schedule does to the price, and is 1 at the last step.

    Args:
        plan: What the budget is expected to buy.
        prices: In closed form.
    """

    def __init__(self, plan: Plan, prices: Prices) -> None:
        super().__init__(plan)
        self._prices = prices
        self._total = int(plan.budget.amount)
        self._start = prices.beside()
        self._progress = 0.0

    def flops(self) -> int:
        """FLOPs consumed so far."""
        seen = sum(self._prices.image(hidden) * n for hidden, n in self.images.items())
        return seen + self._prices.beside()

    def share(self) -> float:
        """Share of the budget consumed so far."""
        return min((self.flops() - self._start) / max(self._total - self._start, 1), 1.0)

    def _next(self) -> Turn:
        consumed, total = self.flops() - self._start, self._total - self._start
        share = min(consumed / total, 1.0)
        image = self._prices.image(self._prices.hidden(share))
        usable = consumed + max(total - consumed, 0) // image * image
        step = self.plan.batch * image
        reached = min(consumed / (usable - step), 1.0) if usable > step else float(self.steps > 0)
        self._progress = max(self._progress, reached)
        images, left, image = self._fitting(total - consumed)
        last = self._prices.image(self._prices.hidden(1.0))
        if self.steps and (images < self.plan.batch or left < last):
            self._progress = 1.0
            images, left, image = self._fitting(total - consumed)
        if images <= 0:
            return Turn(self.steps, 0, 1.0, 1.0, 1.0, 0)
        middle = min((2 * consumed + images * image) / (2 * usable), 1.0)
        return Turn(self.steps, images, share, self._progress, middle, left)

    def _fitting(self, left: int) -> tuple[int, int, int]:
        """Images of a batch now, FLOPs left after it, and FLOPs of one of its images."""
        image = self._prices.image(self._prices.hidden(self._progress))
        images = min(self.plan.batch, max(left, 0) // image)
        return images, left - images * image, image

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {**super().state_dict(), "start": self._start, "progress": self._progress}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run was."""
        super().load_state_dict(state)
        self._start, self._progress, self._turn = state["start"], state["progress"], None


class TimePace(LivePace):
    """A budget of seconds on the run's clock; a step begins only if it should end in time.

    Args:
        plan: What the budget is expected to buy.
        clock: The run's.
        step_seconds: How long a step should take. The first ones may be slow (compilation, a cold
            cache): until three have been timed they do not make a step longer than this.
        device: On a GPU the host is kept from running ahead, or it would not know the time.
    """

    def __init__(self, plan: Plan, clock: Clock, step_seconds: float, device: torch.device) -> None:
        super().__init__(plan)
        self._clock, self._device = clock, device
        self._total = float(plan.budget.amount)
        self._start = clock.seconds
        self._expected = step_seconds
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._last = self._start
        self._progress = 0.0
        self._queued: deque[Any] = deque()

    def share(self) -> float:
        """Share of the budget consumed so far."""
        return min((self._clock.seconds - self._start) / self._whole(), 1.0)

    def _whole(self) -> float:
        return max(self._total - self._start, 1e-9)

    def _step(self) -> float:
        """Seconds that the coming step should take."""
        if len(self._recent) < FEW:
            return min(statistics.median([self._expected, *self._recent]), self._expected)
        return statistics.median(self._recent)

    def _next(self) -> Turn:
        consumed, whole = self._clock.seconds - self._start, self._whole()
        step = self._step()
        if self.steps and consumed + step > whole:
            return Turn(self.steps, 0, 1.0, 1.0, 1.0)
        if self.steps:
            reached = min(consumed / max(whole - step, 1e-9), 1.0)
            self._progress = max(self._progress, reached)
        middle = min((consumed + step / 2) / whole, 1.0)
        share = min(consumed / whole, 1.0)
        return Turn(self.steps, self.plan.batch, share, self._progress, middle)

    def turn(self, step: int) -> Turn:
        """The coming step's turn, by the clock of the first process."""
        if self._turn is None and step == self.steps:
            mine = self._next()
            told = (mine.images, mine.share, mine.progress, mine.middle)
            images, share, self._progress, middle = team.of_first(told)
            self._turn = Turn(step, int(images), share, self._progress, middle)
        return super().turn(step)

    def took(self, turn: Turn, hidden: int) -> None:
        """A step is done, or on a GPU: queued."""
        super().took(turn, hidden)
        if self._device.type == "cuda":
            event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._queued.append(event)
            if len(self._queued) > AHEAD:
                self._queued.popleft().synchronize()
        now = self._clock.seconds
        self._recent.append(now - self._last)
        self._last = now

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside its clock."""
        own = {"start": self._start, "recent": list(self._recent), "progress": self._progress}
        return {**super().state_dict(), **own, "expected": self._expected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run was; the clock must have been restored before."""
        super().load_state_dict(state)
        self._start, self._progress = state["start"], state["progress"]
        self._expected = state["expected"]
        self._recent = deque(state["recent"], maxlen=RECENT)
        self._last, self._turn = self._clock.seconds, None
