"""Attentive probe: one learned query looks at all patch tokens of a frozen encoder.

As in AIM's attention pooling (arXiv 2401.08541) and CAPI's evaluation (arXiv 2502.08769), in our
own words: tokens through batch norm without affine, keys and values linear without bias, one
learned query in several heads, a linear classifier. Batch norm is taken in the limit of the whole
train pool: every dimension has mean 0 and deviation 1 over all its tokens. A mean over tokens is
blind to what sits in a few of them; the gap between the two is itself a result.

With one query q of head h, q . (K x) = (K^T q) . x and sum_t a_t V x_t = V sum_t a_t x_t: so keys
and values are never computed per token. Several learning rates are then trained side by side, from
the same initial weights, for the price of reading the tokens once.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskbench import seeds
from maskbench.data import Images
from maskbench.errors import DataError, DivergedError, UsageError
from maskbench.events import Progress, Silent
from maskbench.probes.backbone import Backbone
from maskbench.probes.descent import Course, descend
from maskbench.probes.fewshot import Labels, class_order
from maskbench.probes.labelled import (
    CHUNK,
    Counts,
    Labelled,
    evaluating,
    labelled,
    row,
    score,
    short,
)
from maskbench.probes.suite import Row
from maskbench.probes.tokens import Tokens, half_tokens
from maskbench.weights import build


@dataclass(frozen=True)
class AttentiveSettings:
    """Sizes of the CPU tier.

    Args:
        rates: Peak learning rates, trained side by side; the best on held-out train images is
            scored.
        epochs: Passes over the images.
        warmup: Epochs of linear warm-up, at most half of all.
        batch: Images per step at most.
        weight_decay: Of AdamW (betas 0.9 and 0.95).
        heads: Attention heads, a divisor of the width; 0 for heads of about 64 numbers.
        held_out: Share of every class's train images that the rate is chosen on.
        train_images: Most train images (not below 16 per class); None for all.
        test_images: Most test images, likewise.
        cache_bytes: Tokens that take more are computed anew for every batch.
    """

    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    epochs: int = 20
    warmup: float = 1
    batch: int = 128
    weight_decay: float = 1e-3
    heads: int = 0
    held_out: float = 0.1
    train_images: int | None = 5000
    test_images: int | None = 10_000
    cache_bytes: int = 2**32


def attentive(
    backbone: Backbone,
    images: Images,
    *,
    seed: int,
    settings: AttentiveSettings | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> list[Row]:
    """The attentive probe.

    Args:
        backbone: What is probed; its weights stay as they are.
        images: Train and test images with labels.
        seed: Of initial weights and order; who is held out does not depend on it.
        settings: The recipe.
        progress: Who watches.
        folder: Where tokens lie meanwhile; None for the system's temporary folder.

    Returns:
        One row, ``attentive``: ``n_train`` counts held-out images too.

    Raises:
        DataError: The data has no labels or no test split, or no class has two train images.
        DivergedError: Tokens are not finite, or every rate diverged.
        UsageError: Settings that cannot be.
    """
    settings, progress = settings or AttentiveSettings(), progress or Silent()
    train, test = labelled(images, settings.train_images, settings.test_images)
    classes = len(images.classes)
    fit, held = held_out(train, images.name, classes, settings.held_out)
    own = seeds.key(seed, "attentive")
    heads = settings.heads or usual_heads(backbone.width)
    pools = _begin(backbone, heads, classes, settings.rates, seed=own)
    course = Course(len(fit), settings.epochs, settings.batch, 1.0, settings.warmup, own)
    with (
        evaluating(backbone),
        tempfile.TemporaryDirectory(prefix="maskbench-tokens-", dir=folder) as where,
    ):
        tokens = Tokens(backbone, train, Path(where), settings.cache_bytes, progress)
        losses = _train(pools, tokens, fit, course, settings, progress=progress)
        trial = [_held_score(pool, tokens, held) for pool in pools]
        best = trial.index(max(trial))
        answers = _answers(pools[best], tokens, test, progress)
        del tokens  # its file is closed before its folder goes
    rate = settings.rates[best]
    known = {**asdict(settings), "rates": list(settings.rates), "lr": rate, "heads": heads}
    known |= {"steps": course.steps, "loss": float(losses[-1][best])}
    known |= {"held_images": len(held), "held_accuracy": trial[best][0]}
    counts = Counts(len(train), len(test), classes)
    scored, name = score(answers, test.labels), f"lr{short(rate)}/{settings.epochs}ep"
    return [row("attentive", "tokens", name, counts, **scored, settings=known)]


class Pool(nn.Module):
    """One query in several heads, and a linear classifier.

    Args:
        width: Numbers in a token.
        heads: Attention heads, a divisor of the width.
        classes: Answers.
    """

    def __init__(self, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.query_token = nn.Parameter(torch.empty(heads, width // heads))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.classify = nn.Linear(width, classes)

    def directions(self) -> Tensor:
        """What each head looks for in a token: K^T q / sqrt(width of a head), (heads, width)."""
        keys = self.key.weight.view(*self.query_token.shape, -1)
        scale = keys.shape[1] ** -0.5
        looks: Tensor = torch.einsum("he,hed->hd", self.query_token * scale, keys)
        return looks


def answers_of(pools: Sequence[Pool], tokens: Tensor) -> Tensor:
    """Logits of several pools on the same tokens.

    Args:
        pools: All of one shape.
        tokens: (B, patches, width).

    Returns:
        (pools, B, classes).
    """
    looks = torch.stack([pool.directions() for pool in pools])
    weights = torch.einsum("bld,phd->pbhl", tokens, looks).softmax(-1)
    seen = torch.einsum("pbhl,bld->pbhd", weights, tokens)
    values = torch.stack([p.value.weight.view(*p.query_token.shape, -1) for p in pools])
    pooled = torch.einsum("pbhd,phed->pbhe", seen, values).flatten(2)
    matrices = torch.stack([pool.classify.weight.T for pool in pools])
    biases = torch.stack([pool.classify.bias for pool in pools])
    return torch.baddbmm(biases.unsqueeze(1), pooled, matrices)


def usual_heads(width: int) -> int:
    """The most heads of at least 64 numbers that divide the width; one for small widths."""
    return max(heads for heads in range(1, max(1, width // 64) + 1) if width % heads == 0)


def held_out(train: Labelled, dataset: str, classes: int, share: float) -> tuple[Labels, Labels]:
    """Places to fit on and places to choose on; by class and hashed id, whatever the order.

    At least one image of a class is held out, and never the only one.

    Raises:
        DataError: No class has two images.
    """
    texts = [f"maskbench-attentive-v1|{dataset}|{sid}" for sid in train.ids]
    order, counts = class_order(texts, train.labels, classes)
    rank = np.arange(len(train)) - np.repeat(np.cumsum(counts) - counts, counts)
    take = np.minimum(np.maximum(np.rint(share * counts), 1), counts - 1)
    held = rank < np.repeat(take, counts)
    if not held.any():
        raise DataError(
            f"the attentive probe holds out train images to choose its rate, and no class of "
            f"{dataset} has two of them; give more images"
        )
    return np.sort(order[~held]), np.sort(order[held])


def _begin(
    backbone: Backbone, heads: int, classes: int, rates: Sequence[float], *, seed: int
) -> list[Pool]:
    """A pool for every rate, all with the same weights."""
    if not rates or backbone.width % heads:
        raise UsageError(
            f"the attentive probe needs a learning rate and a divisor of the width "
            f"{backbone.width} as heads, not rates {rates} and {heads} heads"
        )
    return [
        build(lambda: Pool(backbone.width, heads, classes), seeds.generator(seed, "head")).to(
            backbone.device
        )
        for _ in rates
    ]


def _train(
    pools: Sequence[Pool],
    tokens: Tokens,
    fit: Labels,
    course: Course,
    settings: AttentiveSettings,
    *,
    progress: Progress,
) -> list[Tensor]:
    """All pools side by side; the loss of one does not reach another."""
    device, where = tokens.backbone.device, torch.from_numpy(fit)

    def losses(places: Tensor, epoch: int, step: int) -> Tensor:
        chosen = where[places]
        logits = answers_of(pools, tokens[chosen])
        truth = tokens.part.targets(chosen, device).expand(len(pools), -1)
        return cross_entropy(logits.transpose(1, 2), truth, reduction="none").mean(1)

    groups = [
        {"params": list(pool.parameters()), "lr_scale": rate}
        for pool, rate in zip(pools, settings.rates, strict=True)
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=0.0, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    return descend(course, optimizer, losses, label="attentive probe", progress=progress)


@torch.no_grad()
def _held_score(pool: Pool, tokens: Tokens, held: Labels) -> tuple[float, float]:
    """Accuracy on held-out images, then likelihood; the worst if the pool diverged."""
    places = torch.split(torch.from_numpy(held), CHUNK)
    try:
        logits = torch.cat([answers_of([pool], tokens[part])[0] for part in places])
        found = score(logits, tokens.part.labels[held])
    except DivergedError:
        return -1.0, -np.inf
    return found["accuracy"], -found["nll"]


@torch.no_grad()
def _answers(pool: Pool, tokens: Tokens, test: Labelled, progress: Progress) -> Tensor:
    """Logits of all test images, (images, classes); the only look at them."""
    found, done = [], 0
    progress.start("scoring", len(test), "images")
    for places in test.chunks():
        raw = half_tokens(tokens.backbone, test, places)
        found.append(answers_of([pool], tokens.standardise(raw))[0])
        done += len(places)
        progress.advance(done)
    progress.finish()
    return torch.cat(found)
