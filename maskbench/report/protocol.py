"""How runs were matched, probed and tested, in words, from what they have recorded."""

from collections.abc import Iterable, Mapping
from typing import Any

from maskbench.report.attempts import MOST
from maskbench.report.frame import PIXELS, PROBE, TRAINED, UNTRAINED, VARIED
from maskbench.report.judge import judge
from maskbench.report.masks_words import covered
from maskbench.report.recorded import either, listed, of, said, short, told
from maskbench.report.studied import Studied
from maskbench.report.views import TOLERANCE, VIEWS, WIDEST, Group, amount
from maskbench.report.words import consumed, count, matched, views
from maskbench.statistics import (
    CONFIDENCE,
    FOR_CLAIM,
    FOR_INTERVAL,
    FOR_TEST,
    LEVEL,
    MARGIN,
)

NEAR = f"{100 * TOLERANCE:g} %"
FAR = f"and never beyond {100 * WIDEST:g} %"
EQUAL = {
    "images": "Images count as equal only exactly.",
    "flops": f"FLOPs count as equal within {NEAR} or one image of the costlier strategy, "
    f"whichever is more, {FAR}.",
    "seconds": f"Seconds count as equal on one kind of machine, within {NEAR} or one step, "
    f"whichever is more, {FAR}.",
}
CONTROLS = {UNTRAINED: "the same encoder before training", PIXELS: "raw pixels"}
NULLS = {
    "uniform": "uniform (as many patches anywhere)",
    "torus": "torus (the same mask, mirrored and shifted round the frame)",
    "shuffle": "shuffle (the same mask on other images)",
}
Rows = list[Mapping[str, Any]]


def budgets(group: Group) -> list[str]:
    """What the runs consumed: where they are equal, how far apart elsewhere, and what counts."""
    found = []
    if group.views:
        equal = f"The runs are matched in {views(group.views)}: {'; '.join(matched(group))}."
        found = [equal, *(EQUAL[view] for view in group.views)]
    elif len(group.runs) > 1:
        found = ["The runs are matched in no amount."]
    loose = [_range(group, view) for view in VIEWS if view not in group.views]
    found += [f"Not matched: {'; '.join(filter(None, loose))}."] if any(loose) else []
    flops = {part for run in group.runs for part, n in run.record["ledger"]["flops"].items() if n}
    order = list(dict.fromkeys(p for run in group.runs for p in run.record["ledger"]["flops"]))
    found.append(
        "FLOPs are counted by closed forms, 2 per multiply-add: "
        f"{listed([part for part in order if part in flops])}."
    )
    silent = [entry.label for entry in group.entries if not entry.says_cost]
    if silent:
        found.append(f"FLOPs are a lower bound, because it does not say its cost: {told(silent)}.")
    if any(run.cost("flops_prior") for run in group.runs):
        found.append("FLOPs of priors trained elsewhere are listed and not added.")
    found.append(
        "Seconds are training and setup; probes, looks at masks and checkpoints are off the "
        f"clock. Machine: {either(group.runs, lambda run: run.machine)}."
    )
    return found


def _range(group: Group, view: str) -> str:
    """What the runs consumed, from the least to the most; nothing where it is not known."""
    found = [used for run in group.runs if (used := amount(run, view)) is not None]
    if not found:
        return ""
    low, high = consumed(view, min(found)), consumed(view, max(found))
    return low if low == high else f"{low} to {high}"


def evaluation(group: Group) -> list[str]:
    """How the frozen encoders were probed; nothing without few-shot probes."""
    rows = [row for run in group.runs for row in run.record["probes"]]
    primary = _few(rows, PROBE)
    if not group.shots or not primary:
        return []
    shots = [row for row in primary if row["shots"] in group.shots]
    found = [
        "The encoder is frozen and sees every patch.",
        f"The feature is the mean of the patch tokens of its last block ({TRAINED}).",
        f"Multinomial logistic regression{_c(primary)}.",
        f"Labelled images per class: {told(group.shots)}; {_draws(shots)}.",
        f"Scored on {_values(primary, 'n_test', 'test images')}.",
    ]
    chance = next(run.classes for run in group.runs if run.classes)
    found.append(
        f"FS-AULC is the mean over these shots of (accuracy - chance) / (1 - chance), with a "
        f"chance of 1/{chance}."
    )
    varied = [f"{name}{_c(_few(rows, name))}" for name in VARIED if _few(rows, name)]
    found += [f"Repeated under another C: {listed(varied)}."] if varied else []
    found += _nearest(rows)
    controls = {row["feature"] for run in group.runs for row in run.record["controls"]}
    told_of = [f"{name} ({what})" for name, what in CONTROLS.items() if name in controls]
    found += [f"Controls: {listed(told_of)}."] if told_of else []
    return [*found, *_subsets(group)]


def _few(rows: Iterable[Mapping[str, Any]], probe: str) -> Rows:
    return [row for row in rows if (row["probe"], row["feature"]) == (probe, TRAINED)]


def _c(rows: Rows) -> str:
    """The regularisation of these fits; nothing where it is not recorded."""
    found = list(dict.fromkeys(told(row["C"]) for row in rows if row.get("C") is not None))
    return f" (C = {listed(found, 'or')})" if found else ""


def _values(rows: Rows, key: str, unit: str) -> str:
    found = list(dict.fromkeys(told(row[key]) for row in rows if row.get(key) is not None))
    return f"{listed(found, 'or')} {unit}" if found else unit


def _draws(rows: Rows) -> str:
    """Few-shot subsets, by shots where their numbers differ."""
    draws: dict[int, set[int]] = {}
    for row in rows:
        draws.setdefault(row["shots"], set()).add(row["draw"])
    by_number: dict[int, list[int]] = {}
    for shots, found in sorted(draws.items()):
        by_number.setdefault(len(found), []).append(shots)
    if len(by_number) == 1:
        return count(next(iter(by_number)), "draw")
    return " and ".join(f"{count(n, 'draw')} of {told(own)}" for n, own in by_number.items())


def _nearest(rows: Rows) -> list[str]:
    """The nearest neighbours that were looked at."""
    named = [row for row in rows if row["feature"] == TRAINED and row["probe"] == "knn20"]
    if not named:
        return []
    facts = [
        f"{name} = {told(row[key])}"
        for row in named[:1]
        for key, name in (("k", "k"), ("T", "temperature"))
        if row.get(key) is not None
    ]
    inside = f" ({', '.join(facts)})" if facts else ""
    return [f"Nearest neighbours{inside} by cosine, votes weighted by similarity: 20-NN."]


def _subsets(group: Group) -> list[str]:
    """The list of the few-shot subsets, and training images that were left out."""
    found = []
    probing = [run.record.get("probing") or {} for run in group.runs]
    lists = list(
        dict.fromkeys(str(p["manifest_sha256"])[:12] for p in probing if p.get("manifest_sha256"))
    )
    found += [f"SHA-256 of the list of subsets: {listed(lists, 'or')}."] if lists else []
    left = list(dict.fromkeys(told(p["duplicates"]) for p in probing if "duplicates" in p))
    if left:
        found.append(f"Training images with equal pixels in the test split: {listed(left, 'or')}.")
    return found


def tests(group: Group) -> list[str]:
    """What was tested, and what so many seeds allow; nothing where nothing is subtracted."""
    judged = judge(group).primary
    if not judged:
        return []
    pairs = listed([f"{name} {one.seeds}" for name, one in judged.items()])
    seeds = [one.seeds for one in judged.values()]
    most, family = max(seeds), len(judged)
    found = [
        "The unit is a pretraining seed; the endpoint is FS-AULC.",
        f"Every strategy is compared with random masking over the seeds of both: {pairs}.",
    ]
    if most >= FOR_INTERVAL:
        found.append(
            f"Intervals are {100 * CONFIDENCE:g} % t-intervals of the paired differences, "
            "mean ± t(0.975, S - 1) sd / √S for S seeds."
        )
    if most >= FOR_TEST:
        found.append(
            "p: exact two-sided sign-flip test over all 2^S flips (65,536 random ones above 16 "
            "seeds), corrected by Holm's method "
            f"over {count(family, 'comparison')} at a level of {LEVEL:g}."
        )
    if most >= FOR_CLAIM:
        found.append(f"Equivalence: two one-sided t-tests at ± {100 * MARGIN:.1f} point.")
    if any(judge(group).ranks.values()):
        found.append(
            "Rank letters: the first by FS-AULC has a, with every strategy whose paired interval "
            "against it includes 0, then b from the rest; not corrected for being several."
        )
    found.append(
        f"A strategy of which more than {100 * MOST:g} % of the runs that ended failed has no "
        "rank and no verdict."
    )
    return [*found, *_allowed(min(seeds))]


def _allowed(fewest: int) -> list[str]:
    """What the fewest pairs of the group did not allow."""
    missing = [
        f"{what} ({count(least, 'seed')})"
        for what, least in (
            ("an interval", FOR_INTERVAL),
            ("a test", FOR_TEST),
            ("a verdict", FOR_CLAIM),
        )
        if fewest < least
    ]
    had = count(fewest, "paired seed")
    return [f"With {had} there is not yet {listed(missing, 'or')}."] if missing else []


def masks(group: Group, studied: Studied | None) -> list[str]:
    """What was recorded of masks, and how it was studied."""

    def moments(run: Any) -> str | None:
        shares = run.record["masks"].get("moments")
        return f"{len(shares)} moments" if shares else None

    parts = said(group.runs, [("# images", of("masks", "images")), ("#", moments)])
    found = [f"Masks were recorded of {parts}."] if parts else []
    if any(run.record["masks"].get("difficulty") for run in group.runs):
        found.append(
            "Difficulty gap: loss under the strategy's masks over loss under random ones, minus 1."
        )
    if studied is None or not studied.strategies:
        return found
    rows = studied.tables["saliency"]
    sources, metrics = (
        list(dict.fromkeys(row[key] for row in rows)) for key in ("source", "metric")
    )
    nulls = [text for name, text in NULLS.items() if any(row.get(name) is not None for row in rows)]
    found.append(f"Saliency sources: {told(sources)}; metrics: {told(metrics)}.")
    found += [f"Null masks: {listed(nulls)}."] if nulls else []
    return [*found, covered(studied)]


def software(group: Group) -> list[str]:
    """Versions and commits; what no paragraph names is as it is there."""
    provenance = [run.record["provenance"] for run in group.runs]
    names = list(dict.fromkeys(name for one in provenance for name in one["versions"]))
    each = [
        (f"{name} #", lambda run, name=name: run.record["provenance"]["versions"].get(name))
        for name in names
    ]
    told = said(group.runs, each)
    found = [f"{told}."] if told else []
    commits = list(dict.fromkeys(short(one["commit"]) for one in provenance if one["commit"]))
    found += [f"Commit {listed(commits, 'or')}."] if commits else []
    return [*found, "What is not named here is as in these versions."] if found else []
