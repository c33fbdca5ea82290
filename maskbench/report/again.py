"""Commands that make a run again, or make one that can be compared."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskbench.report.frame import Run, flat
from maskbench.shape import PRESETS
from maskbench.spec import Request
from maskbench.trust import plain

UNITS = {"images": "img", "flops": "flop", "seconds": "s"}


def again(run: Run, **changes: Any) -> str:
    """The command that makes a run again, with some settings changed; wherever the reader is."""
    tuned = {"base_lr": "tuned"} if run.trials else {}
    return command({**run.record["settings"], **tuned, **changes}, _defaults(run.record))


def matching(run: Run, other: Run, view: str, *, near: bool = False) -> str:
    """The command that runs a strategy again for as much as another run consumed.

    It names only the settings that differ from the strategy's own; to make a run again, ``again``
    names them all. A tuned strategy is tuned for that budget first. Where the store lies is for
    ``placed`` to say: a page is the same wherever its runs are.

    Args:
        run: Of the strategy.
        other: The other run.
        view: In which they are to be equal.
        near: Whether a run of another store is named by its folder, which works from here only.
    """
    given = run.record["strategy"].get("changed", run.record["settings"].get("strategy_settings"))
    apart = near and other.folder.parent != run.folder.parent
    name = plain(_near(other.folder)) if apart else other.id
    budget = f"match:{name}:{UNITS[view]}"
    changes = {"budget": budget, "strategy_settings": given, "probe_at": ()}
    carry_out = again(run, seed=other.seed, **changes)
    if not run.trials:
        return carry_out
    settings = {**run.record["settings"], **changes, "base_lr": _centre(run), "seed": None}
    return f"{command(settings, _defaults(run.record), 'tune')} && {carry_out}"


def _centre(run: Run) -> float | None:
    """What a run's learning rate was tuned around; None where that is not known."""
    grid = run.record["settings"].get("lr_grid") or ()
    return grid[len(grid) // 2] if len(grid) % 2 else None


def placed(commands: str, folder: Path) -> str:
    """Commands as they work from here: in the store in which a run's folder lies."""
    if not commands or folder.parent.absolute() == Path("runs").absolute():
        return commands
    store = plain(shlex.quote(_near(folder.parent)))
    return " && ".join(f"{one} --out {store}" for one in commands.split(" && "))


def _near(path: Path) -> str:
    """A path as seen from here, if it is below."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return str(path.relative_to(Path.cwd()) if inside else path)


def _defaults(record: Any) -> dict[str, Any]:
    """What ``maskbench run`` would choose by itself; the machine's own choices are not among it."""
    model = record["model"]
    patches = (model["image"] // model["patch"]) ** 2
    fields = {name: field.default for name, field in Request.model_fields.items()}
    preset = PRESETS.get(record["settings"].get("model"))
    recipe = {"batch": preset.batch, "base_lr": preset.base_lr} if preset else {}
    machine = {"device": None, "precision": None, "budget": None}
    return {**fields, **machine, **recipe, "hidden": patches - patches // 4}


def command(settings: Mapping[str, Any], defaults: Mapping[str, Any], verb: str = "run") -> str:
    """The command that makes a run with these settings, or another verb with them."""
    words = ["maskbench", verb, "--strategy", str(settings["strategy"])]
    for key in ("budget", "data", "model", "hidden", "batch", "base_lr", "limit", "draws"):
        words += _option(key, settings.get(key), defaults.get(key))
    for key in ("max_bad", "seed", "device", "precision"):
        words += _option(key, settings.get(key), defaults.get(key))
    shares = [f"{100 * share:g}" for share in settings.get("probe_at") or ()]
    words += ["--probe-at", f"{','.join(shares)}%"] if shares else []
    words += ["--compile"] if settings.get("compile") else []
    for key, value in flat(settings.get("strategy_settings") or {}).items():
        words += ["--set", f"{key}={value}"]
    return plain(shlex.join(words))


def _option(key: str, value: Any, default: Any) -> Sequence[str]:
    if value is None or value == default:
        return []
    return [f"--{'lr' if key == 'base_lr' else key.replace('_', '-')}", str(value)]
