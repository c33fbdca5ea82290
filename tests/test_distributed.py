"""Several processes train what one would: losses of the whole batch, uneven parts, everything."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_job, noise_split
from test_contract import NAMES

from maskbench.contract import Subject, pairs, worker
from maskbench.contract.replicas import SAME, End, Team
from maskbench.data.feed import Feed

SOME = [name for name in ("random", "clmae", "hpm", "amt") if name in NAMES]

PROCESS = """
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist

from maskbench import distributed as ours

rank, world, meeting = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=world,
                        timeout=timedelta(seconds=60))


class Alone:
    def __init__(self, images): pass
    def mean(self, values): return values.mean()
    def total(self, values): return values.sum()
    def gather(self, values): return values


class Together(Alone):
    def __init__(self, images): self.images = images
    def mean(self, values): return ours.mean(values, self.images)
    def total(self, values): return ours.total(values, self.images)
    def gather(self, values): return ours.gather(values, self.images)


LOSSES = {
    "mean over own images": lambda x, w, all: (x @ w).square().mean(),
    "no image": lambda x, w, all: w.square().sum(),
    "mean": lambda x, w, all: all.mean((x @ w).sin()),
    "power of a mean": lambda x, w, all: all.mean((x @ w).sin()) ** 3,
    "total": lambda x, w, all: all.total((x @ w).cos()),
    "one normaliser": lambda x, w, all: all.total((x @ w).exp()) / all.total((x @ w).square()),
    "pairs": lambda x, w, all: (-torch.pdist(all.gather(x @ w))).exp().sum(),
    "pairs of own and all": lambda x, w, all: torch.cdist(x @ w, all.gather((x @ w).sin())).mean(),
    "own times all": lambda x, w, all: ((x @ w) * all.mean((x @ w).cos())).square().mean(),
    "a few at once": lambda x, w, all: (x @ w).mean() + all.total(x @ w) * all.mean(x @ w.sin()),
}

for images in (7, 6, 2, 1):
    x = torch.randn(images, 5, 4, generator=torch.Generator().manual_seed(images)).double()
    own = ours.part(images, ours.share())
    mine = x[own.start : max(own.stop, own.start + 1)]
    for name, loss in LOSSES.items():
        w = torch.linspace(-0.4, 0.8, 12).double().view(4, 3)
        results = []
        for rows, all in ((x, Alone(images)), (mine, Together(images))):
            v = w.clone().requires_grad_()
            flat = (rows.mean(1), v, all)
            value = loss(*flat)
            (gradient,) = torch.autograd.grad(value, v)
            results.append((value.detach(), gradient))
        (value, gradient), (ours_value, ours_gradient) = results
        ours.average([ours_value, ours_gradient], images)
        where = f"{name}, {images} images, process {rank}"
        assert torch.allclose(value, ours_value, rtol=1e-12, atol=1e-14), where
        assert torch.allclose(gradient, ours_gradient, rtol=1e-12, atol=1e-14), where
    places = torch.arange(images)
    company = places[own.start : max(own.stop, own.start + 1)]
    assert ours.gather(company, images).tolist() == places.tolist()
    assert ours.gather(company > 0, images).tolist() == (places > 0).tolist()
    assert int(ours.total(company > 0, images)) == images - 1
    assert float(ours.mean(company.bfloat16(), images)) == float(places.bfloat16().mean())
    numbers = {"place": float(company.float().mean()), "all": 3.0}
    numbers = ours.averages(numbers, images, torch.device("cpu"))
    assert numbers == {"place": (images - 1) / 2, "all": 3.0}, numbers

try:
    ours.mean(torch.zeros(9), 7)
except ValueError as error:
    assert "one row per image of this process" in str(error)
else:
    raise AssertionError("nine rows are too many")

made = []
assert ours.once(lambda: made.append(rank) or rank) == 0
assert made == ([0] if rank == 0 else [])
try:
    ours.once(lambda: {}["nothing"])
except KeyError as error:
    assert "nothing" in str(error)
else:
    raise AssertionError("an error of the first process is everybody's")
dist.destroy_process_group()
"""


def test_numbers_of_the_whole_batch_and_their_gradients(tmp_path: Path) -> None:
    """Three processes with parts of 7, 6, 2 and 1 images against one big batch, in float64."""
    command = [sys.executable, "-c", PROCESS]
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else None
    workers = [
        subprocess.Popen(
            [*command, str(rank), "3", str(tmp_path / "meeting")],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    told = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], "\n".join(told)


@pytest.mark.parametrize(("images", "processes"), [(8, 2), (7, 3), (2, 3), (1, 4)])
def test_parts_cut_the_batch_and_who_has_none_gets_company(images: int, processes: int) -> None:
    job, split, device = make_job(), noise_split(20), torch.device("cpu")
    parts = [
        Feed(split, images, seed=0, side=16, device=device, share=(rank, processes))
        for rank in range(processes)
    ]
    whole = Feed(split, images, seed=0, side=16, device=device)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    batches = [feed.batch(0, lambda epoch: order) for feed in parts]
    counts = [images * (r + 1) // processes - images * r // processes for r in range(processes)]
    assert [len(batch) for batch in batches] == [max(count, 1) for count in counts]
    rows = [batch.images[:count] for batch, count in zip(batches, counts, strict=True)]
    assert torch.equal(torch.cat(rows), whole.batch(0, lambda epoch: order).images)
    assert [batch.first for batch in batches] == [sum(counts[:r]) for r in range(processes)]
    assert all(torch.equal(feed.seen, whole.seen) for feed in parts)
    assert job.context(0).images == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("team", "names"),
    [
        pytest.param(Team(2, 7, "134img"), NAMES, id="2, last step of 1"),
        pytest.param(Team(2, 8, "157img"), NAMES, id="2, last step of 5"),
        pytest.param(Team(3, 7, "135img"), SOME, id="3, last step of 2"),
        pytest.param(Team(3, 8, "157img"), SOME, id="3, last step of 5"),
    ],
)
def test_twenty_steps_of_several_processes_are_those_of_one(team: Team, names: list[str]) -> None:
    """All values and all logged numbers; the model's to 1e-5, but for what is noise in itself."""
    assert Subject("random").job(batch=team.batch, budget=team.budget).plan.steps == 20
    for name, pair in pairs(names, team).items():
        first, *others = pair.ends
        assert [end.error for end in pair.ends] == [""] * team.processes, name
        assert first.start != first.end, name
        assert all(end.state == first.state for end in others), name
        assert not first.further_than_rounding, name
        model = {p: apart for p, (apart, _) in first.alone.items() if p.startswith("model.")}
        noise = [path for path in model if path.endswith("attn.qkv.bias")]
        assert max(apart for path, apart in model.items() if path not in noise) < SAME, name


def test_what_seems_further_than_rounding_is_nudged_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two walks of one number may end side by side by chance; what no nudge moves stays far."""
    values = {"walk": 5.0, "wrong": 5.0, "same": 0.0}
    looks: list[int] = []

    def distances(_: Any, state: Any) -> dict[str, float]:
        if state == "theirs":
            return values
        return {"walk": 3.0 if len(looks) == 2 else 1e-3, "wrong": 0.0, "same": 0.0}

    monkeypatch.setattr(worker, "distances", distances)
    monkeypatch.setattr(worker, "leaves", lambda state: dict.fromkeys(values, torch.zeros(1)))
    monkeypatch.setattr(worker, "_trained", lambda job: job)
    monkeypatch.setattr(worker, "_job", lambda team, name: name)
    monkeypatch.setattr(worker, "_nudged", lambda job, look: looks.append(look))
    alone = worker._from_one(Team(), "any", "theirs")
    assert End(alone=alone).further_than_rounding == {"wrong": 5.0}
    assert looks == [0, 1, 2, 3]
    values.pop("wrong")
    looks.clear()
    worker._from_one(Team(), "any", "theirs")
    assert looks == [0, 1]


def test_nudges_differ_and_change_a_last_bit_alone() -> None:
    start = make_job().model.state_dict()
    ends = [worker._nudged(make_job(), look).model.state_dict() for look in range(2)]
    name = "blocks.0.mlp.fc1.weight"
    assert not torch.equal(ends[0][name], ends[1][name])
    for end in ends:
        assert 0 < float((end[name] / start[name] - 1).abs().max()) < 3e-7
