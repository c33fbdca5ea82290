"""The prototype curriculum against its recorded numbers, its equations, and its controls."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, make_job, noise_split
from safetensors.torch import load_file
from torch import Tensor

from maskbench import registry, seeds
from maskbench.budget import Budget, Plan
from maskbench.errors import UsageError
from maskbench.job import Job
from maskbench.mask import Grid
from maskbench.model import MaskedAutoencoder
from maskbench.optim import Schedule
from maskbench.strategy import Features, MaskStrategy
from maskbench.train import train

PROTOTYPES: Any = registry.load("prototypes").classes[0][1]  # type: ignore[attr-defined]
MATHS: Any = __import__("importlib").import_module("maskbench.strategies._effective")
UNIFORM = 1 - math.exp(-1)


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "reference" / "prototype_reference.safetensors")


def blobs(images: int = 400, seed: int = 0) -> Tensor:
    """Features in five clouds of different width."""
    stream = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(5, 6, generator=stream)
    which = torch.randint(5, (images,), generator=stream)
    return centres[which] + (1 + which[:, None]) * torch.randn(images, 6, generator=stream) / 3


def job_of(
    values: Tensor | None = None, *, seed: int = 0, epochs: int = 20, batch: int = 40, **sets: Any
) -> Job:
    """A job whose images have these features."""
    values = blobs() if values is None else values
    strategy = registry.load("prototypes")
    settings = strategy.Settings(prototypes={"clusters": 5, **sets})  # type: ignore[call-arg]
    plan = Plan.of(Budget.parse(f"{epochs}ep"), len(values), batch)
    return Job.of(
        MaskedAutoencoder(SMALL, seeds.generator(seed, "init")),
        strategy(settings),
        noise_split(len(values)),
        plan=plan,
        schedule=Schedule.of(8e-3, batch, 0.05, plan.steps),
        grid=Grid(4, 4, 12),
        weight_decay=0.05,
        seed=seed,
        device=torch.device("cpu"),
        features=lambda kind: Features(values, f"made up {kind}", {"feature extraction": 7}),
    )


def part(job: Job) -> Any:
    return job.strategy.parts["of_prototypes"]  # type: ignore[index]


def distinct(order: Tensor) -> float:
    return int((torch.bincount(order) > 0).sum()) / len(order)


@pytest.mark.shared
def test_recorded_curriculum(recorded: dict[str, Tensor]) -> None:
    """Targets, temperatures, probabilities and effective shares of the published code."""
    distance = recorded["distance"].double()
    strategy = PROTOTYPES(PROTOTYPES.Settings(length=1.0))
    for step in (0, 100, 250, 500, 750, 999):
        theirs = {
            name: recorded[f"{name}.it={step}"].double()
            for name in ("target", "tau", "prob", "neff")
        }
        target = strategy.target(step / 1000)
        assert target == pytest.approx(float(theirs["target"]), abs=1e-6)
        tau = MATHS.temperature(distance, target)
        p = MATHS.probabilities(distance, tau)
        assert MATHS.share(p) == pytest.approx(target, abs=1e-9)
        assert MATHS.share(p) == pytest.approx(float(theirs["neff"]), abs=1.01e-4)
        at_theirs = MATHS.probabilities(distance, float(theirs["tau"]))
        assert torch.allclose(at_theirs, theirs["prob"], rtol=1e-4, atol=0)
        assert MATHS.share(at_theirs) == pytest.approx(float(theirs["neff"]), abs=1e-5)
        if step < 999:  # at the end the share hardly depends on tau
            assert tau == pytest.approx(float(theirs["tau"]), rel=2e-3)
            assert torch.allclose(p, theirs["prob"], rtol=5e-3, atol=0)


@pytest.mark.shared
def test_recorded_distances(recorded: dict[str, Tensor]) -> None:
    """Our clusters give their distances; these were recorded on features as they are."""
    found = MATHS.cluster(recorded["features"].numpy(), 8, 42)
    both = torch.stack([found.distance, recorded["distance"].double()])
    assert torch.corrcoef(both)[0, 1] > 0.995
    assert (found.distance == 0).sum() == (recorded["distance"] == 0).sum() == 8


def test_share_rises_with_temperature_up_to_uniform() -> None:
    distance = torch.rand(3000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    distance[:300] = 0
    taus = torch.logspace(-5, 5, 60).tolist()
    shares = [MATHS.share(MATHS.probabilities(distance, tau)) for tau in taus]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.1, abs=1e-4)
    assert shares[-1] == pytest.approx(1 - (1 - 1 / 3000) ** 3000, abs=1e-9)
    assert shares[-1] == pytest.approx(UNIFORM, abs=1e-4)
    million = torch.full((1_280_000,), 1 / 1_280_000, dtype=torch.float64)
    assert MATHS.share(million) == pytest.approx(UNIFORM, abs=2e-7)  # float32 gives 0.6294


def test_toy_temperatures() -> None:
    """Uniform distances, 100,000 images; each also solves the integral it stands for."""
    distance = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    toys = {0.1: 0.0230, 0.2: 0.0586, 0.3: 0.1065, 0.5: 0.281, 0.6: 0.663}
    for target, tau in toys.items():
        assert MATHS.temperature(distance, target) == pytest.approx(tau, rel=5e-3)
        x = (np.arange(200_000) + 0.5) / 200_000
        density = np.exp(-x / tau) / (tau * (1 - np.exp(-1 / tau)))
        assert (1 - np.exp(-density)).mean() == pytest.approx(target, abs=6e-4)


def test_distances_on_a_clusters_own_scale() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    distance = np.array([1.0, 2.0, 5.0, 9.0, 3.0, 3.0 + 1e-12])
    assert MATHS.within(distance, labels).tolist() == [0, 0.25, 1, 0, 0, 0]
    values = MATHS.normalise(np.array([[1.0, 0.1, 3], [2, 0.1, 3], [6, 0.1, 1]], np.float32))
    assert (values[:, 1] == 0).all()
    assert np.linalg.norm(values, axis=1) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_an_epoch_shows_the_share_it_aims_at(schedule: str) -> None:
    job = job_of(blobs(20_000), schedule=schedule, length=1.0, first=0.2, batch=1000)
    shares = [distinct(job.order(epoch)) for epoch in range(20)]
    targets = [part(job).target(job.context(epoch * 20).progress) for epoch in range(20)]
    assert targets[0] == 0.2
    assert targets[-1] < UNIFORM
    assert np.abs(np.subtract(shares, targets)).max() < 0.01
    assert targets == sorted(targets)
    middle = part(job).target(0.25)
    risen = 0.25 if schedule == "linear" else (1 - math.cos(math.pi / 4)) / 2
    assert middle == pytest.approx(0.2 + (UNIFORM - 0.2) * risen)


def test_typical_images_come_first_and_outliers_first_in_the_control() -> None:
    easy, hard = job_of(blobs(4000)), job_of(blobs(4000), control="hard-first")
    distance = part(easy).distance
    assert torch.equal(part(hard).distance, 1 - distance)
    means = [float(distance[easy.order(epoch)].mean()) for epoch in range(11)]
    assert means[:10] == sorted(means[:10])
    assert means[0] < 0.5 * means[-1]
    assert means[-1] == pytest.approx(float(distance.mean()))
    reverse = [float(distance[hard.order(epoch)].mean()) for epoch in range(11)]
    assert reverse[0] > reverse[5] > reverse[-1]


def test_shuffled_keeps_the_shares_and_drops_the_meaning() -> None:
    easy, lot = job_of(blobs(4000)), job_of(blobs(4000), control="shuffled")
    one, other = part(easy).distance, part(lot).distance
    assert torch.equal(one.sort().values, other.sort().values)
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.05
    for epoch in range(5):
        assert distinct(lot.order(epoch)) == pytest.approx(distinct(easy.order(epoch)), abs=0.02)
        assert float(one[lot.order(epoch)].mean()) == pytest.approx(float(one.mean()), abs=0.03)


def test_fixed_temperature_stays_to_the_end() -> None:
    job = job_of(blobs(4000), control="fixed-tau", tau=0.1)
    expected = MATHS.share(MATHS.probabilities(part(job).distance, 0.1))
    shares = [distinct(job.order(epoch)) for epoch in (0, 10, 19)]
    assert shares == pytest.approx([expected] * 3, abs=0.02)
    assert expected < 0.5


@pytest.mark.parametrize("after", ["shuffle", "replacement"])
def test_after_the_curriculum_all_images_count_alike(after: str) -> None:
    job = job_of(blobs(1000), after=after, epochs=200, length=0.1)
    plain = make_job("random", images=1000)
    orders = [job.order(epoch) for epoch in range(100, 200)]
    seen = torch.bincount(torch.cat(orders), minlength=1000).double()
    if after == "shuffle":
        assert (seen == 100).all()
        assert torch.equal(orders[0], plain.order(100))
    else:
        assert np.mean([distinct(order) for order in orders]) == pytest.approx(UNIFORM, abs=5e-3)
        assert float(((seen - 100) ** 2 / 100).mean()) == pytest.approx(1, abs=0.15)
        both = torch.stack([seen, part(job).distance])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.12


def test_orders_follow_the_seed_and_the_epoch_alone() -> None:
    before = torch.random.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    one, again, other = job_of(), job_of(), job_of(seed=1)
    assert torch.equal(part(one).distance, part(again).distance)
    assert torch.equal(one.order(3), again.order(3))
    assert not torch.equal(one.order(3), one.order(2))
    assert not torch.equal(one.order(3), other.order(3))
    assert torch.equal(before, torch.random.get_rng_state())
    now = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    assert (numpy_before == now).all()


def test_state_holds_distances_costs_and_prior() -> None:
    job, twin = job_of(epochs=2), job_of(blobs(seed=3), seed=5)
    rows: list[Any] = []
    train(job, rows.append, lambda step: None)
    assert rows[0]["prototypes/target"] == 0.3
    assert rows[-1]["prototypes/target"] == 1.0
    assert 0 < rows[0]["prototypes/tau"] < 1
    state = job.strategy.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    twin.strategy.load_state_dict(state)
    assert torch.equal(part(twin).distance, part(job).distance)
    assert int(part(twin).clusters) == 5
    assert twin.strategy.prior() == job.strategy.prior() == "made up pixels-pca"
    spent = twin.strategy.spent()
    assert spent == job.strategy.spent()
    assert spent["feature extraction"] == 7
    assert spent["clustering"] > 2 * 400 * 5 * 6


def test_number_of_clusters() -> None:
    """The Davies-Bouldin index finds 16 clear clouds; a number that is given stays."""
    stream = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(16, 24, generator=stream), dim=1)
    values = centres.repeat(60, 1) + 0.02 * torch.randn(960, 24, generator=stream)
    assert int(part(job_of(values, clusters=0)).clusters) == 16
    assert int(part(job_of(values, clusters=3)).clusters) == 3
    assert MATHS.counts(40) == [4]
    assert MATHS.counts(960) == [8, 16, 32, 64]
    assert MATHS.counts(50_000)[-1] == 1024
    assert MATHS.counts(5) == [1]


@pytest.mark.parametrize(
    ("values", "sets", "says"),
    [
        (blobs(), {"clusters": 401}, "clusters=401 is too many for 400 training images"),
        (blobs(), {"clusters": 200}, "choose fewer clusters"),
        (torch.full((400, 6), 0.1), {}, "so none is more typical"),
        (blobs().log(), {}, "are not finite"),
    ],
)
def test_features_that_cannot_be_ordered(values: Tensor, sets: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        job_of(values, **sets)


def test_a_target_below_all_temperatures_is_no_error() -> None:
    """A target below what the nearest images alone give ends at the coldest temperature."""
    distance = torch.zeros(100, dtype=torch.float64)
    distance[50:] = 1
    tau = MATHS.temperature(distance, 0.3)
    order = MATHS.draw(MATHS.probabilities(distance, tau), seeds.generator(0, "draw"))
    assert int(order.max()) < 50


def test_without_setup_there_is_a_whole_strategy() -> None:
    strategy = PROTOTYPES()
    assert isinstance(strategy, MaskStrategy)
    assert strategy.prior() == ""
    assert dict(strategy.spent()) == {}
