"""HPM and its control, AttMask, AMT, AdaMAE: what they hide, by their equations."""

import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import make_job

from maskbench import registry
from maskbench.context import Context
from maskbench.job import Job
from maskbench.mask import Grid
from maskbench.train import train


def module(name: str, base: int = 0) -> Any:
    return sys.modules[registry.load(name).__mro__[base].__module__]


def made(name: str, **settings: Any) -> Job:
    cls = registry.load(name)
    return make_job(cls(cls.Settings(**settings)), budget="60step")


def at(job: Job, progress: float, **rest: Any) -> Context:
    return replace(job.context(0), progress=progress, **rest)


def noise(images: int, patches: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(images, patches, generator=torch.Generator().manual_seed(seed))


# --- HPM ------------------------------------------------------------------------------------


def test_pair_loss_is_the_double_loop() -> None:
    predicted, loss = noise(3, 6), noise(3, 6, 1)
    loss[0, 1] = loss[0, 2]  # a tie counts for nothing
    images = [
        torch.stack(
            [
                -torch.log(torch.sigmoid(predicted[b, i] - predicted[b, j]))
                for i in range(6)
                for j in range(6)
                if loss[b, i] > loss[b, j]
            ]
        ).mean()
        for b in range(3)
    ]
    pair_loss = module("hpm", 1).pair_loss
    assert torch.allclose(pair_loss(predicted, loss), torch.stack(images).mean(), atol=1e-6)
    assert pair_loss(torch.zeros(3, 6), loss) == pytest.approx(math.log(2))
    shifted = predicted + torch.tensor([[1.0], [-3.0], [7.0]])
    assert torch.allclose(pair_loss(shifted, loss), pair_loss(predicted, loss), atol=1e-6)
    assert pair_loss(predicted, torch.ones(3, 6)) == 0
    assert pair_loss(loss, loss) < pair_loss(-loss, loss)


@pytest.mark.parametrize(("progress", "hardest"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_hpm_hides_the_hardest_for_sure_and_chance_decides_the_rest(
    progress: float, hardest: int
) -> None:
    job = made("hpm")
    strategy: Any = job.strategy
    batch = job.batch(0)
    difficulty = noise(len(batch), 16)
    strategy.predicted_difficulty = lambda images: difficulty
    contexts = [at(job, progress, step=step) for step in range(200)]
    assert strategy.guided(contexts[0]) == hardest
    hidden = torch.stack([strategy.mask(batch, context).hidden for context in contexts])
    order = difficulty.argsort(1, descending=True)
    rate = hidden.float().mean(0).gather(1, order)
    assert (rate[:, :hardest] == 1).all()
    others = rate[:, hardest:].mean(0)
    assert ((others - (12 - hardest) / (16 - hardest)).abs() < 0.06).all()


def test_without_guidance_hpm_masks_like_random() -> None:
    job, plain = made("hpm", first=0.0, last=0.0), make_job("random", budget="60step")
    for step in (0, 30, 59):
        batch = job.batch(step)
        ours = job.strategy.mask(batch, job.context(step))
        assert torch.equal(ours.hidden, plain.strategy.mask(batch, plain.context(step)).hidden)


def test_the_teacher_is_a_moving_average_and_nothing_else() -> None:
    job = made("hpm", decay=0.5, last_decay=0.5)
    strategy: Any = job.strategy
    before = {n: v.clone() for n, v in strategy.teacher.named_parameters()}
    decoder = [v.clone() for v in strategy.teacher_decoder.parameters()]
    train(job, lambda row: None, lambda step: None, steps=range(20, 21))
    live = dict(job.model.named_parameters())
    for name, value in strategy.teacher.named_parameters():
        assert torch.allclose(value, (before[name] + live[name]) / 2, atol=1e-6)
    pairs = zip(strategy.teacher_decoder.parameters(), decoder, strict=True)
    for value, (old, new) in zip(
        strategy.teacher_decoder.parameters(),
        zip(decoder, strategy.decoder.parameters(), strict=True),
        strict=True,
    ):
        assert torch.allclose(value, (old + new) / 2, atol=1e-6)
    assert all(not value.requires_grad for value, _ in pairs)


def test_the_decay_rises_and_never_outlasts_the_run() -> None:
    settings = module("hpm").HPM.Settings()
    job = make_job("random")
    late = [settings.decay_at(at(job, share, step=10**6)) for share in (0.0, 0.25, 0.5, 1.0)]
    assert late == pytest.approx([0.999, 0.99945, 0.9999, 0.9999])
    assert settings.decay_at(at(job, 0.9, step=0)) == pytest.approx(0.1)
    assert settings.decay_at(at(job, 0.9, step=90)) == pytest.approx(0.91)


def test_the_auxiliary_loss_trains_encoder_and_loss_decoder_only() -> None:
    job = made("random+aux")
    batch, context = job.batch(0), job.context(0)
    outcome = job.model(batch.images, job.strategy.mask(batch, context))
    extra = job.strategy.extra_loss(batch, outcome, context)
    assert extra is not None
    torch.autograd.backward(extra)
    touched = {n for n, p in job.model.named_parameters() if p.grad is not None}
    assert "blocks.0.attn.qkv.weight" in touched
    assert not any(name.startswith("decoder_") for name in touched)
    assert all(p.grad is not None for p in job.strategy.joint_parameters())


# --- AttMask --------------------------------------------------------------------------------


def attmask_hidden(attention: torch.Tensor, mode: str, hidden: int, **rest: Any) -> torch.Tensor:
    job = made("attmask", mode=mode, **rest)
    strategy: Any = job.strategy
    ranks = module("attmask").ranks
    chance = noise(len(attention), attention.shape[1], 3)
    grid = Grid(4, 4, hidden)
    scores = strategy.scores(ranks(attention, chance), chance, at(job, 1.0, grid=grid))
    from maskbench.mask import Mask

    return Mask.from_scores(scores, grid).hidden


def test_high_hides_the_most_attended_and_low_is_its_complement_at_half() -> None:
    attention = noise(5, 16)
    high, low = attmask_hidden(attention, "high", 8), attmask_hidden(attention, "low", 8)
    assert torch.equal(high, ~low)
    assert (attention.where(high, 2.0).amin(1) > attention.where(~high, -1.0).amax(1)).all()


def test_permuted_patches_give_a_permuted_mask() -> None:
    attention = noise(5, 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    one, other = (attmask_hidden(a, "high", 12) for a in (attention, attention[:, order]))
    assert torch.equal(one[:, order], other)


def test_hint_reveals_from_the_top_pool_alone() -> None:
    attention = noise(40, 16)
    hidden = attmask_hidden(attention, "hint", 11, pool=0.25, reveal=0.5)
    rank = attention.argsort(1).argsort(1)
    shown = ~hidden
    assert (shown & (rank >= 12)).sum(1).tolist() == [2] * 40
    assert (shown & (rank >= 3) & (rank < 12)).sum() == 0
    assert len({tuple(row) for row in shown.gather(1, attention.argsort(1)).tolist()}) > 3


def test_equal_attention_is_decided_by_chance_not_by_place() -> None:
    hidden = attmask_hidden(torch.full((400, 16), 0.5), "high", 8).float().mean(0)
    assert ((hidden - 0.5).abs() < 0.12).all()


def test_guidance_grows_over_the_ramp() -> None:
    job = made("attmask", mode="high", ramp=0.5)
    strategy: Any = job.strategy
    rank = torch.arange(16).expand(8, -1)
    decided = [
        int((strategy.scores(rank, noise(8, 16), at(job, share)) >= 2).sum(1)[0])
        for share in (0.0, 0.25, 0.5, 1.0)
    ]
    assert decided == [0, 6, 12, 12]


def test_attention_is_that_of_the_last_block() -> None:
    """Against timm's own block, written out: softmax of q k / sqrt(d), from CLS."""
    job = make_job("random")
    images = job.batch(0).images
    model: Any = job.model
    seen: list[torch.Tensor] = []
    last = model.blocks[-1].attn
    hook = last.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    with torch.no_grad():
        model.encode(model.embed(images))
    hook.remove()
    qkv = last.qkv(seen[0]).reshape(len(images), 17, 3, 4, 6)
    q, k = qkv[:, :, 0], qkv[:, :, 1]
    weights = torch.einsum("bqhd,bkhd->bhqk", q, k).div(math.sqrt(6)).softmax(-1)
    view = job.context(0).model
    assert torch.allclose(view.attention(images), weights[:, :, 0, 1:], atol=1e-6)
    patches = view.attention(images, "patches")
    assert torch.allclose(patches, weights[:, :, 1:, 1:].mean(2), atol=1e-6)
    assert (weights[:, :, 0].sum(-1) - 1).abs().max() < 1e-5


# --- AMT and AdaMAE -------------------------------------------------------------------------


def test_maps_are_cropped_and_mirrored_with_their_images() -> None:
    crop_maps, grid = module("amt").crop_maps, Grid(4, 4, 12)
    maps = torch.arange(16.0).expand(4, -1) + 1
    boxes = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0], [0.5, 0, 1, 0.5], [0, 0.25, 0.5, 0.75]])
    whole, mirrored, corner, _ = crop_maps(maps, boxes.float(), grid).view(4, 4, 4)
    image = maps[0].view(4, 4)
    assert torch.allclose(whole, image)
    assert torch.allclose(mirrored, image.flip(1))
    assert torch.allclose(corner[1, 1], image[2, 0] + 0.25 + 1.0, atol=1e-5)
    assert corner.mean() == pytest.approx(float(image[2:, :2].mean()), abs=0.7)


def test_maps_of_the_centre_crop_follow_boxes_of_the_stored_image() -> None:
    """Stored images may be larger than the model's input: the centre box then is the whole map."""
    from maskbench.data.augment import centre_boxes

    job = make_job("amt", images=8)
    strategy: Any = job.strategy
    strategy._data = replace(strategy._data, shown=16 / 20)
    strategy.maps[:] = torch.arange(16.0).add(1).to(strategy.maps.dtype)
    batch = replace(job.batch(0), boxes=centre_boxes(8, 20, 16))
    rows = [strategy.mask(batch, replace(job.context(0), step=n)).hidden for n in range(200)]
    often = torch.stack(rows).float().mean((0, 1))
    assert torch.corrcoef(torch.stack([often, torch.arange(16.0).sqrt()]))[0, 1] > 0.95


def test_amt_hides_in_proportion_to_the_map() -> None:
    job = make_job("amt", hidden=1)
    strategy: Any = job.strategy
    strategy.maps[:] = torch.tensor([1.0] * 8 + [3.0] * 8).to(strategy.maps.dtype)
    batch = job.batch(0)
    whole = replace(batch, boxes=torch.tensor([[0.0, 0, 1, 1]]).expand(len(batch), -1))
    context = job.context(0)
    hidden = torch.stack(
        [strategy.mask(whole, replace(context, step=step)).hidden for step in range(300)]
    )
    assert hidden.float().sum(-1).eq(1).all()
    assert float(hidden[..., 8:].float().mean() * 8) == pytest.approx(0.75, abs=0.03)


def test_amt_looks_at_all_images_at_every_tenth_but_the_last() -> None:
    job = make_job("amt", budget="100step")
    strategy: Any = job.strategy
    rows: list[Any] = []
    train(job, rows.append, lambda step: None)
    assert rows[-1]["amt/looks"] == 9
    assert [row["amt/looks"] for row in rows[::10]] == sorted(
        row["amt/looks"] for row in rows[::10]
    )
    per_image = module("amt").attention_flops(job.model.shape, "cls")
    assert strategy.spent() == {"feature extraction": 9 * 40 * per_image}
    attention = job.context(0).model.attention(strategy._data.images(torch.arange(40)))
    low, high = attention.amin(2, keepdim=True), attention.amax(2, keepdim=True)
    expected = ((attention - low) / (high - low)).mean(1)
    assert (
        torch.corrcoef(torch.stack([expected.flatten(), strategy.maps.float().flatten()]))[0, 1]
        > 0.5
    )


def test_adamae_learns_to_show_what_was_hard() -> None:
    """On fixed losses: the probability of hard patches rises; a free encoder gets no gradient."""
    job = made("adamae", weight=1.0)
    strategy: Any = job.strategy
    batch = job.batch(0)
    optimizer = torch.optim.AdamW(strategy.joint_parameters(), lr=1e-2)
    tokens = job.context(0).model.embed(batch.images)
    losses = torch.linspace(0.0, 2.0, 16).expand(len(batch), -1)
    for step in range(40):
        context = job.context(step)
        mask = strategy.mask(batch, context)
        with torch.no_grad():
            outcome = job.model(batch.images, mask)
        fixed = replace(outcome, patch_loss=losses.gather(1, mask.hidden_positions))
        optimizer.zero_grad()
        strategy.extra_loss(batch, fixed, context).backward()
        optimizer.step()
    p = strategy.net(tokens).exp()
    assert p[:, 8:].sum(1).mean() > 0.6
    assert all(parameter.grad is None for parameter in job.model.parameters())
