"""``maskbench check`` on strangers' files: who breaks a clause is told which, and what was seen."""

import json
from pathlib import Path

import pytest
from conftest import SMALL, cli
from test_readme import blocks

from maskbench.contract import CLAUSES, Broken, Skipped, Subject, resources
from maskbench.contract import masks as masks_room
from maskbench.errors import BUG, USAGE

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
    family, source = "auxiliary", "ours"
    summary = "adds a loss on the latents"

    def extra_loss(self, batch, outcome, context):
        print("a stranger may print")
        return outcome.latent.square().mean()

class Nameless(Good):
    source = "unnamed"

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
        return {"net": 94_000}

class CostsHalves(Good):
    def cost(self, grid, shape):
        return {"net": 0.5}

class Drifts(Good):
    def setup(self, context, data):
        self.register_buffer("mean", torch.zeros(()))

    def after_step(self, batch, outcome, context):
        self.mean += batch.images.mean()
        return {}
"""

FAILURES = [
    ("Nameless", "identity", "Nameless.source to be a name", "'unnamed'"),
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
    ("CostsLess", "cost", "cost() to be about 0 FLOPs per image", "whole step is off by +10.0%"),
    ("CostsHalves", "cost", "cost()['net'] to be a whole number of FLOPs", "0.5"),
]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes above lie in strange.py, in the current folder."""
    (tmp_path / "strange.py").write_text(STRANGERS)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer sizes, and no processes: they take seconds."""

    def skip(names: object) -> None:
        raise Skipped("left out by this test")

    monkeypatch.setattr(resources, "pairs", skip)
    monkeypatch.setattr(resources, "SHAPES", {"tiny": SMALL})
    monkeypatch.setattr(masks_room, "SIDES", (4, 3))
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.usefixtures("stranger", "quick")
@pytest.mark.parametrize(("name", "clause", "expected", "seen"), FAILURES)
def test_a_broken_clause_is_named_with_what_was_expected_and_seen(
    name: str,
    clause: str,
    expected: str,
    seen: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli(monkeypatch, "check", f"strange.py:{name}") == BUG
    told = capsys.readouterr()
    rows = [row.rstrip() for row in told.out.splitlines()]
    number = next(number for number, row in enumerate(rows) if row.startswith("FAILED"))
    assert rows[number].split()[1] == clause
    labels, words = zip(*(row.split(maxsplit=1) for row in rows[number + 1 :][:2]), strict=True)
    assert labels == ("expected", "seen")
    assert expected in words[0]
    assert seen in words[1]
    others = [row for row in rows[number + 1 :] if row.startswith("FAILED")]
    if name != "LeavesGradients":  # a gradient that is left behind is lost on resume, too
        assert not others
        sentence = f"1 of {len(CLAUSES)} clause is not kept: {clause}"
        assert sentence in " ".join(told.err.split())
    assert "Traceback" not in told.err + told.out


@pytest.mark.usefixtures("stranger")
def test_replicas_that_drift_apart_are_found() -> None:
    """A private update from half of the batch, not averaged; a path of one's own works there."""
    with pytest.raises(Broken, match=r"both processes .* 1 of \d+ values differ.*strategy\.mean"):
        resources.processes(Subject("strange.py:Drifts"))


def test_the_stranger_from_the_readme_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = blocks("python")
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli(monkeypatch, "check", "./mine.py:Mine") == 0
    told = capsys.readouterr()
    assert "FAILED" not in told.out
    assert [line.split()[1] for line in told.out.splitlines()] == [c.name for c in CLAUSES]
    assert "./mine.py:Mine keeps the contract" in told.err


@pytest.mark.usefixtures("stranger", "quick")
@pytest.mark.parametrize("name", ["random+strange.py:Weighted", "strange.py:Weighted"])
def test_composed_names_and_json(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "check", name, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"]
    assert [row["clause"] for row in answer["clauses"]] == [clause.name for clause in CLAUSES]


@pytest.mark.parametrize("name", ["clmea", "random+clmea"])
def test_unknown_names_are_refused_with_the_nearest(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "check", name) == USAGE
    assert "Did you mean 'clmae'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("stranger", "quick")
def test_debug_shows_where_it_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "check", "strange.py:Raises", "--debug") == BUG
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "strange.py" in told
