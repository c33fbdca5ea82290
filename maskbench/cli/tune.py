"""``maskbench tune``: choose a learning rate for one strategy under one budget."""

from pathlib import Path

from maskbench.budget import DEFAULT_BUDGET
from maskbench.cli import options


def tune(
    strategy: options.Strategy,
    budget: options.Amount = DEFAULT_BUDGET,
    data: options.Data = "scenes",
    model: options.Model = "nano",
    seed: options.Seed = 0,
    sets: options.Sets = None,
    out: options.StoreDir = Path("runs"),
    as_json: options.AsJson = False,
    hidden: options.Hidden = None,
    batch: options.BatchSize = None,
    lr: options.LearningRate = None,
    limit: options.Limit = None,
    draws: options.Draws = 10,
    max_bad: options.MaxBad = 0.01,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile_: options.Compile = False,
    debug: options.Debug = False,
) -> None:
    """Try 0.5, 1 and 2 times the learning rate, by images that are never scored, and keep the best.

    A fifth of the training images stands in for the test split. 'maskbench run --lr tuned' with
    the same options then uses what was found, for any seed; records and reports say how many rates
    were tried. --lr moves the centre of the grid; what was tried before is kept and counted, too.

    Examples:
      maskbench tune --strategy clmae --budget 2ep
      maskbench run --strategy clmae --budget 2ep --lr tuned
    """
    from dataclasses import asdict

    from maskbench.cli import bars, render
    from maskbench.cli.request import checked
    from maskbench.errors import UsageError
    from maskbench.results import Store

    if lr == "tuned":
        raise UsageError("maskbench tune finds the rate: --lr takes the centre of the grid.")
    request = checked(
        strategy=strategy,
        budget=budget,
        data=data,
        model=model,
        seed=seed,
        sets=sets,
        hidden=hidden,
        batch=batch,
        lr=lr,
        device=device,
        precision=precision,
        compile=compile_,
        limit=limit,
        draws=draws,
        max_bad=max_bad,
    )
    with bars.watch() as progress:
        progress.message("starting (loading torch)")
        from maskbench.tune import tune as carry_out

        found, path = carry_out(request, Store(out), progress, render.plan)
    if as_json:
        render.as_json({"file": str(path), **asdict(found)})
    else:
        render.tuning(found, path)
