"""Streams depend on their key alone, and leave the global state alone."""

import torch

from maskbench import seeds


def draw(*key: object) -> list[float]:
    return torch.rand(4, generator=seeds.generator(*key)).tolist()  # type: ignore[arg-type]


def test_every_part_of_the_key_counts() -> None:
    keys = [(0, "mask", 0), (1, "mask", 0), (0, "init", 0), (0, "mask", 1), (0, "mask", 0, 1)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)
    assert draw(0, "mask", 7) == draw(0, "mask", 7)


def test_global_state_is_untouched() -> None:
    before = torch.random.get_rng_state()
    draw(3, "mask")
    seeds.uniform(seeds.key(3), torch.arange(5), 7)
    assert torch.equal(before, torch.random.get_rng_state())


def test_uniform_depends_on_row_not_on_batch() -> None:
    stream = seeds.key(5, "augment")
    rows = torch.tensor([4, 9, 2])
    together = seeds.uniform(stream, rows, 6)
    alone = torch.cat([seeds.uniform(stream, row.view(1), 6) for row in rows])
    assert torch.equal(together, alone)
    assert not torch.equal(together, seeds.uniform(seeds.key(6, "augment"), rows, 6))


def test_uniform_is_uniform_and_uncorrelated() -> None:
    """200,000 numbers: mean, variance, ten equal bins, and neighbours in both directions."""
    u = seeds.uniform(seeds.key(0, "test"), torch.arange(20000), 10).double()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(float(u.mean()) - 0.5) < 0.003
    assert abs(float(u.var()) - 1 / 12) < 0.001
    bins = torch.histc(u, 10, 0, 1)
    assert float(((bins - 20000) ** 2 / 20000).sum()) < 33  # chi-square, 9 df, p = 1e-4
    centred = u - 0.5
    assert abs(float((centred[1:] * centred[:-1]).mean())) < 0.001
    assert abs(float((centred[:, 1:] * centred[:, :-1]).mean())) < 0.001
