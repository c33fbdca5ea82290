"""Batches: every image once per epoch, exactly the budget, a function of the step alone."""

from collections import Counter

import torch
from conftest import make_job


def test_every_epoch_shows_every_image_once_across_batch_borders() -> None:
    job = make_job(budget="3ep", images=20, batch=8)
    seen = [
        job.feed.where(step, job.order, job.turn(step).images) for step in range(job.plan.steps)
    ]
    epochs, positions = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert len(positions) == 60
    for epoch in range(3):
        assert Counter(positions[epochs == epoch].tolist()) == Counter(range(20))


def test_last_batch_is_cut_to_the_budget() -> None:
    job = make_job(budget="21img", images=20, batch=8)
    assert [len(job.batch(step).images) for step in range(job.plan.steps)] == [8, 8, 5]


def test_a_batch_depends_on_its_step_only() -> None:
    forward, backward = make_job(budget="5ep"), make_job(budget="5ep")
    steps = range(forward.plan.steps)
    one = {step: forward.batch(step).images for step in steps}
    other = {step: backward.batch(step).images for step in reversed(steps)}
    assert all(torch.equal(one[step], other[step]) for step in steps)


def test_the_same_image_is_cropped_anew_in_every_epoch() -> None:
    job = make_job(budget="2ep", images=8, batch=8)
    first, again = job.batch(0), job.batch(1)
    a, b = first.images[first.positions.argsort()], again.images[again.positions.argsort()]
    assert not torch.allclose(a, b)
