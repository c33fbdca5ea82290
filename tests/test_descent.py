"""What probes that are trained share: rates, batches, recipes of others, mixing, scores."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from timm.data import Mixup
from torch import Tensor, nn

from maskbench.errors import DivergedError, UsageError
from maskbench.events import Silent
from maskbench.probes import mixing
from maskbench.probes.descent import Course, descend
from maskbench.probes.labelled import score, short
from maskbench.probes.recipes import lars


def course(images: int = 20, **changes: Any) -> Course:
    given: dict[str, Any] = {"epochs": 10, "batch": 8, "peak": 0.5, "warmup": 2, "seed": 3}
    return Course(images, **{**given, **changes})


class TestCourse:
    def test_warms_up_linearly_and_ends_at_zero(self) -> None:
        told = course()
        assert (told.pieces, told.steps) == (3, 30)
        assert [told.rate(step) for step in (0, 3, 6)] == pytest.approx([0, 0.25, 0.5])
        assert told.rate(18) == pytest.approx(0.25)
        assert told.rate(told.steps) == pytest.approx(0, abs=1e-12)
        rates = [told.rate(step) for step in range(6, 31)]
        assert rates == sorted(rates, reverse=True)

    def test_the_rate_is_mae_s(self) -> None:
        """mae/util/lr_sched.py: by the epoch and the share of it that is done."""
        told = course(epochs=90, warmup=10, peak=6.4)
        for step in range(told.steps):
            epoch = step / told.pieces
            half = 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 80))
            assert told.rate(step) == pytest.approx(6.4 * (epoch / 10 if epoch < 10 else half))

    def test_warm_up_takes_at_most_half(self) -> None:
        told = course(epochs=4, warmup=10)
        assert max(range(told.steps), key=told.rate) == told.steps // 2

    @pytest.mark.parametrize("images", [2, 15, 512, 513, 1025])
    def test_an_epoch_sees_every_image_once_and_has_a_step(self, images: int) -> None:
        parts = course(images, batch=512).order(0)
        assert sorted(torch.cat(parts).tolist()) == list(range(images))
        assert len(parts) == math.ceil(images / 512)
        assert all(1 < len(part) <= 512 for part in parts)

    def test_order_is_keyed(self) -> None:
        def said(epoch: int, seed: int) -> list[int]:
            found: list[int] = torch.cat(course(seed=seed).order(epoch)).tolist()
            return found

        torch.manual_seed(0)
        state = torch.random.get_rng_state()
        assert said(0, 3) == said(0, 3)
        assert said(0, 3) != said(1, 3)
        assert said(0, 3) != said(0, 4)
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch": 1}, {"warmup": -1}])
    def test_what_cannot_be_is_refused(self, changes: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="at least one epoch"):
            course(**changes)


class TestDescent:
    def test_a_loss_that_is_not_finite_ends_it(self) -> None:
        weight = nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([weight])
        with pytest.raises(DivergedError, match=r"toy.*epoch 1 of 10.*lower"):
            descend(
                course(),
                optimizer,
                lambda places, epoch, step: (weight * math.nan).sum(),
                label="toy",
                progress=Silent(),
            )

    def test_problems_do_not_meet(self) -> None:
        """One of two diverges; the other ends where it would alone, at its own rate."""

        def end(problems: int) -> Tensor:
            weights = [nn.Parameter(torch.tensor([1.0])) for _ in range(problems)]
            groups = [{"params": [w], "lr_scale": 0.1} for w in weights]

            def losses(places: Tensor, epoch: int, step: int) -> Tensor:
                bent = [weights[0].square(), weights[-1] * math.inf]
                return torch.cat(bent[:problems])

            optimizer = torch.optim.SGD(groups, lr=0.0)
            found = descend(course(), optimizer, losses, label="toy", progress=Silent())
            assert found[-1][0] < found[0][0]
            return weights[0].detach()

        assert torch.equal(end(1), end(2))
        assert 0 < end(1) < 1


def test_lars_is_mae_s_by_hand() -> None:
    """Matrices move by rate x 0.001 x |w| / |g| x g although nothing decays; vectors by SGD."""
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = lars(layer, momentum=0.9, weight_decay=0.0)
    gradients = [torch.full_like(p, 2.0 + i) for i, p in enumerate(layer.parameters())]
    moved = [torch.zeros_like(p) for p in before]
    for _ in range(2):
        for group in optimizer.param_groups:
            group["lr"] = 0.5
        for p, g in zip(layer.parameters(), gradients, strict=True):
            p.grad = g.clone()
        trust = 0.001 * before[0].norm() / gradients[0].norm()
        for place, step in enumerate((trust * gradients[0], gradients[1])):
            moved[place] = 0.9 * moved[place] + step
            before[place] = before[place] - 0.5 * moved[place]
        optimizer.step()
    for p, wanted in zip(layer.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), wanted)


class Scripted:
    """A numpy generator that says what it is told, to be compared with timm's global stream."""

    def __init__(self, kind: float, keep: float, centres: list[int]) -> None:
        self.kind, self.keep, self.centres = kind, keep, iter(centres)

    def random(self) -> float:
        return self.kind

    def beta(self, a: float, b: float) -> float:
        return self.keep

    def integers(self, side: int) -> int:
        return next(self.centres)


@pytest.mark.parametrize("kind", [0.2, 0.8])
@pytest.mark.parametrize("centres", [[4, 5], [0, 7]])
def test_mixing_equals_timm(
    kind: float, centres: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 3, 1])
    scripted = Scripted(kind, 0.3, centres)
    targets = mixing.soft_targets(labels, 4, 0.1)
    random: Any = scripted
    found = mixing.mix(images, targets, mixup=0.8, cutmix=1.0, random=random)
    again = iter(centres)
    monkeypatch.setattr(np.random, "rand", lambda *size: kind)
    monkeypatch.setattr(np.random, "beta", lambda a, b: 0.3)
    monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: next(again))
    theirs = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=4)
    wanted = theirs(images.clone(), labels)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other)


def test_mixing_takes_odd_batches_and_can_be_off() -> None:
    images, targets = torch.rand(3, 3, 8, 8), torch.eye(3)
    rng = np.random.default_rng(0)
    same = mixing.mix(images, targets, mixup=0, cutmix=0, random=rng)
    assert same[0] is images
    mixed, shares = mixing.mix(images, targets, mixup=0.8, cutmix=0, random=rng)
    torch.testing.assert_close(mixed[1], images[1])
    torch.testing.assert_close(shares.sum(1), torch.ones(3))


def test_erasing_is_a_rectangle_of_noise_in_a_share_of_images() -> None:
    images, places = torch.zeros(2000, 3, 16, 20), torch.arange(2000)
    told: dict[str, Any] = {"seed": 1, "epoch": 0, "step": 0, "places": places}
    found = mixing.erase(images, 0.25, **told)
    assert torch.equal(found, mixing.erase(images, 0.25, **told))
    gone = (found != 0).all(1)
    assert torch.equal(gone, (found != 0).any(1))
    hit = gone.flatten(1).any(1)
    assert float(hit.float().mean()) == pytest.approx(0.25, abs=0.03)
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    area = gone.sum((1, 2))
    assert torch.equal(area, rows * columns)
    share = area[hit] / (16 * 20)
    assert 0.01 < share.min() < 0.04
    assert 0.3 < share.max() < 0.36
    assert mixing.erase(images, 0.0, **told) is images
    assert not torch.equal(found, mixing.erase(images, 0.25, **{**told, "epoch": 1}))
    alone = mixing.erase(images[:5], 0.25, **{**told, "places": places[7:12]})
    assert torch.equal((alone != 0).all(1), gone[7:12])  # where depends on the image alone


def test_score_counts_classes_alike_and_those_that_occur() -> None:
    logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [9.0, 0, 0], [9.0, 0, 0]])
    found = score(logits, np.array([0, 0, 0, 1]))
    assert found["accuracy"] == 0.75
    assert found["macro_accuracy"] == 0.5
    assert found["nll"] == pytest.approx(-math.log(1 / (1 + 2 * math.exp(-9))) + 9 / 4)
    with pytest.raises(DivergedError, match="1 of 4 images"):
        score(logits.index_fill(0, torch.tensor([2]), math.nan), np.array([0, 0, 0, 1]))


def test_rates_have_short_names() -> None:
    assert [short(x) for x in (1e-3, 2.5e-4, 0.1, 3e-2, 1.0)] == [
        "1e-3", "2.5e-4", "1e-1", "3e-2", "1e+0",
    ]  # fmt: skip
