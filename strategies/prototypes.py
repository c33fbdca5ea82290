r"""Prototype-ordered data curriculum: typical images first, then gradually all of them.

Source: Lin et al., arXiv 2411.10685, and the public code named there. It decides which *images* an
epoch shows and leaves the masks to another strategy: ``prototypes+clmae``.

1. Features of all images, standardised per dimension, then scaled to unit length; k-means.
2. :math:`d_i`: distance to the own centroid, min-max-normalised inside the cluster (0 where a
   cluster has one image or one distance).
3. :math:`p_i(\tau) = e^{-d_i/\tau} / \sum_j e^{-d_j/\tau}` over the whole data set.
4. Effective share: :math:`\frac1N \sum_i [1 - (1-p_i)^N]`, what :math:`N` draws with replacement
   are expected to show. It rises with :math:`\tau`; uniform draws give :math:`1 - 1/e = 0.632`.
5. The share's target rises from ``first`` to :math:`1 - 1/e` over ``length`` of the budget, and
   :math:`\tau` is found by bisection, once per epoch. After that all images count alike.

Published: the default start of 0.3, a linear rise (code) or a cosine one (paper, so it is said),
standardise-then-scale, normalisation inside clusters, mini-batch k-means with the number of
clusters chosen by the Davies-Bouldin index, and uniform draws *with* replacement afterwards
(``after=replacement``; here a keyed shuffle, the order of every other strategy, is the default).

What differs from the public code, on purpose: :math:`(1-p)^N` is
:math:`-\mathrm{expm1}(N\,\mathrm{log1p}(-p))` in float64 (float32 cannot reach the last target on a
million images and ends at the search's upper end unnoticed); the share is met to 1e-10 instead of
1e-4; a given number of clusters is not overridden, and the chosen one may go up to 1024 instead of
20; centroids are the exact means of the final clusters; the curriculum is counted in shares of the
budget instead of iterations. There, texts name "easy first" and "hard first" the wrong way round;
here ``control=hard-first`` is what it says. Default length and features are ours: the published
ones were not found (length) or come from outside of the run (DINO).

Careful: features of a strong pretrained network carry what it knows about classes. Images chosen
by them leak it into the run, so such a gain is partly somebody else's training. ``prior()`` says
which features were used, and every table repeats it; the default features know pixels only.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from maskbench import seeds
from maskbench.strategy import (
    Batch,
    Context,
    DataView,
    Features,
    Field,
    Grid,
    MaskStrategy,
    ModelShape,
    Outcome,
    StrategySettings,
    UsageError,
)

from ._effective import (
    COLDEST,
    UNIFORM,
    Clusters,
    cluster,
    draw,
    normalise,
    probabilities,
    share,
    temperature,
)


class Prototypes(MaskStrategy):
    """Orders images from typical to all; see the module's text for the equations."""

    family = "data curriculum"
    source = "Lin et al., arXiv 2411.10685"
    summary = "shows typical images first (near cluster centres), then all; masks are another's"
    modifier = True

    distance: Tensor

    class Settings(StrategySettings):
        """What can be set with ``--set``."""

        features: str = Field(
            "pixels-pca",
            description="what images are clustered by: pixels-pca, hog, checkpoint:RUN, "
            "timm:NAME or timm:NAME@WEIGHTS_FILE",
        )
        clusters: int = Field(
            0, ge=0, description="clusters; 0 chooses 8 to 1024 by the Davies-Bouldin index"
        )
        first: float = Field(
            0.3, ge=0.1, lt=0.632, description="share of distinct images in the first epoch"
        )
        length: float = Field(
            0.5, gt=0, le=1, description="share of the budget until all images count alike"
        )
        schedule: Literal["linear", "cosine"] = Field(
            "linear", description="how the share rises: linear as coded, cosine as in the paper"
        )
        after: Literal["shuffle", "replacement"] = Field(
            "shuffle", description="the epochs after that: every image once, or draws as coded"
        )
        control: Literal["none", "hard-first", "fixed-tau", "shuffled"] = Field(
            "none",
            description="hard-first: outliers first; fixed-tau: no curriculum; shuffled: same "
            "shares, but which images are typical is drawn by lot",
        )
        tau: float = Field(0.2, gt=0, description="temperature of fixed-tau, all along")

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self._facts: dict[str, Any] = {"flops": {}, "prior": "", "log": {}}

    def setup(self, context: Context, data: DataView) -> None:
        """Cluster the training images.

        Raises:
            UsageError: More clusters than images, or features that tell no images apart.
        """
        wanted = self.settings.clusters
        if wanted >= data.count:
            raise UsageError(
                f"clusters={wanted:,} is too many for {data.count:,} training images: "
                f"choose 1 to {data.count - 1:,} with --set clusters=, or 0."
            )
        stream = seeds.key(context.seed, "prototypes") % 2**32
        found, features = context.once(lambda: self._clustered(data, stream))
        self._remember(found, context)
        least = share(probabilities(self.distance, COLDEST))
        if self.settings.control != "fixed-tau" and least > self.settings.first:
            raise UsageError(
                f"with {found.clusters:,} clusters of {data.count:,} images, {least:.0%} are as "
                f"typical as can be, more than first={self.settings.first:g}: choose fewer "
                "clusters, or a larger first."
            )
        self._facts.update(prior=features.prior, flops=dict(features.flops))
        self._facts["flops"]["clustering"] = found.flops

    def _clustered(self, data: DataView, seed: int) -> tuple[Clusters, Features]:
        """Clusters of the training images, and by which features (without their large values)."""
        features = data.features(self.settings.features)
        what = f"features {self.settings.features!r}"
        broken = int((~features.values.isfinite()).any(1).sum())
        if broken:
            raise UsageError(
                f"{what} of {broken:,} of {data.count:,} images are not finite: "
                "choose others with --set features=."
            )
        values = normalise(features.values.numpy())
        found = cluster(values, self.settings.clusters, seed)
        if not found.distance.any():
            raise UsageError(
                f"by {what}, every image is as far from the centre of its cluster as all others "
                f"there ({found.clusters:,} clusters, {data.count:,} images), so none is more "
                "typical: choose other features or fewer clusters."
            )
        return found, Features(torch.empty(0), features.prior, features.flops)

    def _remember(self, found: Clusters, context: Context) -> None:
        distance = found.distance
        if self.settings.control == "hard-first":
            distance = 1 - distance
        elif self.settings.control == "shuffled":
            stream = seeds.generator(context.seed, "prototypes/shuffled")
            distance = distance[torch.randperm(len(distance), generator=stream)]
        self.register_buffer("distance", distance)
        self.register_buffer("clusters", torch.tensor(found.clusters))

    def target(self, progress: float) -> float | None:
        """The share of distinct images aimed at; None once all images count alike."""
        if progress >= self.settings.length:
            return None
        risen = progress / self.settings.length
        if self.settings.schedule == "cosine":
            risen = (1 - math.cos(math.pi * risen)) / 2
        return float(self.settings.first + (UNIFORM - self.settings.first) * risen)

    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        """Draws with replacement under the epoch's temperature; then a shuffle of all images."""
        if len(self.distance) != images:
            raise ValueError(f"set up for {len(self.distance)} images, asked for {images}")
        fixed = self.settings.control == "fixed-tau"
        target = None if fixed else self.target(context.progress)
        distance = self.distance.cpu()
        if fixed or target is not None:
            tau = self.settings.tau if target is None else temperature(distance, target)
            weights = probabilities(distance, tau)
            log = {"prototypes/tau": tau}
        elif self.settings.after == "replacement":
            weights, target, log = torch.ones_like(distance), UNIFORM, {}
        else:
            self._facts["log"] = {"prototypes/target": 1.0}
            return super().order(epoch, images, context)
        if target is not None:
            log["prototypes/target"] = target
        self._facts["log"] = log
        return draw(weights, seeds.generator(context.seed, "prototypes/order", epoch))

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Logs the latest epoch's share of distinct images aimed at, and its temperature."""
        return dict(self._facts["log"])

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Nothing per step: the work is done before the first one (``spent``)."""
        return {}

    def spent(self) -> Mapping[str, int]:
        """FLOPs of the features and of the clustering."""
        return dict(self._facts["flops"])

    def prior(self) -> str:
        """What the features know from outside of this run."""
        return str(self._facts["prior"])

    def get_extra_state(self) -> Tensor:
        """Costs, prior and the latest log as JSON bytes, uint8, so that the state is tensors."""
        return torch.tensor(list(json.dumps(self._facts).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take up what ``get_extra_state`` gave."""
        self._facts = json.loads(bytes(state.tolist()))
