"""Clauses on what a strategy costs and where it can run."""

from collections.abc import Mapping

import torch
from torch import distributed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskbench.contract.clause import Broken, Skipped
from maskbench.contract.jobs import SMALL
from maskbench.contract.replicas import SAME, pairs
from maskbench.contract.subject import Subject, rehearse, run
from maskbench.shape import PRESETS, ModelShape, step_flops
from maskbench.strategy import PARTS

SHAPES = {"toy": SMALL, "nano": PRESETS["nano"].shape}
COUNTED_STEP = 24
"""Well into a plan of 40 steps, where strategies that warm up have begun their work."""
ENDS = (0, 39)
"""Also looked at, on the smallest model."""
TOLERANCE = 0.02
IMAGES = 4


def cost(subject: Subject) -> None:
    """Says what it costs, within 2 % of a FLOP counter."""
    _setup(subject)
    for size, shape in SHAPES.items():
        for step in (COUNTED_STEP, *(ENDS if size == "toy" else ())):
            step_cost(subject, size, shape, step)


def _setup(subject: Subject) -> None:
    """What setup does is in spent(); work that the counter cannot see may be added."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        job = subject.job()
    counted, said = counter.get_total_flops(), _flops("spent", job.strategy.spent())
    if counted > (1 + TOLERANCE) * said:
        raise Broken(f"spent() to say what setup cost: {counted:,} FLOPs counted", f"{said:,}")


def step_cost(subject: Subject, size: str, shape: ModelShape, step: int = COUNTED_STEP) -> None:
    """Compare one step, three quarters hidden, with torch's counter on plain matrix products.

    Args:
        subject: Who says what it costs.
        size: The model's name.
        shape: The model.
        step: Of a plan of 40.

    Raises:
        Broken: They are more than 2 % apart.
    """
    hidden = shape.patches * 3 // 4
    job = subject.job(shape=shape, batch=IMAGES, hidden=hidden, budget="40step")
    grid, before = job.context(step).grid, _flops("spent", job.strategy.spent())
    own = _flops("cost", job.strategy.cost(grid, shape))
    batch = job.batch(step)  # beforehand: its crops are no FLOPs of the step
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        rehearse(job, step, batch)
    counted = counter.get_total_flops() - (_flops("spent", job.strategy.spent()) - before)
    seen, plain = counted / IMAGES, sum(step_flops(shape, grid.visible).values())
    if abs(plain + own - seen) > TOLERANCE * seen:
        raise Broken(
            f"cost() to be about {seen - plain:,.0f} FLOPs per image (model {size!r}, "
            f"counted at step {step} of 40, beside {plain:,} of the plain step)",
            f"cost() says {own:,}; the whole step is off by {(plain + own) / seen - 1:+.1%}",
        )


def _flops(method: str, said: Mapping[str, int]) -> int:
    if not isinstance(said, Mapping):
        raise Broken(f"{method}() to be a mapping of parts to FLOPs", repr(said))
    for part, flops in said.items():
        if part not in PARTS[method]:
            raise Broken(f"the parts of {method}() to be among {', '.join(PARTS[method])}", part)
        if not isinstance(flops, int) or flops < 0:
            raise Broken(f"{method}()[{part!r}] to be a whole number of FLOPs", repr(flops))
    return sum(said.values())


def gpu(subject: Subject) -> None:
    """A short training runs on a GPU."""
    if not torch.cuda.is_available():
        raise Skipped("torch sees no GPU here")
    run(subject.job(device="cuda", budget="4step"))
    torch.cuda.synchronize()


def processes(subject: Subject) -> None:
    """Two processes train what one would."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise Skipped("this torch has no gloo")
    pair = subject.pair or pairs([subject.name])[subject.name]
    one, other = pair.ends
    for end in pair.ends:
        if end.error:
            raise Broken("a short training in two processes to run", end.error)
    if one.start == one.end:
        raise Broken("a short training in two processes to move the model", "it did not")
    apart = [path for path in one.state if one.state[path] != other.state.get(path)]
    apart += [path for path in other.state if path not in one.state]
    if apart:
        raise Broken(
            "both processes to hold the same values (context.average averages gradients)",
            f"{len(apart)} of {len(one.state)} values differ, the first is {apart[0]}",
        )
    further = {p: a for p, a in one.further_than_rounding.items() if not p.startswith("logged.")}
    if further:
        worst = max(further, key=further.__getitem__)
        raise Broken(
            f"two processes to end with the values of one, to {SAME:g} (a mean over images does; "
            "another loss needs context.mean, .total or .gather, which see the whole batch)",
            f"{len(further)} of {len(one.alone)} values are further from those of one process, "
            f"{worst} by {further[worst]:.1g} of its size",
        )
