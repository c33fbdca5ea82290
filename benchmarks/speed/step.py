"""The plain training step against others and against a matrix product, at equal loss.

    uv run --group bench python -m benchmarks.speed.step [--json] [--quick]

All contenders hold the same weights, see the same images and hide the same patches; before anything
is timed their losses are compared. A step is forward, backward and a fused AdamW update. Each is
timed in float32 and, where it is asked for, in bfloat16 autocast; maskbench also compiled
(``--compile`` of a run), its compilation off the clock and reported.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed import peers, show
from benchmarks.speed.textbook import Textbook
from benchmarks.speed.timing import Times, interleaved
from maskbench import seeds
from maskbench.mask import Grid, Mask
from maskbench.model import MaskedAutoencoder
from maskbench.optim import adamw, autocast
from maskbench.shape import PRESETS, ModelShape, step_flops

RATIO = 0.75
OURS, COMPILED, PLAIN = "maskbench", "maskbench, compiled", "textbook"
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
        grid = Grid(shape.side, shape.side, round(shape.patches * RATIO))
        return cls(images.to(device), noise.to(device), grid)


Call = Callable[[Inputs], Tensor]


def contenders(
    setting: Setting, device: torch.device, others: bool = True
) -> dict[str, tuple[nn.Module, Call]]:
    """Models with the same weights, and how each is asked for its loss.

    Args:
        setting: What is trained.
        device: Where.
        others: Whether ``transformers``, ``lightly`` and a compiled step take part, too.
    """
    model = MaskedAutoencoder(setting.shape, seeds.generator(0, "init")).to(device)
    textbook = Textbook(setting.shape, RATIO)
    textbook.load_state_dict(model.state_dict())

    def ours(forward: Any) -> Call:
        return lambda given: forward(given.images, Mask.from_scores(given.noise, given.grid)).loss

    def theirs(forward: Any) -> Call:
        return lambda given: forward(given.images, noise=given.noise).loss

    found: dict[str, tuple[nn.Module, Call]] = {
        OURS: (model, ours(model)),
        PLAIN: (textbook.to(device), theirs(textbook)),
    }
    if others:
        second = MaskedAutoencoder(setting.shape, seeds.generator(0, "init")).to(device)
        found[COMPILED] = second, ours(torch.compile(second))
        for name, make in (("transformers", peers.hugging_face), ("lightly", peers.Lightly)):
            peer = make(model, RATIO).to(device)
            found[name] = (peer, theirs(peer))
    return found


def stepping(
    module: nn.Module, call: Call, given: Inputs, precision: str, steps: int
) -> Callable[[], Tensor]:
    """So many whole training steps."""
    optimizer, device = adamw(module, [], 0.05), given.images.device
    for group in optimizer.param_groups:
        group["lr"] = 1e-4

    def work() -> Tensor:
        for _ in range(steps):
            with autocast(device, precision):
                loss = call(given)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        return loss

    return work


def products(setting: Setting, device: torch.device, precision: str) -> tuple[int, Any]:
    """The matrix products of a step and nothing else: their FLOPs, and the work itself.

    Those of every linear layer, forward and backward (by the activations and by the weights), each
    on matrices of its own shape; the attention's products are not among them.
    """
    shape, batch = setting.shape, setting.batch
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    visible = shape.patches - round(shape.patches * RATIO)
    layers = [(batch * shape.patches, shape.patch_values, shape.width, 1)]
    for tokens, width, depth in (
        (batch * (visible + 1), shape.width, shape.depth),
        (batch * (shape.patches + 1), shape.decoder_width, shape.decoder_depth),
    ):
        layers += [(tokens, width, wide * width, depth) for wide in (3, 1, 4)]
        layers.append((tokens, 4 * width, width, depth))
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


def equal(
    found: dict[str, tuple[nn.Module, Call]], given: Inputs, precisions: Sequence[str]
) -> dict[str, float]:
    """The loss of each before any step.

    Raises:
        ArithmeticError: One differs by more than a percent: they are not the same model.
    """
    losses = {}
    for name, (_, call) in found.items():
        for precision in precisions:
            with torch.no_grad(), autocast(given.images.device, precision):
                losses[f"{name} {precision}"] = float(call(given))
    want = losses[f"{PLAIN} {precisions[0]}"]
    for name, loss in losses.items():
        if abs(loss / want - 1) > EQUAL:
            raise ArithmeticError(f"the loss of {name} is {loss:.4f}, of {PLAIN} {want:.4f}")
    return losses


def one(
    setting: Setting, device: torch.device, precisions: Sequence[str], rounds: int, others: bool
) -> list[dict[str, Any]]:
    """Rows of one setting: images per second, ratios, share of the products' rate."""
    given = Inputs.of(setting, device)
    found = contenders(setting, device, others)
    losses = equal({k: v for k, v in found.items() if k != COMPILED}, given, precisions)
    work: dict[str, Callable[[], Any]] = {}
    compiling = {}
    flops = {}
    for precision in precisions:
        for name, (module, call) in found.items():
            work[f"{name} {precision}"] = stepping(module, call, given, precision, setting.steps)
        if COMPILED in found:
            begun = time.perf_counter()
            work[f"{COMPILED} {precision}"]()
            compiling[precision] = time.perf_counter() - begun
        flops[precision], work[f"products {precision}"] = products(setting, device, precision)
    times = interleaved(work, rounds, device)
    grid = given.grid
    whole = sum(step_flops(setting.shape, grid.visible).values()) * setting.batch * setting.steps
    rows = []
    for precision in precisions:
        peak = flops[precision] / times[f"products {precision}"].median
        common = {"setting": setting.name, "precision": precision}
        for name in found:
            key = f"{name} {precision}"
            median = times[key].median
            rows.append(
                {
                    "contender": name,
                    **common,
                    "images_per_s": round(setting.batch * setting.steps / median, 2),
                    "gflops_per_s": round(whole / median / 1e9, 1),
                    "of_products": round(whole / median / peak, 3),
                    **_ratios(times, key, found, precisions),
                    "first_loss": round(losses.get(key, losses[f"{OURS} {precision}"]), 4),
                    "compilation_s": round(compiling[precision], 1) if name == COMPILED else None,
                }
            )
        rows.append(
            {"contender": "matrix products", **common, "gflops_per_s": round(peak / 1e9, 1)}
        )
    return rows


def _ratios(
    times: dict[str, Times], key: str, found: dict[str, Any], precisions: Sequence[str]
) -> dict[str, Any]:
    """How many times as fast as the plain one and as the fastest peer, by medians of rounds.

    The range is that of the last one, over rounds.
    """
    precision = key.rpartition(" ")[2]
    peers_ = [name for name in found if name not in (OURS, COMPILED, PLAIN)] or [PLAIN]
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


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products run on hardware made for them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return False


def measure(quick: bool = False) -> dict[str, Any]:
    """All settings.

    Args:
        quick: The small setting alone, fewer rounds, no other library: what CI looks at.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = ["fp32", "bf16"] if fast_bfloat16(device) else ["fp32"]
    settings = (
        [replace(SMALL, batch=64)]
        if quick
        else [SMALL, BASE, *([LARGE] if device.type == "cuda" else [])]
    )
    rows = []
    if device.type == "cuda":
        settings = [replace(each, batch=32 * each.batch, steps=10) for each in settings]
    for setting in settings:
        rows += one(setting, device, precisions, 5, others=not quick)
    batches = {each.name: each.batch for each in settings}
    return {"device": str(device), "batches": batches, "rows": rows}


if __name__ == "__main__":
    show.main("step", measure)
