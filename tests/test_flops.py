"""The closed forms: against torch's counter, against the table of the specification, by hand."""

from itertools import pairwise
from typing import Any

import pytest
from conftest import SMALL, make_job
from hypothesis import given
from hypothesis import strategies as st

from maskbench import registry
from maskbench.contract import Subject
from maskbench.contract.resources import step_cost
from maskbench.mask import Grid
from maskbench.shape import (
    PRESETS,
    ModelShape,
    block_flops,
    blocks_forward,
    linear_flops,
    step_flops,
)
from maskbench.strategy import MaskStrategy

NAMES = [*(entry.name for entry in registry.entries()), "prototypes+clmae", "ratio+hpm"]
PARTS = {"encoder", "decoder", "mask generator", "teacher", "feature extraction", "clustering"}
FAST = ["micro"]
"""The contract already tries nano (and a toy) in the fast suite."""
SIZES = [
    pytest.param(size, marks=() if size in FAST else pytest.mark.slow)
    for size in ("nano", "micro", "tiny")
]


# --- what strategies say ------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_cost_is_within_two_percent_of_the_counter(name: str, size: str) -> None:
    """One step of four images on the math backend of attention."""
    step_cost(Subject(name), size, PRESETS[size].shape)


@pytest.mark.parametrize("name", NAMES)
def test_who_is_built_in_says_what_it_costs_by_the_ledgers_parts(name: str) -> None:
    assert registry.load(name).says_cost()
    job = make_job(name)
    assert {*job.strategy.cost(job.grid, job.model.shape), *job.strategy.spent()} <= PARTS


def test_silence_is_no_statement() -> None:
    class Silent(MaskStrategy):
        pass

    class Heir(registry.load("random")):  # type: ignore[misc]
        pass

    assert not MaskStrategy.says_cost()
    assert not Silent.says_cost()
    assert Heir.says_cost()
    both: Any = registry.load("ratio+random")
    half = type("Half", (both,), {"classes": (*both.classes[:1], ("silent", Silent))})
    assert both.says_cost()
    assert not half.says_cost()  # type: ignore[attr-defined]


# --- the specification's table --------------------------------------------------------------------
# Multiply-adds of a forward pass in units of 1e9, and training relative to random's: decoder
# 512 x 8, 75 % hidden. The column of AMT (45 % hidden, 40 % thrown away) has no counterpart:
# throwing is not offered.

TABLE = {
    "Ti/16": (ModelShape(224, 16, 192, 12, 3, 512, 8, 16), 5.66, 1.07, 1.90, 2.65, 1.02),
    "S/16": (ModelShape(224, 16, 384, 12, 6, 512, 8, 16), 6.51, 1.24, 2.41, 2.61, 1.06),
    "B/16": (ModelShape(224, 16, 768, 12, 12, 512, 8, 16), 9.78, 1.60, 3.55, 2.51, 1.15),
    "L/16": (ModelShape(224, 16, 1024, 24, 16, 512, 8, 16), 20.8, 1.99, 3.97, 2.42, 1.12),
    "H/14": (ModelShape(224, 14, 1280, 32, 16, 512, 8, 16), 48.6, 2.15, 4.11, 2.39, 1.11),
}
COLUMNS = ("forward", "whole image", "clmae", "hpm", "sampler")


def quarter(shape: ModelShape) -> Grid:
    return Grid(shape.side, shape.side, shape.patches * 3 // 4)


def plain(shape: ModelShape) -> int:
    return sum(step_flops(shape, quarter(shape).visible).values())


def own(name: str, shape: ModelShape) -> int:
    return sum(registry.load(name)().cost(quarter(shape), shape).values())


def embedding(shape: ModelShape) -> int:
    return linear_flops(shape.patches, shape.patch_values, shape.width)


def unread(shape: ModelShape, width: int, wanted: int) -> int:
    """What the last block computes in published code and nobody reads."""
    tokens = shape.patches + 1
    return sum(block_flops(tokens, width)) - sum(block_flops(tokens, width, wanted))


def published(shape: ModelShape) -> int:
    """The plain step as published: it embeds hidden patches, decodes visible ones, drops both."""
    hidden = quarter(shape).hidden
    embedding = 2 * linear_flops(hidden, shape.patch_values, shape.width)
    return plain(shape) + embedding + 3 * unread(shape, shape.decoder_width, hidden)


def clmae_as_coded(shape: ModelShape) -> int:
    """Whose masking network computes all outputs, and reads CLS."""
    return own("clmae", shape) + 4 * unread(shape, shape.width, 1)


def hpm_as_coded(shape: ModelShape) -> int:
    """The student's loss decoder is as the pixels', the teacher's gives CLS nobody's output."""
    width, grid = shape.decoder_width, quarter(shape)
    decoders = 3 * unread(shape, width, grid.hidden) + unread(shape, width, shape.patches)
    return own("hpm", shape) + decoders + pixel_decoder_on_all(shape)


def forward(shape: ModelShape) -> float:
    """A third of the step, 1e9 multiply-adds; images need no gradient, so embedding counts 2."""
    return (published(shape) + embedding(shape)) / 3 / 2e9


def encoder_on_all(shape: ModelShape) -> int:
    return embedding(shape) + blocks_forward(shape.depth, shape.patches + 1, shape.width)


def pixel_decoder_on_all(shape: ModelShape) -> int:
    """Which HPM's published teacher runs and nobody reads; ours leaves it out."""
    tokens, width = shape.patches + 1, shape.decoder_width
    return (
        linear_flops(tokens, shape.width, width)
        + blocks_forward(shape.decoder_depth, tokens, width)
        + linear_flops(shape.patches, width, shape.patch_values)
    )


def sampler_as_coded(shape: ModelShape) -> float:
    """AdaMAE's, once with gradients; see ``test_the_sampler_...`` for why ours costs more."""
    return 3 / 4 * (own("adamae", shape) - 2 * embedding(shape))


def computed(column: str, shape: ModelShape) -> float:
    if column == "forward":
        return forward(shape)
    extra = {
        "whole image": encoder_on_all,
        "clmae": clmae_as_coded,
        "hpm": hpm_as_coded,
        "sampler": sampler_as_coded,
    }[column]
    return 1 + extra(shape) / published(shape)


@pytest.mark.parametrize("size", TABLE)
@pytest.mark.parametrize("column", COLUMNS)
def test_the_table_of_relative_costs(column: str, size: str) -> None:
    """Each number within 2 %.

    ``clmae`` is 1.2 to 2.0 % above the table everywhere, and rightly so: the table counts backward
    through the frozen model as one forward, but attention's is two (both of its operands are
    activations). At B/16 that is 12 x 2 x 197^2 x 768 + 8 x 2 x 197^2 x 512 = 1.03e9 multiply-adds
    of the 1.1e9 that ours is above the specification's 104.3e9. (The rest: patches are embedded
    twice more, +0.23; embedding counts 2 and not 3, -0.12; no pixels of visible patches, -0.06.)
    The counter agrees with ours: ``test_cost_is_within_two_percent_of_the_counter[clmae-*]``.
    """
    shape, *told = TABLE[size]
    assert computed(column, shape) == pytest.approx(told[COLUMNS.index(column)], rel=0.02)


@pytest.mark.parametrize(
    ("size", "ours"), [("Ti/16", 1.03), ("S/16", 1.08), ("B/16", 1.21), ("L/16", 1.17)]
)
def test_the_sampler_costs_a_forward_pass_and_two_embeddings_more_here(
    size: str, ours: float
) -> None:
    """The table's 1.15 at B/16 is one pass with gradients, 3 x 1.446 of 29.34e9 multiply-adds.

    A mask is asked for without gradients here, so the sampler runs again for its loss: 4 x 1.446,
    and patches are embedded anew each time, 2 x 0.116: 6.017 of 29.17e9 is 1.21.
    """
    shape = TABLE[size][0]
    assert 1 + own("adamae", shape) / plain(shape) == pytest.approx(ours, abs=0.006)


def test_hpm_without_the_decoder_that_nobody_reads() -> None:
    shape = TABLE["B/16"][0]
    assert 1 + own("hpm", shape) / plain(shape) == pytest.approx(2.33, rel=0.02)


# --- the plain step -------------------------------------------------------------------------------


def test_the_plain_step_by_hand() -> None:
    """16 patches of 48 numbers, width 24, depth 2; decoder 16 wide, 1 deep; 4 patches visible.

    Multiply-adds. A block of n tokens of width w: qkv 3nw^2, logits n^2 w, values n^2 w,
    projection nw^2, MLP 4nw^2 + 4nw^2. The last of the decoder gives 12 hidden patches: their
    queries alone, and what follows.
    """
    block_5_of_24 = 3 * 2880 + 600 + 600 + 2880 + 8 * 2880
    block_12_of_17_of_16 = 3072 + 2 * 4352 + 3264 + 3264 + 3072 + 8 * 3072
    embed, narrow, head = 4 * 48 * 24, 5 * 24 * 16, 12 * 16 * 48
    assert step_flops(SMALL, 4) == {
        "encoder": 2 * (3 * 2 * block_5_of_24 + 2 * embed),
        "decoder": 2 * 3 * (narrow + block_12_of_17_of_16 + head),
    }


SHAPES = st.builds(
    lambda side, patch, heads, depth, decoder: ModelShape(
        side * patch, patch, 16 * heads, depth, heads, 16 * decoder, decoder, decoder
    ),
    *(st.integers(2, 16), st.sampled_from([2, 4, 8, 16]), st.integers(1, 80)),
    *(st.integers(1, 32), st.integers(1, 32)),
)


@given(SHAPES, st.data())
def test_a_visible_patch_more(shape: ModelShape, data: st.DataObject) -> None:
    """Costs the encoder more, ever more; in the decoder, a latent takes the place of a guess.

    Which is a pixel head, and an output of the last block.
    """
    visible = data.draw(st.integers(1, shape.patches - 2))
    steps = [step_flops(shape, visible + more) for more in range(3)]
    one, two, three = (step["encoder"] for step in steps)
    assert 0 < two - one < three - two
    width = shape.decoder_width
    guess = shape.patch_values + 10 * width + 2 * (shape.patches + 1)
    swap = 6 * width * (shape.width - guess)
    assert {b["decoder"] - a["decoder"] for a, b in pairwise(steps)} == {swap}
    assert all(type(flops) is int and flops > 0 for step in steps for flops in step.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_the_whole_step_grows_with_what_is_visible(preset: str) -> None:
    """All models on offer: none has a pixel head so large that hiding more would cost more."""
    shape = PRESETS[preset].shape
    totals = [sum(step_flops(shape, visible).values()) for visible in range(1, shape.patches)]
    assert totals == sorted(set(totals))
