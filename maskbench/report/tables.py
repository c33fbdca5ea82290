"""Tables of the page as rows of texts: facts, cost, origin."""

from collections.abc import Callable
from typing import Any

from maskbench.report.frame import Entry, Group, Run, text
from maskbench.report.words import big, command, count, duration
from maskbench.shape import PRESETS
from maskbench.spec import Request

Cells = list[str]
Section = tuple[str, list[tuple[str, Cells]]]
TIMES = ("training", "data", "step", "strategy")
BEFORE = "setup"
OFF_BUDGET = ("paused", "probes")


def facts(group: Group) -> list[tuple[str, str]]:
    """What all runs of a group share."""
    run = group.runs[0]
    record = run.record
    data, model, budget = record["data"], record["model"], record["budget"]
    size = f"{model['width']} × {model['depth']}"
    classes = f"{len(data['classes'])} classes, " if data.get("classes") else "no classes, "
    seeds = sorted({len(entry.runs) for entry in group.entries})
    found = [
        ("Data", f"{data['name']}: {classes}{data['train']:,} train, {data['test']:,} test images"),
        ("Model", f"{model['preset']}: ViT {size}, {model['image']} px, patch {model['patch']}"),
        ("Hidden", group.conditions["hidden"]),
        ("Budget", f"{budget['images']:,} images = {budget['epochs']:g} epochs"),
        ("Recipe", group.conditions["recipe"].replace("_", " ")),
        ("Seeds", " to ".join(str(n) for n in (seeds[0], seeds[-1])) + " per strategy")
        if len(seeds) > 1
        else ("Seeds", f"{count(seeds[0], 'seed')} per strategy"),
    ]
    return [(name, text(value)) for name, value in found]


def cost(group: Group) -> list[Section]:
    """The ledger, a column per strategy, means over seeds."""
    parts = _keys(group, "flops")
    others = [key for key in _keys(group, "seconds") if key not in (*TIMES, BEFORE, *OFF_BUDGET)]
    on, off = (*TIMES[1:], *others), OFF_BUDGET
    amount = [
        _line(group, "images seen", "images"),
        _line(group, "distinct images", "images_distinct"),
        ("epochs", [f"{e.runs[0].record['budget']['epochs']:g}" for e in group.entries]),
        _line(group, "steps", "steps"),
    ]
    compute = [
        _line(group, "total", "flops_total", form=big),
        *(_line(group, f"of it {text(part)}", "flops", part, form=big) for part in parts),
        _line(group, "relative to random", "flops_relative_to_random", form=_times),
    ]
    time = [
        _line(group, "training", "seconds", "training", form=duration),
        *(_line(group, f"of it {text(key)}", "seconds", key, form=duration) for key in on),
        _line(group, "setup (before training)", "seconds", BEFORE, form=duration),
        *(_line(group, f"{key} (off the budget)", "seconds", key, form=duration) for key in off),
        _line(group, "images per second", "images_per_s", form=lambda v: f"{v:,.1f}"),
    ]
    machine = [
        _line(group, "peak host memory", "peak_memory_bytes", "host", form=_bytes),
        _line(group, "peak GPU memory", "peak_memory_bytes", "device", form=_bytes),
        ("device", [_machines(entry, "device") for entry in group.entries]),
        ("threads", [_machines(entry, "threads") for entry in group.entries]),
    ]
    return [
        ("Amount", amount),
        ("FLOPs, 2 per multiply-add", compute),
        ("Time", time),
        ("Machine", machine),
    ]


def _keys(group: Group, part: str) -> list[str]:
    """Names in a part of the ledger, over all runs, in order of appearance."""
    return list(dict.fromkeys(key for run in group.runs for key in run.record["ledger"][part]))


def _line(
    group: Group, label: str, *keys: str, form: Callable[[float], str] | None = None
) -> tuple[str, Cells]:
    found = [entry.mean(lambda run: run.cost(*keys)) for entry in group.entries]
    form = form or (lambda value: f"{value:,.0f}")
    return label, ["–" if mean is None else form(mean.value) for mean in found]


def _times(value: float) -> str:
    return f"{value:.2f}×"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.2f} GiB"


def _machines(entry: Entry, what: str) -> str:
    def one(run: Run) -> str:
        device = run.record["provenance"]["device"]
        named = device["gpu"] or device["cpu"]
        return str(named if what == "device" else run.record["provenance"]["threads"])

    return text(", ".join(dict.fromkeys(one(run) for run in entry.runs)))


def origin(run: Run) -> dict[str, Any]:
    """Where a run comes from and how to make it again."""
    record = run.record
    provenance = record["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    device = provenance["device"]
    found = {
        "strategy": f"{record['strategy']['name']}, seed {run.seed}",
        "source": record["strategy"].get("source") or "not given",
        "device": f"{run.machine}, {provenance.get('system', '')}",
        "load": f"{provenance.get('load', '?')} at the start, {device.get('cores', '?')} cores",
        "versions": versions,
        "commit": provenance["commit"] or "not known (not run from a git checkout)",
        "data": f"{record['data']['name']}, fingerprint {str(record['data']['fingerprint'])[:12]}",
        "when": f"{provenance.get('started')} to {provenance.get('finished')}",
    }
    return {
        "id": run.id,
        "facts": [(name, text(value)) for name, value in found.items()],
        "command": command(record["settings"], _defaults(record)),
    }


def _defaults(record: Any) -> dict[str, Any]:
    """What ``maskbench run`` would choose by itself; the machine's own choices are not among it."""
    model = record["model"]
    patches = (model["image"] // model["patch"]) ** 2
    fields = {name: field.default for name, field in Request.model_fields.items()}
    preset = PRESETS.get(record["settings"].get("model"))
    recipe = {"batch": preset.batch, "base_lr": preset.base_lr} if preset else {}
    machine = {"device": None, "precision": None, "budget": None}
    return {**fields, **machine, **recipe, "hidden": patches - patches // 4}
