"""The attentive probe: what it finds in tokens, how its rate is chosen, its arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from toys import object_images, patches, relabelled

from maskbench import seeds
from maskbench.data.source import Images
from maskbench.errors import DataError, UsageError
from maskbench.events import Silent
from maskbench.probes.attentive import (
    AttentiveSettings,
    Pool,
    answers_of,
    attentive,
    held_out,
    usual_heads,
)
from maskbench.probes.backbone import Backbone
from maskbench.probes.fewshot import few_shot
from maskbench.probes.labelled import central, frozen_feature, labelled, short
from maskbench.weights import build

ATTENTIVE = AttentiveSettings(rates=(1e-3, 3e-2), epochs=3)


def patch_means(given: Backbone, images: Images) -> float:
    """Accuracy of nearest class means on the mean of patch tokens."""
    found = []
    for part in labelled(images, None, None):
        inputs = central(given, part, torch.arange(len(part)))
        found.append((frozen_feature(given, inputs, "patchmean").double().numpy(), part.labels))
    (train, known), (test, truth) = found
    everything = {len(train): np.arange(len(train))}
    rows = few_shot(train, test, known, truth, draws=[everything])
    return float(next(row["accuracy"] for row in rows if row["probe"] == "ncm"))


def test_finds_what_sits_in_one_token() -> None:
    settings = AttentiveSettings(rates=(1e-3, 3e-3, 1e-2), epochs=15, batch=64)
    row = attentive(patches(), object_images(), seed=0, settings=settings)[0]
    assert row["accuracy"] > 0.95
    assert patch_means(patches(), object_images()) < 0.75
    assert row["n_train"] == 600
    assert row["settings"]["held_images"] == 60
    assert row["metric"] == f"attentive/tokens/last/lr{short(row['settings']['lr'])}/15ep"


def test_shuffled_labels_give_chance() -> None:
    images = relabelled(object_images(), 3, "train", "test")
    row = attentive(patches(), images, seed=0, settings=ATTENTIVE)[0]
    assert abs(row["accuracy"] - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_the_rate_is_chosen_without_the_test_images() -> None:
    images = object_images()
    assert images.test is not None
    poisoned = relabelled(images, 5, "test")
    blank = replace(images, test=replace(images.test, images=images.test.images * 0))
    rows = [
        attentive(patches(), told, seed=0, settings=ATTENTIVE)[0]
        for told in (images, poisoned, blank)
    ]
    assert rows[0]["settings"] == rows[1]["settings"] == rows[2]["settings"]
    assert rows[0]["accuracy"] > rows[1]["accuracy"]


def test_a_rate_that_diverges_is_not_chosen() -> None:
    settings = replace(ATTENTIVE, rates=(1e-3, 1e30))
    row = attentive(patches(), object_images(), seed=0, settings=settings)[0]
    assert row["settings"]["lr"] == 1e-3
    alone = replace(ATTENTIVE, rates=(1e-3,))
    same = attentive(patches(), object_images(), seed=0, settings=alone)[0]
    assert row["accuracy"] == same["accuracy"]


def test_tokens_that_do_not_fit_are_computed_anew() -> None:
    class Heard(Silent):
        said = ""

        def message(self, text: str) -> None:
            self.said += text

    heard = Heard()
    kept = attentive(patches(), object_images(), seed=0, settings=ATTENTIVE)[0]
    small = replace(ATTENTIVE, cache_bytes=1000)
    anew = attentive(patches(), object_images(), seed=0, settings=small, progress=heard)[0]
    assert "computed anew" in heard.said
    assert anew["accuracy"] == kept["accuracy"]
    assert anew["nll"] == pytest.approx(kept["nll"], rel=1e-3)


def test_pools_equal_attention_with_keys_and_values() -> None:
    pools = [build(lambda: Pool(12, 3, 5), seeds.generator(0, "head", i)) for i in range(2)]
    tokens = torch.randn(4, 7, 12, generator=seeds.generator(0, "tokens"))
    found = answers_of(pools, tokens)

    def split(x: Tensor) -> Tensor:
        return x.view(4, -1, 3, 4).transpose(1, 2)

    for pool, mine in zip(pools, found, strict=True):
        query = split(pool.query_token.reshape(1, 1, 12).expand(4, -1, -1))
        keys, values = split(pool.key(tokens)), split(pool.value(tokens))
        pooled = scaled_dot_product_attention(query, keys, values)
        torch.testing.assert_close(mine, pool.classify(pooled.reshape(4, 12)))


def test_a_tenth_of_each_class_is_held_out_by_its_id() -> None:
    train, _ = labelled(object_images(), None, None)
    fit, held = held_out(train, "toy", 4, 0.1)
    assert np.bincount(train.labels[held]).tolist() == [15] * 4
    assert sorted([*fit, *held]) == list(range(600))
    mixed = np.random.default_rng(0).permutation(600)
    _, again = held_out(train.only(mixed), "toy", 4, 0.1)
    assert {train.ids[i] for i in held} == {train.ids[mixed[i]] for i in again}
    singles = train.only(np.array([0, 1, 2, 3]))
    with pytest.raises(DataError, match="more images"):
        held_out(singles, "toy", 4, 0.1)
    few = train.only(np.array([0, 1, 2, 4]))
    assert [len(x) for x in held_out(few, "toy", 4, 0.1)] == [3, 1]


def test_heads_have_about_64_numbers() -> None:
    widths = (48, 96, 192, 384, 768, 1024, 1280)
    assert [usual_heads(w) for w in widths] == [1, 1, 3, 6, 12, 16, 20]
    settings = replace(ATTENTIVE, heads=5)
    with pytest.raises(UsageError, match="divisor"):
        attentive(patches(), object_images(), seed=0, settings=settings)
