"""Strangers' strategies, each of which breaks one clause of the contract."""

STRANGERS = """
import numpy as np
import torch
from maskbench.strategy import Context, Grid, Mask, MaskStrategy

class Good(MaskStrategy):
    family, source = "data-free", "ours"
    summary = "hides whatever noise says"

    def mask(self, batch, context):
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

class Weighted(MaskStrategy):
    modifier = True
    family, source = "auxiliary", "ours"
    summary = "adds a loss on the latents"

    def extra_loss(self, batch, outcome, context):
        print("a stranger may print")
        return outcome.latent.square().mean()

class Nameless(Good):
    source = "unnamed"

class Misspelt(MaskStrategy):
    family, source = "data-free", "ours"
    summary = "means to hide something"

    def masks(self, batch, context):
        return Mask.from_scores(context.uniform("mask", batch), context.grid)

class Exits(Good):
    def mask(self, batch, context):
        raise SystemExit(0)

class SpoilsSetup(Good):
    def setup(self, context, data):
        context.model._model.cls_token.data += 1

class SharedNoise(Good):
    def mask(self, batch, context):
        noise = torch.rand(
            len(batch), context.grid.patches, generator=context.generator("mask")
        )
        return Mask.from_scores(noise, context.grid)

class OneMore(Good):
    def mask(self, batch, context):
        mask = super().mask(batch, context)
        mask.hidden[-1, mask.visible_positions[-1, 0]] = True
        return mask

class Floats(Good):
    def mask(self, batch, context):
        return Mask(super().mask(batch, context).hidden.float(), context.grid)

class NoMask(Good):
    def mask(self, batch, context):
        return super().mask(batch, context).hidden

class OtherGrid(Good):
    def mask(self, batch, context):
        return Mask(super().mask(batch, context).hidden, Grid(2, 8, context.grid.hidden))

class Raises(Good):
    def mask(self, batch, context):
        raise RuntimeError("boom [/bold]")

class RaisesLater(Good):
    def extra_loss(self, batch, outcome, context):
        raise RuntimeError("boom")

class LogsNonsense(Good):
    def after_step(self, batch, outcome, context):
        return {"mine": float("nan")}

class OutOfRange(Good):
    def order(self, epoch, images, context):
        return super().order(epoch, images, context) + 1

class StaleOrder(Good):
    def order(self, epoch, images, context):
        return torch.arange(images)

class Seedless(Good):
    def mask(self, batch, context):
        stream = torch.Generator().manual_seed(context.step)
        scores = torch.rand(len(batch), context.grid.patches, generator=stream)
        return Mask.from_scores(scores, context.grid)

class Unchanging(Good):
    def mask(self, batch, context):
        stream = torch.Generator().manual_seed(context.seed)
        scores = torch.rand(len(batch), context.grid.patches, generator=stream)
        return Mask.from_scores(scores, context.grid)

class SpoilsImages(Good):
    def mask(self, batch, context):
        mask = super().mask(batch, context)
        batch.images.mul_(0.5)
        return mask

class MovesModel(Good):
    def after_step(self, batch, outcome, context):
        with torch.no_grad():
            context.model._model.cls_token.add_(0.1)
        return {}

class LeavesGradients(Good):
    def after_step(self, batch, outcome, context):
        token = context.model._model.cls_token
        token.grad = torch.ones_like(token)
        return {}

class TorchNoise(Good):
    def after_step(self, batch, outcome, context):
        torch.rand(1)
        return {}

class NumpyNoise(Good):
    def after_step(self, batch, outcome, context):
        np.random.rand()
        return {}

class CountsLooks(Good):
    def setup(self, context, data):
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def mask(self, batch, context):
        self.calls += 1
        return super().mask(batch, context)

class ForgetsCounter(Good):
    count = 0

    def after_step(self, batch, outcome, context):
        self.count += 1
        return {}

    def mask(self, batch, context):
        mask = super().mask(batch, context)
        return Mask(mask.hidden.roll(self.count, 1), mask.grid)

class ForgetsTensor(Good):
    def setup(self, context, data):
        self.table = torch.zeros(data.count)

    def after_step(self, batch, outcome, context):
        self.table[batch.positions] += 1
        return {}

    def mask(self, batch, context):
        mask = super().mask(batch, context)
        return Mask(mask.hidden.roll(int(self.table.max()), 1), mask.grid)

class NeedsTwo(Good):
    def after_step(self, batch, outcome, context):
        return {"spread": 1 / (len(batch) - 1)}

class CostsLess(Good):
    def cost(self, grid, shape):
        return {"encoder": 94_000}

class CostsHalves(Good):
    def cost(self, grid, shape):
        return {"encoder": 0.5}

class Drifts(Good):
    def setup(self, context, data):
        self.register_buffer("mean", torch.zeros(()))

    def after_step(self, batch, outcome, context):
        self.mean += batch.images.mean()
        return {}

class Sums(Good):
    def extra_loss(self, batch, outcome, context):
        return 0.1 * outcome.latent.square().mean((1, 2)).sum()

class OwnNormaliser(Good):
    def extra_loss(self, batch, outcome, context):
        weight = outcome.patch_loss.detach().mean(1)
        return (weight * outcome.latent.square().mean((1, 2))).sum() / weight.sum()

class Whole(Good):
    def extra_loss(self, batch, outcome, context):
        weight = outcome.patch_loss.detach().mean(1)
        weighted = context.total(weight * outcome.latent.square().mean((1, 2)))
        return weighted / context.total(weight) + outcome.prediction.square().mean()
"""

FAILURES = [
    ("Nameless", "identity", "Nameless.source to be a name", "'unnamed'"),
    ("Misspelt", "count", "no exception", "Misspelt must define mask()"),
    ("Exits", "count", "no exception", "failed in mask: SystemExit"),
    ("SpoilsSetup", "model", "setup to leave the model's values", "cls_token differs"),
    ("SharedNoise", "place", "noise from context.uniform", "of 16 images have another mask"),
    ("OneMore", "count", "hides exactly 12 of 16 patches", "13 of 16 hidden in 1 of 1 images"),
    ("Floats", "count", "bool of shape (1, 16) on cpu", "float32 of shape (1, 16) on cpu"),
    ("NoMask", "count", "mask to return a Mask", "a Tensor"),
    ("OtherGrid", "count", "Mask.grid to be context.grid", "rows=2, columns=8"),
    ("Raises", "count", "no exception", "Raises failed in mask: RuntimeError: boom [/bold]"),
    ("RaisesLater", "trains", "no exception", "failed in extra_loss: RuntimeError: boom"),
    ("LogsNonsense", "trains", "no exception", "mine is nan at step 1"),
    ("OutOfRange", "order", "40 int64 positions in 0..39", "wants positions in 0..39"),
    ("StaleOrder", "order", "another order in another epoch", "epochs 0 and 1 show the same"),
    ("Seedless", "keys", "other masks for another seed", "seeds 0 and 1 give all 32 images the"),
    ("Unchanging", "keys", "other masks at the end of a short", "steps 0 and 6 give all 32"),
    ("SpoilsImages", "batch", "mask to leave the batch as it is", "batch.images differs by up to"),
    ("MovesModel", "model", "after_step to leave the model's values", "value of.cls_token differs"),
    ("LeavesGradients", "model", "after_step to leave the model's", "gradient of.cls_token is new"),
    ("TorchNoise", "randomness", "noise from context.uniform", "moved torch's CPU generator"),
    ("NumpyNoise", "randomness", "noise from context.uniform", "moved numpy's generator"),
    (
        "CountsLooks",
        "looking",
        "the same end with and without looks",
        "strategy.calls is 15, not 7",
    ),
    ("ForgetsCounter", "resume", "stops after 3 of 7 steps", "differs by up to"),
    ("ForgetsTensor", "resume", "stops after 3 of 7 steps", "differs by up to"),
    ("NeedsTwo", "one-image", "no exception", "failed in after_step: ZeroDivisionError"),
    ("CostsLess", "cost", "cost() to be about 0 FLOPs per image", "whole step is off by +11.9%"),
    ("CostsHalves", "cost", "cost()['encoder'] to be a whole number of FLOPs", "0.5"),
]

PARTIAL = ("Drifts", "Sums", "OwnNormaliser", "Whole")
"""Who confuses a part of the batch with all of it; the last one does not."""

SEVERAL = ("LeavesGradients", "Seedless", "TorchNoise", "NumpyNoise", "Unchanging")
"""What these do wrong breaks another clause, too: a lost gradient is lost on resume."""
