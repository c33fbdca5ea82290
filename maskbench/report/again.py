"""Commands that make a run again, or make one that can be compared."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from maskbench.report.frame import Run, flat
from maskbench.shape import PRESETS
from maskbench.spec import Request
from maskbench.trust import plain

UNITS = {"images": "img", "flops": "flop", "seconds": "s"}


def again(run: Run, **changes: Any) -> str:
    """The command that makes a run again, with some settings changed."""
    tuned = {"base_lr": "tuned"} if run.trials else {}
    return command({**run.record["settings"], **tuned, **changes}, _defaults(run.record))


def matching(run: Run, other: Run, view: str) -> str:
    """The command that runs a strategy again for as much as another run consumed.

    It names only the settings that differ from the strategy's own; to make a run again, ``again``
    names them all.
    """
    given = run.record["strategy"].get("changed", run.record["settings"].get("strategy_settings"))
    budget = f"match:{other.id}:{UNITS[view]}"
    return again(run, budget=budget, seed=other.seed, strategy_settings=given, probe_at=())


def _defaults(record: Any) -> dict[str, Any]:
    """What ``maskbench run`` would choose by itself; the machine's own choices are not among it."""
    model = record["model"]
    patches = (model["image"] // model["patch"]) ** 2
    fields = {name: field.default for name, field in Request.model_fields.items()}
    preset = PRESETS.get(record["settings"].get("model"))
    recipe = {"batch": preset.batch, "base_lr": preset.base_lr} if preset else {}
    machine = {"device": None, "precision": None, "budget": None}
    return {**fields, **machine, **recipe, "hidden": patches - patches // 4}


def command(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The command that makes a run with these settings."""
    words = ["maskbench", "run", "--strategy", str(settings["strategy"])]
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
