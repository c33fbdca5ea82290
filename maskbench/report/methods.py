"""Methods in words, from what the runs of a group have recorded: what is not there is not said."""

from maskbench.report import protocol
from maskbench.report.frame import Run, variant
from maskbench.report.recorded import either, of, said, told
from maskbench.report.studied import Studied
from maskbench.report.views import Entry, Group
from maskbench.report.words import count
from maskbench.trust import plain


def methods(group: Group, sets: int = 1, studied: Studied | None = None) -> list[tuple[str, str]]:
    """Headings with a paragraph each, such that the experiment can be described and made again.

    Numbers are those of the records. Where runs differ in one, all of its values are named. How
    the suite works (``docs/probes.md``, ``docs/statistics.md``, ``docs/budgets.md``,
    ``docs/saliency.md``) is said only of what the runs have recorded.

    Args:
        group: Runs that may be compared.
        sets: Data sets over which its runs are averaged.
        studied: What is known of their masks.

    Returns:
        (heading, paragraph), plain texts that are not escaped for HTML.
    """
    found = [
        ("Data", _data(group, sets)),
        ("Model", _model(group)),
        ("Masking", _masking(group)),
        ("Pretraining", _pretraining(group)),
        ("Equal budgets", protocol.budgets(group)),
        ("Evaluation", protocol.evaluation(group)),
        ("Statistics", protocol.tests(group)),
        ("Masks", protocol.masks(group, studied)),
        ("Software", protocol.software(group)),
    ]
    return [(heading, plain(" ".join(texts))) for heading, texts in found if texts]


def _data(group: Group, sets: int) -> list[str]:
    def classes(run: Run) -> int | None:
        return len(run.record["data"].get("classes") or ()) or None

    runs, sizes = (
        group.runs,
        [
            ("# classes", classes),
            ("# training images", of("data", "train")),
            ("# test images", of("data", "test")),
            ("kept at # px", of("data", "stored_side")),
            ("fed at # px", of("model", "image")),
            ("layout #", of("data", "layout")),
            ("at most # images by --limit", of("settings", "limit")),
            ("# files left out as unreadable", _skipped),
        ],
    )
    name = either(runs, of("data", "name"))
    mark = either(runs, lambda run: str(run.record["data"]["fingerprint"])[:12])
    found = [f"{name} (fingerprint {mark}): {said(runs, sizes)}."]
    if sets > 1:
        found.append(f"The encoders were also probed on other data: {sets} data sets in all.")
    return found


def _skipped(run: Run) -> int | None:
    skipped = run.record["data"].get("skipped")
    return skipped["count"] if skipped else None


def _model(group: Group) -> list[str]:
    runs = group.runs
    encoder = [
        ("width #", of("model", "width")),
        ("# blocks", of("model", "depth")),
        ("# heads", of("model", "heads")),
        ("patches of # px", of("model", "patch")),
        ("# parameters", of("model", "parameters")),
    ]
    decoder = [
        ("width #", of("model", "decoder_width")),
        ("# blocks", of("model", "decoder_depth")),
        ("# heads", of("model", "decoder_heads")),
    ]
    name, behind = either(runs, of("model", "preset")), said(runs, decoder)
    found = f"Masked autoencoder {name}: a ViT encoder ({said(runs, encoder)})"
    return [f"{found} and a decoder ({behind})." if behind else f"{found}."]


def _masking(group: Group) -> list[str]:
    found = [f"{group.conditions['hidden']} are hidden.", *map(_strategy, group.entries)]
    priors = [(e.label, either(e.runs, of("strategy", "prior"))) for e in group.entries]
    for label, prior in priors:
        if prior:
            found.append(f"{label} knows from outside: {prior}.")
    stated = [run.record["strategy"].get("prior") for run in group.runs]
    if all(prior == "" for prior in stated):
        found.append("No strategy states a prior from outside its training images.")
    return found


def _strategy(entry: Entry) -> str:
    """Label, source, what was changed, and all settings."""
    settings = dict(variant(entry.runs[0])[1])
    file = settings.pop("file", None)
    source = either(entry.runs, of("strategy", "source"))
    named = f"{entry.label} ({source})" if source else entry.label
    own = ", ".join(f"{key} {told(value)}" for key, value in settings.items())
    parts = [f"settings {own}"] if own else []
    changed = entry.runs[0].record["strategy"].get("changed")
    if changed:
        parts.append(f"changed from its defaults: {', '.join(changed)}")
    elif changed is not None and own:
        parts.append("all at its defaults")
    parts += [f"digest of its file {file}"] if file else []
    return f"{named}: {'; '.join(parts)}." if parts else f"{named}."


def _pretraining(group: Group) -> list[str]:
    runs = group.runs
    recipe = [
        ("batch #", of("settings", "batch")),
        ("weight decay #", of("settings", "weight_decay")),
        ("warm-up over # of the budget (ten steps at least, half of it at most)", _warmup),
        ("precision #", of("settings", "precision")),
        ("compiled: #", of("settings", "compile")),
        ("device #", of("settings", "device")),
    ]
    amounts = [
        ("# images", lambda run: run.cost("images")),
        ("# steps", lambda run: run.cost("steps")),
        ("# epochs", _epochs),
        ("stopped by #", of("ledger", "stop_reason")),
    ]
    each = [
        f"{entry.label}: budget {either(entry.runs, of('budget', 'text'))}, "
        f"{said(entry.runs, amounts)}, seeds {told(sorted(run.seed for run in entry.runs))}."
        for entry in group.entries
    ]
    shared = said(runs, recipe)
    return [f"{shared[:1].upper()}{shared[1:]}."] * bool(shared) + _rates(group) + each


def _warmup(run: Run) -> str | None:
    share = run.record["settings"].get("warmup")
    known = isinstance(share, int | float)
    return f"{100 * share:g} %" if known else None


def _epochs(run: Run) -> float:
    budget = run.record["budget"]
    return (run.cost("images") or 0) * float(budget["epochs"] / budget["images"])


def _rates(group: Group) -> list[str]:
    """Base learning rates and how they were chosen; none where none is recorded."""

    def one(run: Run) -> str | None:
        rate, grid = (run.record["settings"].get(key) for key in ("base_lr", "lr_grid"))
        if rate is None:
            return None
        among = f" of {told(grid)}" if grid else ""
        how = f"chosen from {count(run.trials, 'trial')}{among} on development images"
        return f"{told(rate)}, {how if run.trials else 'not tuned'}"

    rates = {entry.label: either(entry.runs, one) for entry in group.entries}
    found = {label: rate for label, rate in rates.items() if rate}
    if len(set(found.values())) == 1 and len(found) == len(rates):
        return [f"Base learning rate: {next(iter(found.values()))}."]
    words = "; ".join(f"{label} {rate}" for label, rate in found.items())
    return [f"Base learning rates: {words}."] if words else []
