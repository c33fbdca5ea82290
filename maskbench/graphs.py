"""``--compile`` on a GPU: what is the same in every step is launched as three CUDA graphs.

A small model's step is limited by launching its kernels one by one. Its forward pass, its backward
pass and the optimiser's update are each recorded once and replayed from then on; the mask, the
strategy's losses and the look for numbers that are not finite stay outside, and may be any code.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from maskbench.mask import Mask
from maskbench.model import MaskedAutoencoder, Outcome
from maskbench.optim import descent

RECORDED = 64
"""Updates recorded at most: each is for gradients at certain addresses."""

Forward = Callable[[Tensor, Mask], Outcome]
Descend = Callable[[float], None]
Passing = Callable[..., tuple[Tensor, ...]]
Rows = tuple[Tensor, ...]
T = TypeVar("T")


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


class Passes:
    """A model's forward pass, and its backward pass with it.

    The first call for so many images and hidden patches compiles, the second records, from then on
    both passes are replayed. An outcome is a copy and may be kept; but gradients through it have to
    be asked for before the next call.

    Args:
        model: What is trained.
    """

    def __init__(self, model: MaskedAutoencoder) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._passing: Passing = torch.compile(model.rebuild)
        self._found: dict[tuple[torch.Size, int], _Recorded | None] = {}
        self._used: set[int] = set()
        self._anchor = torch.zeros((), requires_grad=True)
        self._place = Place.of(self._parameters)

    def __call__(self, images: Tensor, mask: Mask) -> Outcome:
        """The outcome of a pass, as of the model itself.

        Args:
            images: Normalised floats, (images, 3, side, side).
            mask: What is hidden.
        """
        rows = (images, mask.visible_positions, mask.hidden_positions)
        key = images.shape, rows[2].shape[1]
        with _autocast_without_cache():
            if key not in self._found:
                self._found[key] = None
                return Outcome.of(self._watched(rows), mask)
            known = self._found[key]
            if known is None or known.used != sorted(self._used):
                known = self._found[key] = _Recorded(
                    self._passing, self._parameters, rows, self._used, self._place
                )
            return Outcome.of(_Replay.apply(self._anchor, known, rows), mask)

    def _watched(self, rows: Rows) -> tuple[Tensor, ...]:
        """A pass that is not recorded, and tells through what of it gradients flow."""
        found = self._passing(*rows)
        for i, tensor in enumerate(found):
            if tensor.requires_grad:
                tensor.register_hook(partial(self._flows, i))  # type: ignore[no-untyped-call]
        return found

    def _flows(self, output: int, gradient: Tensor) -> None:
        self._used.add(output)


class _Recorded:
    """Both passes for batches of one shape.

    Args:
        passing: The forward pass.
        parameters: Which get gradients.
        rows: A batch; the recording has its own, to which others are copied.
        used: Through which outputs gradients flow; grows where another is asked for one.
        place: Where it is recorded.
    """

    def __init__(
        self,
        passing: Passing,
        parameters: Sequence[nn.Parameter],
        rows: Rows,
        used: set[int],
        place: "Place",
    ) -> None:
        self._passing, self._parameters, self._asked = passing, parameters, used
        self._autocast = _autocast_without_cache()
        self.used = sorted(used)
        self._rows = tuple(each.clone() for each in rows)
        self._outputs, self._forward = recorded(self._pass, place)
        self._given = [torch.zeros_like(self._outputs[i]) for i in self.used]
        self._gradients, self._backward = recorded(self._pass_back, place)
        self._outputs = tuple(each.detach() for each in self._outputs)
        del self._latest

    def _pass(self) -> tuple[Tensor, ...]:
        self._latest = self._passing(*self._rows)
        return self._latest

    def _pass_back(self) -> tuple[Tensor | None, ...]:
        through = [self._latest[i] for i in self.used]
        found = torch.autograd.grad(through, self._parameters, self._given, allow_unused=True)
        return tuple(map(_laid_out, found, self._parameters))

    def forward(self, rows: Rows) -> tuple[Tensor, ...]:
        """The pass on another batch: copies of its outputs."""
        for own, each in zip(self._rows, rows, strict=True):
            own.copy_(each)
        self._forward()
        return tuple(each.clone() for each in self._outputs)

    def backward(self, flowing: Sequence[Tensor | None]) -> None:
        """Gradients of the latest pass are added to those of the parameters.

        Args:
            flowing: Of its outputs.
        """
        asked = {i for i, each in enumerate(flowing) if each is not None}
        if not asked <= set(self.used):
            self._asked |= asked
            with torch.enable_grad(), self._autocast:
                found = self._passing(*self._rows)
            torch.autograd.backward([found[i] for i in asked], [flowing[i] for i in asked])
            return
        for own, i in zip(self._given, self.used, strict=True):
            given = flowing[i]
            own.zero_() if given is None else own.copy_(given)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            if gradient is not None and parameter.grad is gradient:  # about to be overwritten
                parameter.grad = gradient.clone()
        self._backward()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad += gradient


class _Replay(torch.autograd.Function):
    """A recorded pass in a graph of gradients.

    Parameters are no inputs of it: a hundred nodes that each add a gradient take longer than the
    pass of a small model.
    """

    @staticmethod
    def forward(ctx: Any, _: Tensor, known: _Recorded, rows: Rows) -> tuple[Tensor, ...]:
        """Replay it."""
        ctx.known = known
        ctx.set_materialize_grads(False)
        return known.forward(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *flowing: Tensor | None) -> tuple[None, None, None]:
        """Replay the pass back."""
        ctx.known.backward(flowing)
        return None, None, None


@dataclass(frozen=True)
class Place:
    """Where the passes of a model are recorded.

    Args:
        pool: Memory for all of them: they are not replayed side by side.
        stream: Theirs.
        nodes: Of the parameters in every graph of gradients, as long as they are kept here. They
            belong to the stream: recording on it may not wait for one that is not recorded.
    """

    pool: Any
    stream: Any
    nodes: tuple[Any, ...]

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter]) -> "Place":
        """A new one."""
        told = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if told is not None:  # steps that are not recorded wait for the stream, and rightly
            told(enabled=False)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            views: Any = [parameter.view_as(parameter) for parameter in parameters]
            nodes = tuple(view.grad_fn.next_functions[0][0] for view in views)
        return cls(torch.cuda.graph_pool_handle(), stream, nodes)


def recorded(work: Callable[[], T], place: Place | None = None) -> tuple[T, Callable[[], None]]:
    """What work returns, which is overwritten by every replay, and how it is replayed.

    Args:
        work: Is not done while it is recorded.
        place: Where (default: anywhere).
    """
    graph = torch.cuda.CUDAGraph()
    where = {} if place is None else {"pool": place.pool, "stream": place.stream}
    with torch.cuda.graph(graph, **where):
        found = work()
    return found, graph.replay


def _laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """A gradient in the memory layout of its parameter: fused optimisers look at no strides."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


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
        self._rate: Tensor | None = None
        self._seen = Counter[tuple[int, ...]]()
        self._replays: dict[tuple[int, ...], Callable[[], None]] = {}

    def __call__(self, rate: float) -> None:
        """One step.

        Args:
            rate: The learning rate.
        """
        where = self._addresses()
        self._seen[where] += 1
        if where in self._replays:
            self._rate.fill_(rate)  # type: ignore[union-attr]
            self._replays[where]()
            return
        if self._seen[where] > 1 and len(self._replays) < RECORDED:
            self._replays[where] = self._record()
        self._plain(rate)

    def _addresses(self) -> tuple[int, ...]:
        """Of gradients, and of the sign that there is a bad one."""
        groups = self._optimizer.param_groups
        found = [p.grad for group in groups for p in group["params"]]
        found.append(getattr(self._optimizer, "found_inf", None))
        return tuple(0 if tensor is None else tensor.data_ptr() for tensor in found)

    def _record(self) -> Callable[[], None]:
        """Nothing is updated by it."""
        groups = self._optimizer.param_groups
        kept = [dict(group) for group in groups]
        if self._rate is None:
            self._rate = torch.zeros((), device=groups[0]["params"][0].device)
        for group in groups:
            group |= {"lr": self._rate, "capturable": True}
        _, replay = recorded(self._optimizer.step)
        for group, before in zip(groups, kept, strict=True):
            group.update(before)
        return replay
