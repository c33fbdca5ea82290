"""Tables of the page as rows of texts: facts, cost, origin."""

from collections.abc import Callable
from typing import Any

from maskbench.report.again import again
from maskbench.report.board import learning_rates
from maskbench.report.frame import Run
from maskbench.report.views import Entry, Group
from maskbench.report.words import big, count, duration, epochs, matched
from maskbench.trust import plain

Cells = list[str]
Section = tuple[str, list[tuple[str, Cells]]]
PARTS = ("data", "step", "strategy", "compilation")
OFF_BUDGET = ("paused", "checkpoint", "probes")


def facts(group: Group) -> list[tuple[str, str]]:
    """What all runs of a group share."""
    run = group.runs[0]
    record = run.record
    data, model = record["data"], record["model"]
    size = f"{model['width']} × {model['depth']}"
    classes = f"{len(data['classes'])} classes, " if data.get("classes") else "no classes, "
    seeds = sorted({len(entry.runs) for entry in group.entries})
    found = [
        ("Data", f"{data['name']}: {classes}{data['train']:,} train, {data['test']:,} test images"),
        ("Model", f"{model['preset']}: ViT {size}, {model['image']} px, patch {model['patch']}"),
        ("Hidden", group.conditions["hidden"]),
        ("Budget", _budget(group)),
        ("Recipe", group.conditions["recipe"].replace("_", " ")),
        ("Learning rate", learning_rates(group).partition(": ")[2].rstrip(".")),
        ("Seeds", " to ".join(str(n) for n in (seeds[0], seeds[-1])) + " per strategy")
        if len(seeds) > 1
        else ("Seeds", f"{count(seeds[0], 'seed')} per strategy"),
    ]
    return [(name, plain(value)) for name, value in found]


def _budget(group: Group) -> str:
    """The equal amounts; epochs where images are among them."""
    amounts = matched(group)
    if "images" in group.views:
        run = group.runs[0]
        passes = epochs(run, run.cost("images") or 0)
        amounts[0] += f" = {passes:.3g} epoch{'' if passes == 1 else 's'}"
    return "; ".join(amounts)


def cost(group: Group) -> list[Section]:
    """The ledger, a column per strategy, means over seeds."""
    on_clock = ("training", "setup", *PARTS, *OFF_BUDGET)
    others = [key for key in _keys(group, "seconds") if key not in on_clock]
    amount = [
        _line(group, "images seen", "images"),
        _line(group, "distinct images", "images_distinct"),
        ("epochs", [f"{_epochs(entry):.3g}" for entry in group.entries]),
        _line(group, "steps", "steps"),
        _line(group, "tokens encoded", "tokens_encoded", form=_big),
    ]
    time = [
        _line(group, "on the clock", "seconds_total", form=duration),
        _line(group, "of it setup (before training)", "seconds", "setup", form=duration),
        _line(group, "of it training", "seconds", "training", form=duration),
        *(
            _line(group, f"of training {plain(key)}", "seconds", key, form=duration)
            for key in (*PARTS, *others)
        ),
        *(
            _line(group, f"{key} (off the clock)", "seconds", key, form=duration)
            for key in OFF_BUDGET
        ),
        _line(group, "images per second", "images_per_s", form=lambda v: f"{v:,.1f}"),
    ]
    machine = [
        _line(group, "peak host memory", "peak_memory_bytes", "host", form=_bytes),
        _line(group, "peak GPU memory", "peak_memory_bytes", "device", form=_bytes),
        _line(group, "energy, kJ", "energy_joules", form=lambda v: f"{v / 1000:,.2f}"),
        ("device", [_machines(entry, "device") for entry in group.entries]),
        ("threads", [_machines(entry, "threads") for entry in group.entries]),
    ]
    return [
        ("Amount", amount),
        ("FLOPs, 2 per multiply-add", _compute(group)),
        ("Time", time),
        ("Machine", machine),
    ]


def _compute(group: Group) -> list[tuple[str, Cells]]:
    """FLOPs by part; with a bound where a strategy does not say what it costs."""
    label, cells = _line(group, "total", "flops_total", form=_big)
    bounds = ["" if entry.says_cost else "≥ " for entry in group.entries]
    return [
        (label, [bound + cell for bound, cell in zip(bounds, cells, strict=True)]),
        *(
            _line(group, f"of it {plain(part)}", "flops", part, form=_big)
            for part in _keys(group, "flops")
        ),
        _line(group, "prior (listed, not added)", "flops_prior", form=_big),
        _line(group, "relative to random, per image", "flops_relative_to_random", form=_times),
    ]


def _epochs(entry: Entry) -> float:
    found = entry.mean(lambda run: epochs(run, run.cost("images") or 0))
    return found.value if found else 0.0


def _big(value: float) -> str:
    return big(value).strip()


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

    return plain(", ".join(dict.fromkeys(one(run) for run in entry.runs)))


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
        "facts": [(name, plain(value)) for name, value in found.items()],
        "command": again(run),
    }
