"""Who takes the plain step: one model by maskbench, a textbook and others, equal weights."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed import peers
from benchmarks.speed.textbook import Textbook
from benchmarks.speed.timing import Times
from maskbench import seeds
from maskbench.graphs import compiled, updates
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import adamw, autocast, descent
from maskbench.shape import PRESETS, ModelShape

RATIO = 0.75
OURS, COMPILED, PLAIN = "maskbench", "maskbench, compiled", "textbook"
BARE = "maskbench, memory given back"
PEERS = ("transformers", "lightly")
PRODUCTS = "matrix products"
EQUAL = 0.01
"""Losses of all contenders may differ by so much, as a share."""


@dataclass(frozen=True)
class Setting:
    """What is trained.

    Args:
        name: For the table.
        shape: The sizes.
        batch: Images per step.
        steps: Per timed round.
    """

    name: str
    shape: ModelShape
    batch: int
    steps: int


SMALL = Setting("small", ModelShape(32, 4, 192, 6, 3, 96, 2, 3), 256, 2)
"""32 px, patch 4: the setting of the figures in the literature of this house."""
BASE = Setting("vit_base", PRESETS["vit_base"].shape, 8, 1)
LARGE = Setting("vit_large", PRESETS["vit_large"].shape, 8, 1)


def hidden(shape: ModelShape) -> int:
    """Patches hidden in every image."""
    return round(shape.patches * RATIO)


@dataclass(frozen=True)
class Inputs:
    """What every contender is given: images and noise, which hides where it is highest."""

    images: Tensor
    noise: Tensor
    grid: Grid

    @classmethod
    def of(cls, setting: Setting, device: torch.device) -> "Inputs":
        """Normal noise for images."""
        shape, rng = setting.shape, seeds.generator(0, "speed")
        images = torch.randn(setting.batch, 3, shape.image, shape.image, generator=rng)
        noise = torch.rand(setting.batch, shape.patches, generator=rng)
        grid = Grid(shape.side, shape.side, hidden(shape))
        return cls(images.to(device), noise.to(device), grid)


Call = Callable[[Inputs], Tensor]


def ours(module: nn.Module, forward: Any) -> tuple[nn.Module, Call]:
    """The model of maskbench, and how it is asked for its loss.

    Args:
        module: The model.
        forward: The model itself, or compiled.
    """

    def call(given: Inputs) -> Tensor:
        loss: Tensor = forward(given.images, Mask.from_scores(given.noise, given.grid)).loss
        return loss

    return module, call


def contenders(
    setting: Setting,
    device: torch.device,
    names: Sequence[str],
    first: MaskedAutoencoder | None = None,
) -> dict[str, tuple[nn.Module, Call]]:
    """Models with the same weights, and how each is asked for its loss.

    Args:
        setting: What is trained.
        device: Where.
        names: Who takes part.
        first: A model to copy (default: its weights are drawn for each, which takes longer).
    """

    def model() -> MaskedAutoencoder:
        if first is not None:
            return copy.deepcopy(first)
        return MaskedAutoencoder(setting.shape, seeds.generator(0, "init"))

    def theirs(module: nn.Module) -> tuple[nn.Module, Call]:
        return module, lambda given: module(given.images, noise=given.noise).loss

    found: dict[str, tuple[nn.Module, Call]] = {}
    for name in names:
        if name in (OURS, BARE, COMPILED):
            own = model().to(device)
            found[name] = ours(own, compiled(own, device) if name == COMPILED else own)
        elif name == PLAIN:
            with device:
                textbook = Textbook(setting.shape, RATIO)
            textbook.load_state_dict(model().state_dict())
            found[name] = theirs(textbook.to(device))
        else:
            make = {"transformers": peers.hugging_face, "lightly": peers.Lightly}[name]
            known = model()
            with device:  # a GPU draws weights, which are thrown away, faster
                peer = make(known, RATIO)
            found[name] = theirs(peer.to(device))
    return found


def stepping(
    module: nn.Module,
    call: Call,
    given: Inputs,
    precision: str,
    steps: int,
    *,
    compile_: bool = False,
) -> Callable[[], Tensor]:
    """So many whole training steps; ``compile_``: with the update of a compiled run."""
    optimizer, device = adamw(module, [], 0.05), given.images.device
    descend = updates(optimizer, device) if compile_ else descent(optimizer)

    def work() -> Tensor:
        for _ in range(steps):
            with autocast(device, precision):
                loss = call(given)
            loss.backward()  # type: ignore[no-untyped-call]
            descend(1e-4)
            optimizer.zero_grad()
        return loss

    return work


def products(setting: Setting, device: torch.device, precision: str) -> tuple[int, Any]:
    """The matrix products of a step and nothing else: their FLOPs, and the work itself.

    Those of every linear layer of maskbench's step, forward and backward (by the activations and by
    the weights), each on matrices of its own shape; the attention's products are not among them.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layers = _layers(setting.shape, setting.batch)
    made = [
        tuple(torch.randn(s, device=device, dtype=dtype) for s in ((n, i), (o, i), (n, o)))
        for n, i, o, _ in layers
    ]

    def work() -> None:
        for (x, weight, gradient), (*_, times) in zip(made, layers, strict=True):
            for _ in range(times):
                torch.mm(x, weight.t())
                torch.mm(gradient, weight)
                torch.mm(gradient.t(), x)

    return sum(6 * n * i * o * times for n, i, o, times in layers), work


def _layers(shape: ModelShape, batch: int) -> list[tuple[int, int, int, int]]:
    """Rows, inputs, outputs of the linear layers, and how many there are of such."""
    guessed, width, narrow = hidden(shape), shape.width, shape.decoder_width
    visible, everything = shape.patches - guessed, shape.patches + 1
    depth, shallow = shape.depth, shape.decoder_depth - 1

    def rest(tokens: int, wide: int, depth: int) -> list[tuple[int, int, int, int]]:
        """Of a block, what follows queries, keys and values."""
        return [
            (tokens, i, o, depth) for i, o in ((wide, wide), (wide, 4 * wide), (4 * wide, wide))
        ]

    layers = [
        (visible, shape.patch_values, width, 1),
        (visible + 1, width, 3 * width, depth),
        *rest(visible + 1, width, depth),
        (visible + 1, width, narrow, 1),
        (everything, narrow, 3 * narrow, shallow),
        *rest(everything, narrow, shallow),
        (everything, narrow, 2 * narrow, 1),  # the decoder's last block: only guesses are read
        (guessed, narrow, narrow, 1),
        *rest(guessed, narrow, 1),
        (guessed, narrow, shape.patch_values, 1),
    ]
    return [(batch * tokens, i, o, times) for tokens, i, o, times in layers]


def losses(
    found: dict[str, tuple[nn.Module, Call]], given: Inputs, precisions: Sequence[str]
) -> dict[str, float]:
    """The loss of each before any step, by contender and precision."""
    told = {}
    for name, (_, call) in found.items():
        for precision in precisions:
            with torch.no_grad(), autocast(given.images.device, precision):
                told[f"{name} {precision}"] = float(call(given))
    return told


def equal(told: dict[str, float], precisions: Sequence[str]) -> None:
    """Refuse to time models that are not the same.

    Raises:
        ArithmeticError: A loss differs by more than a percent.
    """
    want = told[f"{PLAIN} {precisions[0]}"]
    for name, loss in told.items():
        if abs(loss / want - 1) > EQUAL:
            raise ArithmeticError(f"the loss of {name} is {loss:.4f}, of {PLAIN} {want:.4f}")


def ratios(
    times: dict[str, Times], key: str, found: Sequence[str], precisions: Sequence[str]
) -> dict[str, Any]:
    """How many times as fast as the plain one and as the fastest peer, by medians of rounds.

    The range is that of the last one, over rounds.
    """
    precision = key.rpartition(" ")[2]
    peers_ = [name for name in found if name in PEERS] or [PLAIN]
    here = min((times[f"{name} {precision}"] for name in peers_), key=lambda t: t.median)
    best = min(
        (times[f"{name} {p}"] for name in peers_ for p in precisions), key=lambda t: t.median
    )
    plain = times[f"{PLAIN} {precision}"]
    return {
        "to_textbook": round(plain.over(times[key])[0], 3),
        "to_peer": round(here.over(times[key])[0], 3),
        "to_peer_any_precision": round(best.over(times[key])[0], 3),
        "range": [round(r, 3) for r in best.over(times[key])[1:]],
    }
