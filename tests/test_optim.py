"""Schedules as functions of the budget fraction, and what is decayed."""

import shutil
import warnings
from typing import Any

import pytest
import torch
from conftest import SMALL, make_job
from timm.scheduler import CosineLRScheduler

from maskbench import seeds
from maskbench.job import Job
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule, adamw
from maskbench.train import train


def nothing(*_: Any) -> None:
    """Nobody logs, nobody looks."""


def test_half_cosine_equals_timms() -> None:
    schedule = Schedule(peak=1e-3, warmup=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    theirs = CosineLRScheduler(optimizer, t_initial=900, warmup_t=0, lr_min=0)
    for step in range(0, 900, 50):
        assert schedule.rate(0.1 + step / 1000) == pytest.approx(theirs._get_lr(step)[0])


def test_warm_up_is_linear_and_has_a_floor_in_steps() -> None:
    schedule = Schedule.of(base_lr=2e-3, batch=128, warmup=0.05, steps=1000)
    assert schedule.peak == pytest.approx(1e-3)
    assert schedule.rate(0.025) == pytest.approx(0.5e-3)
    assert schedule.rate(1.0) == pytest.approx(0, abs=1e-12)
    assert Schedule.of(1e-3, 256, 0.05, steps=50).warmup == pytest.approx(10 / 50)
    assert Schedule.of(1e-3, 256, 0.05, steps=4).warmup == 0.5


def test_biases_norms_and_tokens_are_not_decayed() -> None:
    model = MaskedAutoencoder(SMALL, seeds.generator(0, "init"))
    groups = adamw(model, [], 0.05).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    decayed = {names[id(p)] for p in groups[0]["params"]}
    plain = {names[id(p)] for p in groups[1]["params"]}
    assert groups[0]["weight_decay"] == 0.05
    assert groups[1]["weight_decay"] == 0
    assert decayed | plain == set(names.values())
    assert "blocks.0.attn.qkv.weight" in decayed
    assert "patch_embed.proj.weight" in decayed
    assert {"cls_token", "mask_token", "norm.weight", "blocks.0.attn.qkv.bias"} <= plain


def test_one_step_trains_and_the_loss_falls() -> None:
    before = MaskedAutoencoder(SMALL, seeds.generator(0, "init")).state_dict()
    one = make_job(budget="1step")
    train(one, nothing, nothing)
    assert not torch.equal(before["norm.weight"], one.model.state_dict()["norm.weight"])
    rows: list[Any] = []
    train(make_job(budget="60step"), rows.append, nothing)
    losses = [row["loss"] for row in rows]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "clmae"])
def test_a_compiled_step_gives_the_same_losses(name: str) -> None:
    """To 1e-5, last incomplete batch included."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    losses: dict[bool, list[float]] = {}
    for compiled in (False, True):
        rows: list[Any] = []
        job = make_job(name, budget="36img")
        job = Job(**{**vars(job), "compile": compiled})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train(job, rows.append, nothing)
        losses[compiled] = [row["loss"] for row in rows]
        assert (job.clock.parts["compilation"] > 0) == compiled  # its time is listed apart
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)


def test_a_schedule_of_ratios_is_compiled_once_more_and_not_for_every_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five numbers of hidden patches: a graph with a fixed number, then one for all others."""
    graphs: dict[str, int] = {}

    def counting(name: str) -> Any:
        def backend(module: Any, inputs: Any) -> Any:
            graphs[name] = graphs.get(name, 0) + 1
            return module.forward

        return lambda model: compile_(model, backend=backend)

    compile_ = torch.compile
    for name in ("random", "ratio"):
        torch.compiler.reset()
        monkeypatch.setattr(torch, "compile", counting(name))
        job = Job(**{**vars(make_job(name, budget="30step")), "compile": True})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train(job, lambda row: None, nothing)
    torch.compiler.reset()
    assert len(job.pace.images) == 5
    assert graphs["ratio"] == graphs["random"] + 1
