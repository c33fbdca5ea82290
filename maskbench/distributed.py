"""Several processes as one: who has which images of a step, and numbers of the whole step.

A step's ``images`` are cut into one run of images per process. The loss of the step is the mean
over its images, so a process counts by how many of them it has: ``average`` weighs gradients so,
and a loss that is a mean over a process's own images needs nothing else, however uneven the parts
are. ``mean``, ``total`` and ``gather`` are for losses that are no such means.

Where a step has fewer images than there are processes, some have none; they are given one image for
company, whose row is dropped here and whose gradients count zero times.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from maskbench import team

T = TypeVar("T")


def share() -> tuple[int, int]:
    """This process's number, from 0, and how many there are: (0, 1) where there is one."""
    return team.rank(), team.size()


def part(images: int, of: tuple[int, int]) -> slice:
    """Which images of a step a process has; none, perhaps.

    Args:
        images: In the whole step.
        of: The process's number, and how many there are.
    """
    rank, processes = of
    return slice(images * rank // processes, images * (rank + 1) // processes)


def average(tensors: Iterable[Tensor], images: int) -> None:
    """Average tensors over the images of a step, in place and as one message.

    Args:
        tensors: Each the mean over this process's images, such as gradients of a mean loss.
        images: In the whole step.
    """
    own = share()
    parts = list(tensors)
    if own[1] == 1 or not parts:
        return
    flat = torch.cat([part.reshape(-1) for part in parts])
    flat *= _rows(images, own)
    dist.all_reduce(flat)
    flat /= images
    sizes = [part.numel() for part in parts]
    for tensor, mean in zip(parts, torch.split(flat, sizes), strict=True):
        tensor.copy_(mean.view_as(tensor))


def averages(numbers: dict[str, float], images: int, device: torch.device) -> dict[str, float]:
    """Numbers by name, the same names in all processes, averaged over the images of a step."""
    if share()[1] == 1 or not numbers:
        return numbers
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
    average([values], images)
    return dict(zip(numbers, values.tolist(), strict=True))


def total(values: Tensor, images: int) -> Tensor:
    """The sum of everything in the rows of all processes: (images here, ...) to a scalar."""
    own = share()
    if own[1] == 1:
        return values.sum()
    found: Tensor = _Total.apply(_mine(values, images, own).sum(), images)
    return found


def mean(values: Tensor, images: int) -> Tensor:
    """The mean of everything in the rows of all processes: (images here, ...) to a scalar."""
    if share()[1] == 1:
        return values.mean()
    return total(values, images) / (images * values[0].numel())


def gather(values: Tensor, images: int) -> Tensor:
    """The rows of all processes, in the step's order: (images here, ...) to (images, ...)."""
    own = share()
    if own[1] == 1:
        return values
    found: Tensor = _Gather.apply(_mine(values, images, own), images)
    return found


def once(make: Callable[[], T]) -> T:
    """What the first process makes, or raises, in all processes; the others wait for it.

    Args:
        make: Its result is pickled on its way: give tensors of the CPU.
    """
    if team.size() == 1:
        return make()
    told: list[Any] = [None, None]
    if team.first():
        try:
            told[0] = make()
        except (Exception, SystemExit) as error:
            told[1] = _portable(error)
    told = pickle.loads(team.share(pickle.dumps(told)))  # noqa: S301 - from the first process
    if told[1] is not None:
        raise told[1]
    made: T = told[0]
    return made


def _portable(error: BaseException) -> BaseException:
    """The error, or its words if it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made on the line itself
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _rows(images: int, of: tuple[int, int]) -> int:
    own = part(images, of)
    return int(own.stop - own.start)


def _mine(values: Tensor, images: int, own: tuple[int, int]) -> Tensor:
    """The rows that are a process's own: all, or none where it has an image for company."""
    rows = _rows(images, own)
    if values.ndim == 0 or len(values) != max(rows, 1):
        raise ValueError(
            f"values over the whole batch need one row per image of this process ({max(rows, 1)}), "
            f"not shape {tuple(values.shape)}"
        )
    return values[:rows]


def _pulled(gradient: Tensor, images: int) -> tuple[Tensor, slice]:
    """A number of the whole step is in every process's loss: what all of them ask of it.

    Divided by the images here, since ``average`` will multiply by them.
    """
    own = share()
    pull = (gradient * _rows(images, own)).contiguous()
    dist.all_reduce(pull)
    return pull / max(_rows(images, own), 1), part(images, own)


class _Total(torch.autograd.Function):
    """The sum of a scalar over processes."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, images: int) -> Tensor:
        """A scalar to a scalar."""
        ctx.images = images
        found = value.clone()
        dist.all_reduce(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """A scalar to a scalar."""
        return _pulled(gradients[0], ctx.images)[0], None


class _Gather(torch.autograd.Function):
    """The rows of all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, images: int) -> Tensor:
        """(images here, ...) to (images, ...)."""
        ctx.images = images
        processes = share()[1]
        filled = rows.new_zeros(-(-images // processes), *rows.shape[1:])
        filled[: len(rows)] = rows
        parts = [torch.empty_like(filled) for _ in range(processes)]
        dist.all_gather(parts, filled)
        return torch.cat([p[: _rows(images, (r, processes))] for r, p in enumerate(parts)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(images, ...) to (images here, ...)."""
        pulled, own = _pulled(gradients[0], ctx.images)
        return pulled[own], None
