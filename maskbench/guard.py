"""Numbers that are not finite never reach the weights.

On a CPU, and wherever steps may be skipped, every step is looked at before the update. On a GPU
that would make the host wait for the device in each of them: there the optimiser itself is told to
do nothing from the first bad step on (``found_inf`` of the fused kernels), and the host looks when
it writes a line and before every checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from maskbench.errors import DivergedError, StrategyError
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.strategy import Batch, Context

NAMED = 20
"""Parameters and images named in a diagnosis, at most."""

Tell = Callable[[Mapping[str, Any]], None]


class Guard:
    """Stops a run, or skips a step, where the loss or a gradient is not finite.

    Args:
        job: The run.
        tolerated: How many steps may be skipped before the run stops.
        tell: Takes a diagnosis, when the run stops.

    ``skipped`` holds the steps that were skipped. ``clean`` says whether the strategy, too, stands
    where it stood before the first bad step.
    """

    def __init__(self, job: Job, tolerated: int = 0, tell: Tell = lambda diagnosis: None) -> None:
        self._job, self._tolerated, self._tell = job, tolerated, tell
        self._eager = job.device.type == "cpu" or tolerated > 0
        self._bad = torch.zeros((), device=job.device)
        self._first = torch.full((), -1, dtype=torch.int64, device=job.device)
        self._names: list[str] = []
        self._seen = torch.zeros(0, device=job.device)
        self.skipped: list[int] = []
        self.clean = False

    def passes(self, step: int, losses: Mapping[str, Tensor], parameters: Iterable[Any]) -> bool:
        """Whether the update may be made; False to skip the step.

        Args:
            step: Which.
            losses: Of the step, by part; averaged over processes.
            parameters: With their averaged gradients.

        Raises:
            DivergedError: A number is not finite and no more steps may be skipped.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        found = ~torch.isfinite(norm + sum(losses.values()))
        if not self._eager:
            seen = torch.stack([*(loss.float() for loss in losses.values()), norm.float()])
            fresh = self._bad == 0
            self._first = torch.where(found & fresh, step, self._first)
            self._seen = torch.where(fresh, seen, self._seen) if self._names else seen
            self._names = list(losses)
            self._bad.copy_(torch.maximum(self._bad, found.float()))  # graphs know its address
            self._job.optimizer.found_inf = self._bad  # type: ignore[attr-defined]
            return True
        if not bool(found):
            return True
        values = {name: float(value) for name, value in losses.items()}
        self._count(step, self._diagnosis(step, values, float(norm)))
        return False

    def mask(self, batch: Batch, context: Context) -> Mask:
        """The strategy's mask; any, where it has none because an image is not finite.

        Then the loss is not finite either, whatever is hidden, and ``passes`` says so in every
        process at the same step.

        Raises:
            StrategyError: As ``Job.mask``, the images being finite.
        """
        try:
            return self._job.mask(batch, context)
        except StrategyError:
            if bool(batch.images.isfinite().all()):
                raise
            return Mask.from_scores(
                batch.images.new_zeros(len(batch), context.grid.patches), context.grid
            )

    def settle(self) -> None:
        """Look now.

        Raises:
            DivergedError: A number was not finite.
        """
        if not self._eager and bool(self._bad):
            step, (*values, norm) = int(self._first), self._seen.tolist()
            losses = dict(zip(self._names, values, strict=True))
            self._stop(step, {**self._where(step), "losses": losses, "gradient_norm": norm})

    def _count(self, step: int, diagnosis: dict[str, Any]) -> None:
        if len(self.skipped) >= self._tolerated:
            self._stop(step, diagnosis)
        self.skipped.append(step)

    def _stop(self, step: int, diagnosis: dict[str, Any]) -> None:
        self._tell({**diagnosis, "skipped": self.skipped})
        self.clean = self._eager
        what = diagnosis.get("losses", {})
        bad = [f"{name} is {value}" for name, value in what.items() if not math.isfinite(value)]
        words = " and ".join(bad) or "a gradient is not finite"
        after = f", after {len(self.skipped)} skipped steps" if self.skipped else ""
        raise DivergedError(
            f"{words} at step {step} of {self._job.plan.steps:,}{after}: the weights were not "
            "touched, nonfinite.json says more. Try a smaller --lr, --precision fp32, or "
            "--on-nonfinite skip:10 to go on from here."
        )

    def _diagnosis(self, step: int, losses: dict[str, float], norm: float) -> dict[str, Any]:
        model = self._job.model
        norms: dict[str, float] = {}
        bad = []
        for name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            part = ".".join(name.split(".")[:2])
            norms[part] = math.hypot(norms.get(part, 0.0), float(parameter.grad.norm()))
            if not bool(torch.isfinite(parameter.grad).all()):
                bad.append(name)
        return {
            **self._where(step),
            "losses": losses,
            "gradient_norm": norm,
            "gradient_norms": norms,
            "not_finite": bad[:NAMED],
            "parameters_not_finite": len(bad),
        }

    def _where(self, step: int) -> dict[str, Any]:
        """The step, and the positions of its images in the training set."""
        job = self._job
        _, positions = job.feed.where(step, job.order, job.turn(step).images)
        return {"step": step, "positions": positions.tolist()}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {"skipped": list(self.skipped)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run was."""
        self.skipped = list(state["skipped"])
