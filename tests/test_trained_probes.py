"""Probes that are trained: what they find, what they leave alone, what they never look at."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toys import (
    backbone,
    first,
    relabelled,
    scenes,
)

from maskbench import seeds
from maskbench.errors import DataError, DivergedError
from maskbench.probes.attentive import (
    AttentiveSettings,
    attentive,
)
from maskbench.probes.clmae_protocol import ClmaeSettings, clmae_protocol
from maskbench.probes.fewshot import subsets
from maskbench.probes.finetune import Classifier, DropPath, FinetuneSettings, finetune
from maskbench.probes.linear import LinearSettings, linear_head, linear_lars
from maskbench.probes.recipes import layerwise_adamw

ATTENTIVE = AttentiveSettings(rates=(1e-3, 3e-2), epochs=3)
LINEAR = LinearSettings(epochs=3, batch=100)
CLMAE = ClmaeSettings(shots=(1, 4), draws=2, epochs=4, warmup=1)
FINETUNE = FinetuneSettings(epochs=2, batch=64, train_images=160)

KEYS = {
    *("probe", "metric", "feature", "layer", "shots", "draw", "accuracy", "macro_accuracy"),
    *("nll", "n_train", "n_test", "classes", "settings"),
}

Probe = Callable[..., list[dict[str, Any]]]
PROBES = [
    pytest.param(attentive, ATTENTIVE, id="attentive"),
    pytest.param(linear_lars, LINEAR, id="linear-lars"),
    pytest.param(clmae_protocol, CLMAE, id="clmae-protocol"),
    pytest.param(finetune, FINETUNE, id="finetune"),
]


def global_streams() -> list[str]:
    """What nobody may draw from."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return [str(torch.random.get_rng_state().tolist()), str(random.getstate()), str(numpy)]


@pytest.mark.parametrize(("probe", "settings"), PROBES)
def test_rows_are_plain_repeatable_and_leave_everything_alone(
    probe: Probe, settings: Any, request: pytest.FixtureRequest
) -> None:
    given, images = backbone(), scenes()
    given.encoder.train()
    weights = {name: value.clone() for name, value in given.encoder.state_dict().items()}
    streams = global_streams()
    rows = probe(given, images, seed=4, settings=settings)
    again = probe(given, images, seed=4, settings=settings)
    other = probe(given, images, seed=5, settings=settings)
    assert rows == again
    assert [row["nll"] for row in rows] != [row["nll"] for row in other]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert row.keys() - {"oracle_best_epoch"} == KEYS
        assert row["probe"] == request.node.callspec.id
        assert row["metric"].startswith(f"{row['probe']}/{row['feature']}/last/")
        assert (row["n_test"], row["classes"]) == (100, 10)
        assert 0 <= row["accuracy"] <= 1
    assert given.encoder.training
    assert not any(p.requires_grad for p in given.encoder.parameters())
    for name, value in given.encoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert global_streams() == streams


@pytest.mark.parametrize(("probe", "settings"), PROBES)
def test_data_without_classes_is_refused(probe: Probe, settings: Any) -> None:
    images = scenes()
    for lacking in (
        replace(images, test=None),
        replace(images, train=replace(images.train, labels=None)),
        replace(images, classes=("one",)),
    ):
        with pytest.raises(DataError, match="needs labels"):
            probe(backbone(), lacking, seed=0, settings=settings)


@pytest.mark.parametrize(("probe", "settings"), PROBES)
def test_an_encoder_that_diverged_is_named(probe: Probe, settings: Any) -> None:
    given = backbone()
    nn.init.constant_(given.encoder.get_parameter("blocks.1.mlp.fc1.bias"), float("nan"))
    with pytest.raises(DivergedError, match=r"not finite.*checkpoint"):
        probe(given, scenes(), seed=0, settings=settings)


class TestLinear:
    def test_fifteen_images_in_batches_of_512_train(self) -> None:
        """The published loader drops the only batch."""
        images = first(scenes(), 15)
        brief = LinearSettings(epochs=1, base_lr=1e-6)
        before = linear_lars(backbone(), images, seed=0, settings=brief)[0]
        long = LinearSettings(epochs=20, warmup=2, base_lr=5.0)
        after = linear_lars(backbone(), images, seed=0, settings=long)[0]
        assert after["settings"]["steps"] == 20
        assert after["settings"]["loss"] < before["settings"]["loss"] - 0.1

    def test_the_rate_scales_with_the_batch(self) -> None:
        row = linear_lars(backbone(), scenes(), seed=0, settings=LINEAR)[0]
        assert row["settings"]["lr"] == pytest.approx(0.1 * 100 / 256)
        assert row["settings"]["steps"] == 3 * 2
        assert row["metric"] == "linear-lars/cls/last/lars/blr1e-1/3ep"

    def test_both_features(self) -> None:
        rows = [
            linear_lars(backbone(), scenes(), seed=0, settings=replace(LINEAR, feature=name))[0]
            for name in ("cls", "patchmean")
        ]
        assert rows[0]["nll"] != rows[1]["nll"]
        assert [row["feature"] for row in rows] == ["cls", "patchmean"]

    def test_the_head_starts_as_published(self) -> None:
        norm, linear = linear_head(4000, 10, 0)
        assert isinstance(norm, nn.BatchNorm1d)
        assert not norm.affine
        assert norm.eps == 1e-6
        assert isinstance(linear, nn.Linear)
        assert float(linear.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
        assert not linear.bias.any()


class TestClmaeProtocol:
    def test_runs_are_subsets_and_the_best_epoch_is_apart(self) -> None:
        images = scenes()
        rows = clmae_protocol(backbone(), images, seed=0, settings=CLMAE)
        assert [(r["draw"], r["shots"], r["n_train"]) for r in rows] == [
            (0, 1, 10), (0, 4, 40), (1, 1, 10), (1, 4, 40),
        ]  # fmt: skip
        for row in rows:
            assert row["probe"] == "clmae-protocol"
            assert row["settings"]["lr"] == 0.1
            assert row["settings"]["steps"] == 4
            assert row["oracle_best_epoch"] >= row["accuracy"]
        assert len({row["nll"] for row in rows}) == 4

    def test_labels_outside_the_subsets_are_not_looked_at(self) -> None:
        images = scenes()
        assert images.train.labels is not None
        ids, labels = images.train.ids, images.train.labels
        told = {"dataset": "scenes", "draw": 0, "shots": (4,)}
        chosen = subsets(ids, labels, images.classes, **told)[4]  # type: ignore[arg-type]
        hidden = images.train.images.copy()
        hidden[np.setdiff1d(np.arange(len(ids)), chosen)] = 0
        blank = replace(images, train=replace(images.train, images=hidden))
        settings = replace(CLMAE, shots=(4,), draws=1)
        found = [
            clmae_protocol(backbone(), data, seed=0, settings=settings) for data in (images, blank)
        ]
        assert found[0] == found[1]

    def test_shots_that_no_class_can_fill(self) -> None:
        with pytest.raises(DataError, match="no few-shot subset"):
            clmae_protocol(backbone(), first(scenes(), 5), seed=0, settings=CLMAE)


class TestFinetune:
    def test_lowers_the_loss(self) -> None:
        plain = FinetuneSettings(
            epochs=5, batch=32, base_lr=1e-2, mixup=0, cutmix=0, erase=0, drop_path=0,
            smoothing=0, train_images=160,
        )  # fmt: skip
        row = finetune(backbone(), scenes(), seed=0, settings=plain)[0]
        assert row["settings"]["loss"] < row["settings"]["first_loss"] - 0.1
        assert row["settings"]["steps"] == 5 * 5

    def test_rates_decay_by_depth(self) -> None:
        given = backbone()
        model = Classifier(given.copied(), 10, seeds.generator(0, "head"))
        optimizer = layerwise_adamw(model, weight_decay=0.05, layer_decay=0.65)
        told = {
            id(p): (group["lr_scale"], group["weight_decay"])
            for group in optimizer.param_groups
            for p in group["params"]
        }
        assert optimizer.defaults["betas"] == (0.9, 0.999)
        names = dict(model.named_parameters())
        assert set(told) == {id(p) for p in names.values()}
        for name, parameter in names.items():
            part = name.removeprefix("encoder.").split(".")
            place = {"blocks": 1 + int(part[1]) if part[0] == "blocks" else 0}.get(part[0], 0)
            place = given.depth + 1 if part[0] in ("fc_norm", "head") else place
            scale, decay = told[id(parameter)]
            assert scale == pytest.approx(0.65 ** (given.depth + 1 - place)), name
            plain = parameter.ndim < 2 or name == "encoder.cls_token"
            assert decay == (0.0 if plain else 0.05), name
        assert not any(name.startswith("encoder.norm") for name in names)

    def test_starts_from_the_given_weights_at_chance(self) -> None:
        given = backbone()
        model = Classifier(given.copied(), 10, seeds.generator(0, "head"))
        mine = dict(given.encoder.named_parameters())
        for name, value in model.encoder.named_parameters():
            assert torch.equal(value, mine[name])
            assert value.data_ptr() != mine[name].data_ptr()
        logits = model(torch.randn(3, 3, 32, 32))
        assert float(logits.detach().abs().max()) < 1e-2

    def test_drop_path_rises_with_depth_and_keeps_the_mean(self) -> None:
        model = Classifier(backbone().copied(), 10, seeds.generator(0, "head"))
        generator = torch.Generator()
        model.drop_paths(0.2, generator)
        paths = [m for m in model.modules() if isinstance(m, DropPath)]
        assert [round(1 - path.keep, 6) for path in paths] == [0, 0, 0.2, 0.2]
        found = paths[-1](torch.ones(20_000, 2, 3))
        assert set(found.unique().tolist()) == {0.0, 1.25}
        assert torch.equal(found[:, 0, 0], found[:, 1, 2])
        assert float(found.mean()) == pytest.approx(1, abs=0.02)
        assert torch.equal(paths[-1].eval()(found), found)

    def test_published_settings(self) -> None:
        base, large, huge = (FinetuneSettings.published(w) for w in (768, 1024, 1280))
        assert (base.epochs, base.warmup, base.batch) == (100, 5, 1024)
        assert [(s.base_lr, s.layer_decay, s.drop_path) for s in (base, large, huge)] == [
            (5e-4, 0.65, 0.1), (1e-3, 0.75, 0.2), (1e-3, 0.75, 0.3),
        ]  # fmt: skip


@pytest.mark.slow
def test_finetuning_learns_scenes() -> None:
    settings = FinetuneSettings(epochs=15, batch=32, base_lr=1e-2, mixup=0, cutmix=0)
    row = finetune(backbone(), scenes(1000, 500), seed=0, settings=settings)[0]
    assert row["accuracy"] > 0.25, row
    chance = relabelled(scenes(1000, 500), 0, "train")
    row = finetune(backbone(), chance, seed=0, settings=settings)[0]
    assert abs(row["accuracy"] - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 500), row
