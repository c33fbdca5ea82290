"""``--compile`` on a GPU: what is the same in every step is launched as three CUDA graphs.

A small model's step is limited by launching its kernels one by one. Its forward pass, its backward
pass and the optimiser's update are each recorded once and replayed from then on; the mask, the
strategy's losses and the look for numbers that are not finite stay outside, and may be any code.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from maskbench.mask import Mask
from maskbench.model import MaskedAutoencoder, Outcome
from maskbench.optim import descent

RECORDED = 64
"""Updates recorded at most: each is for gradients at certain addresses."""

PATTERNS = 1000
"""Sets of addresses that are remembered at most."""

Forward = Callable[[Tensor, Mask], Outcome]
Descend = Callable[[float], None]
Passing = Callable[..., tuple[Tensor, ...]]


def compiled(model: MaskedAutoencoder, device: torch.device) -> Forward:
    """A model's forward pass, compiled, and its backward pass with it.

    Args:
        model: What is trained.
        device: Where it is; a GPU is given graphs.
    """
    return Passes(model) if device.type == "cuda" else torch.compile(model)


def updates(optimizer: torch.optim.Optimizer, device: torch.device) -> Descend:
    """An optimiser's step at a learning rate that it is given.

    Args:
        optimizer: A fused one; its learning rates are one number.
        device: Where its parameters are; a GPU is given graphs.
    """
    return Updates(optimizer) if device.type == "cuda" else descent(optimizer)


class _Pass(nn.Module):
    """What is recorded: a pass and the parameters that get gradients by it.

    Args:
        model: Whose parameters they are.
        passing: Tensors in, tensors out.
    """

    def __init__(self, model: nn.Module, passing: Passing) -> None:
        super().__init__()
        self.model, self.passing = model, passing

    def forward(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """The pass."""
        return self.passing(*rows)


class Passes:
    """A model's forward pass, and its backward pass with it.

    The first call for so many images and hidden patches compiles, the second records, from then on
    both passes are replayed; where recording fails, the run goes on compiled, with a warning. An
    outcome is a copy and may be kept (detached); but gradients flow through it once, and before the
    next call.

    Args:
        model: What is trained.
    """

    def __init__(self, model: MaskedAutoencoder) -> None:
        self._model = model
        self._compiled = torch.compile(model.rebuild)
        self._passes: dict[tuple[torch.Size, int], Passing | None] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, images: Tensor, mask: Mask) -> Outcome:
        """The outcome of a pass, as of the model itself.

        Args:
            images: Normalised floats, (images, 3, side, side).
            mask: What is hidden.
        """
        positions = mask.visible_positions, mask.hidden_positions
        rows = (images, *(each.contiguous() for each in positions))  # as they will be recorded
        key = images.shape, rows[2].shape[1]
        with _autocast_without_cache():
            if key not in self._passes:
                self._passes[key] = None
                return Outcome.of(self._compiled(*rows), mask)
            passing = self._passes[key] or self._record(rows)
            self._passes[key] = passing
            return Outcome.of((tensor.clone() for tensor in passing(*rows)), mask)

    def _record(self, rows: tuple[Tensor, ...]) -> Passing:
        told = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if told is not None:  # a recording has its own stream: gradients wait for it, and rightly
            told(enabled=False)
        passing = _Pass(self._model, self._compiled)
        own = tuple(each.clone() for each in rows)
        try:
            with _stream_kept():
                torch.cuda.make_graphed_callables(passing, own, pool=self._pool)
        except RuntimeError as error:  # no memory, or a pass that cannot be recorded
            _warn("passes", error)
            return self._compiled
        return passing


def _warn(what: str, error: RuntimeError) -> None:
    reason = str(error).partition("\n")[0]
    warnings.warn(
        f"{what} are not recorded as CUDA graphs ({reason}): numbers are the same, steps of small "
        "models take longer",
        RuntimeWarning,
        stacklevel=2,
    )


def _stream_kept() -> AbstractContextManager[object]:
    """The current stream stays so, also where a recording fails (not before torch 2.15)."""
    if not torch.cuda.is_available():
        return nullcontext()
    return torch.cuda.stream(torch.cuda.current_stream())


def _autocast_without_cache() -> torch.autocast:
    """As it is around, but for casts of weights, which a graph has to do itself."""
    kept = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    return torch.autocast("cuda", enabled=kept[0], dtype=kept[1], cache_enabled=False)


class Updates:
    """The optimiser's step, recorded where gradients come to lie at the same addresses again.

    Args:
        optimizer: A fused one; its learning rates are one number.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer, self._plain = optimizer, descent(optimizer)
        self._rate = torch.zeros((), device=optimizer.param_groups[0]["params"][0].device)
        self._seen = Counter[tuple[int, ...]]()
        self._graphs: dict[tuple[int, ...], torch.cuda.CUDAGraph] = {}
        self._most = RECORDED

    def __call__(self, rate: float) -> None:
        """One step.

        Args:
            rate: The learning rate.
        """
        where = self._addresses()
        if where in self._graphs:
            self._rate.fill_(rate)
            self._graphs[where].replay()
            return
        if len(self._graphs) < self._most:
            self._seen[where] += 1
            if self._seen[where] > 1:
                self._record(where)
            if len(self._seen) > PATTERNS:
                self._seen.clear()
        self._plain(rate)

    def _addresses(self) -> tuple[int, ...]:
        """Of gradients, and of the sign that there is a bad one."""
        groups = self._optimizer.param_groups
        found = [p.grad for group in groups for p in group["params"]]
        found.append(getattr(self._optimizer, "found_inf", None))
        return tuple(0 if tensor is None else tensor.data_ptr() for tensor in found)

    def _record(self, where: tuple[int, ...]) -> None:
        """Nothing is updated by it."""
        groups = self._optimizer.param_groups
        kept = [dict(group) for group in groups]
        for group in groups:
            group |= {"lr": self._rate, "capturable": True}
        try:
            graph = torch.cuda.CUDAGraph()
            with _stream_kept(), torch.cuda.graph(graph):
                self._optimizer.step()
            self._graphs[where] = graph
        except RuntimeError as error:
            _warn("updates", error)
            self._most = 0
        for group, before in zip(groups, kept, strict=True):
            group.update(before)
