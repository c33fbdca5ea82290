"""The contract every registered strategy passes by existing."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conftest import SMALL, make_job
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskbench import registry, seeds
from maskbench.job import Job
from maskbench.mask import Mask
from maskbench.model import MaskedAutoencoder
from maskbench.shape import PRESETS, step_flops
from maskbench.strategy import Batch
from maskbench.train import Clock, train

NAMES = [entry.name for entry in registry.entries()]
every = pytest.mark.parametrize("name", NAMES)


def mask_at(job: Job, step: int, batch: Batch | None = None) -> Mask:
    with torch.no_grad():
        return job.strategy.mask(batch or job.feed.batch(0), job.context(step))


def weights(job: Job) -> Mapping[str, torch.Tensor]:
    return {name: value.clone() for name, value in job.model.state_dict().items()}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@every
def test_says_who_it_is(name: str) -> None:
    entry = next(entry for entry in registry.entries() if entry.name == name)
    assert entry.family
    assert entry.source
    assert len(entry.summary) > 20
    assert all(f.description for f in registry.load(name).Settings.model_fields.values())


@every
@pytest.mark.parametrize("hidden", [1, 7, 12, 15])
@pytest.mark.parametrize("batch", [1, 8])
def test_hides_exactly_as_many(name: str, hidden: int, batch: int) -> None:
    job = make_job(name, hidden=hidden, batch=batch)
    mask = mask_at(job, 0)
    mask.check(batch, job.grid)
    assert mask.hidden.device == job.device


@every
def test_same_key_same_mask_and_global_state_untouched(name: str) -> None:
    before = torch.random.get_rng_state()
    one, two = mask_at(make_job(name), 3), mask_at(make_job(name), 3)
    assert torch.equal(one.hidden, two.hidden)
    assert torch.equal(before, torch.random.get_rng_state())


@every
def test_another_seed_gives_other_masks(name: str) -> None:
    batch = make_job(name).feed.batch(0)
    one, two = mask_at(make_job(name), 3, batch), mask_at(make_job(name, seed=1), 3, batch)
    assert not torch.equal(one.hidden, two.hidden)


@every
def test_masks_change_in_training(name: str) -> None:
    job = make_job(name, budget="4step")
    batch = job.feed.batch(0)
    early = mask_at(job, 0, batch)
    train(job, Clock(), lambda row: None, lambda step, clock: None)
    assert not torch.equal(early.hidden, mask_at(job, 3, batch).hidden)


@every
def test_runs_are_repeatable_and_follow_the_seed(name: str) -> None:
    """The same seed ends in the same weights, bit for bit; another seed does not."""
    jobs = [make_job(name, seed=seed) for seed in (0, 0, 1)]
    for job in jobs:
        train(job, Clock(), lambda row: None, lambda step, clock: None)
    one, again, other = (weights(job) for job in jobs)
    assert same(one, again)
    assert not same(one, other)


@every
def test_looking_at_masks_disturbs_nothing(name: str) -> None:
    plain, watched = make_job(name), make_job(name)
    train(plain, Clock(), lambda row: None, lambda step, clock: None)

    def look(step: int, clock: Clock) -> None:
        batch = watched.feed.batch(0)
        with torch.no_grad():
            watched.strategy.mask(batch, watched.context(step, purpose="look"))

    train(watched, Clock(), lambda row: None, look)
    assert same(weights(plain), weights(watched))


@every
def test_after_step_leaves_the_model_alone(name: str) -> None:
    job = make_job(name)
    batch = job.feed.batch(0)
    outcome = job.model(batch.images, mask_at(job, 2))
    outcome.loss.backward()
    gradients = {n: p.grad.clone() for n, p in job.model.named_parameters() if p.grad is not None}
    before = weights(job)
    logged = job.strategy.after_step(batch, outcome, job.context(2))
    assert same(before, weights(job))
    after = {n: p.grad for n, p in job.model.named_parameters() if p.grad is not None}
    assert gradients.keys() == after.keys()
    assert same(gradients, after)
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in logged.values())


@every
def test_state_round_trip(name: str) -> None:
    """A fresh copy that loads the state continues exactly like the original."""
    job, twin = make_job(name), make_job(name, seed=5)
    train(job, Clock(), lambda row: None, lambda step, clock: None)
    twin.strategy.load_state_dict(job.strategy.state_dict())
    twin.model.load_state_dict(job.model.state_dict())
    batch = job.feed.batch(1)
    context = job.context(4)
    for one in (job, twin):
        outcome = one.model(batch.images, one.strategy.mask(batch, context))
        view = one.context(4).model
        one.strategy.after_step(batch, outcome, type(context)(**{**vars(context), "model": view}))
    assert torch.equal(
        job.strategy.mask(batch, context).hidden, twin.strategy.mask(batch, context).hidden
    )


@every
def test_finite_under_bfloat16(name: str) -> None:
    job = make_job(name)
    job = Job(**{**vars(job), "precision": "bf16"})
    rows: list[Mapping[str, Any]] = []
    train(job, Clock(), rows.append, lambda step, clock: None)
    assert rows


@every
def test_order_is_a_permutation_that_follows_seed_and_epoch(name: str) -> None:
    job = make_job(name)
    orders = [job.strategy.order(epoch, 40, job.context(0)) for epoch in (0, 1)]
    other = make_job(name, seed=1)
    assert all(order.sort().values.tolist() == list(range(40)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], other.strategy.order(0, 40, other.context(0)))


@every
@pytest.mark.parametrize("shape", [SMALL, PRESETS["nano"].shape, PRESETS["micro"].shape])
def test_cost_within_two_percent_of_a_counter(name: str, shape: Any) -> None:
    """A whole training step, counted on the math attention backend."""
    job = make_job(name, shape=shape, batch=4, hidden=shape.patches * 3 // 4)
    batch = job.feed.batch(0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        outcome = job.model(batch.images, mask_at(job, 2, batch))
        outcome.loss.backward()
        job.strategy.after_step(batch, outcome, job.context(2))
    expected = sum(step_flops(shape, job.grid.visible).values())
    expected += sum(job.strategy.cost(job.grid, shape).values())
    assert counter.get_total_flops() == pytest.approx(4 * expected, rel=0.02)


@every
def test_settings_are_frozen_and_serialise(name: str) -> None:
    settings = registry.load(name)().settings
    assert type(settings)(**settings.model_dump(mode="json")) == settings
    for field in type(settings).model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(settings, field, None)


def test_all_strategies_share_weights_order_and_crops() -> None:
    """What the strategy does not decide is the same for all of them."""
    jobs = [make_job(name) for name in NAMES]
    first = jobs[0]
    fresh = MaskedAutoencoder(SMALL, seeds.generator(0, "init")).state_dict()
    for job in jobs:
        assert same(fresh, job.model.state_dict())
        for step in (0, 4, 5):
            assert torch.equal(job.feed.batch(step).images, first.feed.batch(step).images)
            assert torch.equal(job.feed.batch(step).positions, first.feed.batch(step).positions)
