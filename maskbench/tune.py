"""Choose a learning rate per budget, by one grid for every strategy, on images never scored.

A rate that suits one budget need not suit another, and an arm that is not tuned is not a fair one
(Kaddour et al., No Train No Gain, arXiv 2307.06440). A trial is an ordinary run, in ``tuning/``
inside the store: it trains on four fifths of the training images and is probed on the rest; the
test split is not looked at.
"""

from fractions import Fraction
from pathlib import Path

from maskbench.budget import Budget
from maskbench.care import Care
from maskbench.errors import DivergedError, UsageError
from maskbench.events import Progress
from maskbench.plan import Planned, resolve
from maskbench.results import Store, mean_accuracy
from maskbench.runner import Tell, run
from maskbench.spec import Request
from maskbench.tuning import FOLDER, GRID, Trial, Tuning, known


def tune(
    request: Request, store: Store, progress: Progress, tell: Tell = lambda forecast: None
) -> tuple[Tuning, Path]:
    """Run the grid and write down what was found; trials that are finished are not run again.

    What was tried before, around another centre, is kept, counted, and may be chosen.

    Args:
        request: The run to tune for; its learning rate, or the preset's, is the grid's centre.
        store: Where its runs lie.
        progress: Who watches.
        tell: Told what every trial will take.

    Returns:
        What was found, and the file it is in.

    Raises:
        UsageError: Every trial diverged.
        MaskbenchError: As ``run``.
    """
    planned = resolve(request, store, progress)
    before = known(planned.settings, store)
    centre, scored = planned.settings.base_lr, []
    apart = Store(store.root / FOLDER, of=store.root)
    for number, factor in enumerate(GRID, 1):
        progress.message(f"trial {number} of {len(GRID)}: {factor:g} x {centre:g}")
        scored.append(_try(_trial(request, planned, factor), apart, progress, tell))
    trials = [
        Trial(factor, factor * centre, accuracy, name)
        for factor, (accuracy, name, _) in zip(GRID, scored, strict=True)
    ]
    if all(trial.accuracy is None for trial in trials):
        raise UsageError(
            f"all {len(GRID)} trials around --lr {centre:g} diverged: try a smaller --lr."
        )
    shots = max(found for _, _, found in scored)
    found = Tuning.of(request.seed, shots, trials, before.trials if before else ())
    return found, found.write(planned.settings, store)


def _trial(request: Request, planned: Planned, factor: float) -> Request:
    """The run to tune for, on development images; it sees as many images as the real one."""
    budget = planned.budget
    if budget.unit == "ep":
        images = round(budget.amount * len(planned.images.train))
        budget = Budget(Fraction(images), "img")
    changes = {
        "lr": factor * planned.settings.base_lr,
        "scored_on": "development",
        "budget": str(budget),
        "probe_at": (),
    }
    return request.model_copy(update=changes)


def _try(
    request: Request, store: Store, progress: Progress, tell: Tell
) -> tuple[float | None, str, int]:
    """Accuracy (None if it diverged), name and labelled images per class of one trial."""
    try:
        result = run(request, store, progress, care=Care(moments=False), tell=tell)
    except DivergedError as error:
        return None, error.folder.name if error.folder else "", 0
    rows = result.record["probes"]
    shots = max((row["shots"] for row in rows if row["probe"] == "logreg"), default=0)
    accuracy = mean_accuracy(rows, "logreg", shots)
    if accuracy is None:
        raise UsageError(
            "no few-shot probe fits the development images: a class has too few of them."
        )
    return accuracy, result.record["id"], shots
