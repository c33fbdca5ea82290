"""Probes beyond the frozen curve, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from maskbench.events import Progress
from maskbench.probes.attentive import AttentiveSettings, attentive
from maskbench.probes.backbone import Backbone
from maskbench.probes.cache import Cache
from maskbench.probes.clmae_protocol import ClmaeSettings, clmae_protocol
from maskbench.probes.fewshot import full_data
from maskbench.probes.finetune import FinetuneSettings, finetune
from maskbench.probes.linear import LinearSettings, linear_lars
from maskbench.probes.score import described
from maskbench.probes.suite import COLUMNS, Row, named
from maskbench.probes.task import Task
from maskbench.results import PRIMARY

GPU_BATCH = 256
"""Of fine-tuning: MAE's 1,024 images of 224 px do not fit one GPU; the rate follows the batch."""


@dataclass(frozen=True)
class Asked:
    """What a probe is asked.

    Args:
        backbone: The encoder.
        task: The data set.
        seed: Of what is trained.
        epochs: Of what is trained; None for the probe's own.
        cache: Where features are kept.
        progress: Who watches.
    """

    backbone: Backbone
    task: Task
    seed: int
    epochs: int | None
    cache: Cache
    progress: Progress

    def trained(self, probe: Callable[..., list[Row]], settings: Any) -> list[Row]:
        """The rows of a probe that is trained, on the task's images."""
        if self.epochs is not None:
            settings = replace(settings, epochs=self.epochs)
        found = probe(
            self.backbone,
            self.task.images(),
            seed=self.seed,
            settings=settings,
            progress=self.progress,
        )
        return [{**dict.fromkeys(COLUMNS), **row} for row in found]


def _full(asked: Asked) -> list[Row]:
    task = asked.task
    train, test = described(asked.backbone, task, asked.cache, asked.progress)
    asked.progress.message("logistic regression on the whole pool")
    found = full_data(
        train.feature(PRIMARY),
        test.feature(PRIMARY),
        task.train.labels,
        task.test.labels,
        sensitivity=True,
        device=asked.backbone.device,
    )
    own = {"feature": PRIMARY, "layer": "last", "classes": len(task.classes)}
    return [named({**own, "n_test": len(task.test.labels), **row}) for row in found]


def _finetune(asked: Asked) -> list[Row]:
    """MAE's whole recipe on a GPU, a shorter one on a CPU."""
    whole = FinetuneSettings.published(asked.backbone.width)
    small = FinetuneSettings()
    whole = replace(whole, batch=min(whole.batch, GPU_BATCH))
    if asked.backbone.device.type == "cpu":
        whole = replace(whole, epochs=small.epochs, warmup=small.warmup, batch=small.batch)
    return asked.trained(finetune, whole)


KINDS: Mapping[str, Callable[[Asked], list[Row]]] = {
    "logreg-full": _full,
    "attentive": lambda asked: asked.trained(attentive, AttentiveSettings()),
    "linear-lars": lambda asked: asked.trained(linear_lars, LinearSettings()),
    "finetune": _finetune,
    "clmae-protocol": lambda asked: asked.trained(clmae_protocol, ClmaeSettings()),
}
