"""The plain step on a GPU: a process, bfloat16, and by hand the whole step as one captured graph.

    uv run --group bench python -m benchmarks.speed step [--only micro] [--save]

Every contender holds the same weights; what is compared is its loss in float32 and that of its
first step in bfloat16. ``maskbench, compiled`` is ``--compile`` of a run. ``maskbench, captured``
is no way to run it: forward, backward and update of one batch are recorded once and replayed, which
is the least that launching can cost. Rows are printed as they are known.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed import show
from benchmarks.speed.contenders import (
    BASE,
    COMPILED,
    LARGE,
    OURS,
    PEERS,
    PLAIN,
    PRODUCTS,
    Call,
    Inputs,
    Setting,
    contenders,
    equal,
    hidden,
    ours,
    products,
    ratios,
    stepping,
)  # fmt: skip
from benchmarks.speed.timing import interleaved, wait
from maskbench import seeds
from maskbench.graphs import compiled
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import adamw
from maskbench.shape import PRESETS, step_flops

CAPTURED, SQUARE = "maskbench, captured", "product of 8192 x 8192"
PRECISION, SIDE, WARM = "bf16", 8192, 3
MICRO = Setting("micro", PRESETS["micro"].shape, 64, 40)
SETTINGS = (MICRO, replace(BASE, batch=256, steps=4), replace(LARGE, batch=128, steps=3))
EVERYBODY = (OURS, COMPILED, PLAIN, *PEERS)


@dataclass(frozen=True)
class Ready:
    """A contender that has taken its first step.

    Args:
        exact: Its loss in float32, before it.
        first: Its loss in bfloat16, in it.
        seconds: Of everything before the second step: compilation, capture.
        work: Takes the steps of a round.
    """

    exact: float
    first: float
    seconds: float
    work: Callable[[], object]


def ready(name: str, setting: Setting, given: Inputs, weights: MaskedAutoencoder) -> Ready:
    """Build a contender with such weights, compare it, let it take its first step."""
    device, known = given.images.device, OURS if name in (COMPILED, CAPTURED) else name
    module, call = contenders(setting, device, [known], weights)[known]
    with torch.no_grad():
        exact = float(call(given))
    begun = time.perf_counter()
    if name == COMPILED:
        assert isinstance(module, MaskedAutoencoder)
        module, call = ours(module, compiled(module, device))
    if name == CAPTURED:
        first, once = captured(module, call, given)
    else:
        once = stepping(module, call, given, PRECISION, 1, compile_=name == COMPILED)
        first = float(once().detach())
        for _ in range(WARM):  # a compiled one records its graphs: of its passes, of its update
            once()
    wait(device)

    def work() -> None:
        for _ in range(setting.steps):
            once()

    return Ready(exact, first, time.perf_counter() - begun, work)


def captured(module: nn.Module, call: Call, given: Inputs) -> tuple[float, Callable[[], Any]]:
    """The first loss, and a whole eager step that is replayed from one graph.

    The graph holds addresses, not numbers: the learning rate is a tensor, gradients are zeroed in
    place, and no weight is cast outside of it (``cache_enabled``).
    """
    device, optimizer = given.images.device, adamw(module, [], 0.05)
    for group in optimizer.param_groups:
        group |= {"lr": torch.tensor(1e-4, device=device), "capturable": True}

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            loss = call(given)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return loss.detach()

    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        first = float(step())
        for _ in range(WARM - 1):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return first, graph.replay


def peak(device: torch.device, side: int = SIDE) -> float:
    """FLOPs per second of one large product in bfloat16: what this GPU can do."""
    a = torch.randn(side, side, device=device).bfloat16()

    def work() -> None:
        for _ in range(10):
            torch.mm(a, a)

    return 10 * 2 * side**3 / interleaved({"product": work}, 5, device)["product"].median


def one(
    setting: Setting, device: torch.device, names: Sequence[str], rounds: int, side: int = SIDE
) -> list[dict[str, Any]]:
    """Rows of one setting; who fails is a row that says so.

    Args:
        setting: What is trained.
        device: Where.
        names: Who takes part.
        rounds: How often each is timed.
        side: Of the large product.
    """
    common = {"setting": setting.name, "precision": PRECISION}
    given, found, rows = Inputs.of(setting, device), dict[str, Ready](), list[dict[str, Any]]()
    weights = MaskedAutoencoder(setting.shape, seeds.generator(0, "init")).to(device)
    for name in names:
        try:
            found[name] = ready(name, setting, given, weights)
        except Exception as error:  # no memory, no capture: the others go on
            rows.append({"contender": name, **common, "error": str(error).partition("\n")[0][:200]})
            show.tell(rows[-1])
        else:
            told = {"first_loss": found[name].first, "seconds": round(found[name].seconds, 1)}
            show.tell({"ready": name, **common, **told})
    equal({f"{name} fp32": each.exact for name, each in found.items()}, ["fp32"])
    equal({f"{name} {PRECISION}": each.first for name, each in found.items()}, [PRECISION])
    flops, multiply = products(setting, device, PRECISION)
    work = {name: each.work for name, each in found.items()}
    times = interleaved({**work, PRODUCTS: multiply}, rounds, device)
    most, rate = peak(device, side), flops / times[PRODUCTS].median
    visible = Grid(setting.shape.side, setting.shape.side, hidden(setting.shape)).visible
    step = sum(step_flops(setting.shape, visible).values()) * setting.batch
    keyed = {f"{name} {PRECISION}": each for name, each in times.items()}
    for name, each in found.items():
        seconds = times[name].median / setting.steps
        compared = ratios(keyed, f"{name} {PRECISION}", list(found), [PRECISION])
        del compared["to_peer_any_precision"]
        rows.append(
            {
                "contender": name,
                **common,
                "ms_per_step": round(1000 * seconds, 3),
                "images_per_s": round(setting.batch / seconds, 1),
                "tflops_per_s": round(step / seconds / 1e12, 2),
                "of_products": round(step / seconds / rate, 3),
                "of_peak": round(step / seconds / most, 3),
                **compared,
                "first_loss": round(each.first, 4),
                "first_loss_fp32": round(each.exact, 4),
                "preparation_s": round(each.seconds, 1),
            }
        )
    for name, reached in ((PRODUCTS, rate), (SQUARE, most)):
        share = {"tflops_per_s": round(reached / 1e12, 2), "of_peak": round(reached / most, 3)}
        rows.append({"contender": name, **common, **share})
    return rows


def measure(
    quick: bool, only: str | None, so_far: Callable[[show.Found], object]
) -> dict[str, Any]:
    """All settings, or the one that is named.

    Args:
        quick: The smallest alone, no other library.
        only: A setting's name.
        so_far: Is given what is known after every setting.
    """
    device = torch.device("cuda")
    settings = show.picked({each.name: each for each in SETTINGS}, only)
    found: dict[str, Any] = {"device": "cuda", "batches": {}, "rows": []}
    for setting in settings[:1] if quick else settings:
        names = (OURS, PLAIN) if quick else EVERYBODY
        extra = (CAPTURED,) if setting is MICRO else ()
        rows = one(setting, device, (*names, *extra), 5)
        for row in rows:
            show.tell(row)
        found["rows"] += rows
        found["batches"][setting.name] = setting.batch
        so_far(found)
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
    return found
