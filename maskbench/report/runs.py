"""The runs behind a page: where each comes from, its settings, and the command that makes it."""

import json
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import escape

from maskbench.report import tables
from maskbench.report.chapters import Chapter
from maskbench.report.frame import TRAINED, Run
from maskbench.trust import plain


def anchors(runs: Sequence[Run]) -> dict[str, str]:
    """Runs' keys to ids in the page, made of their names; two of one name are numbered."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for run in runs:
        name = base = f"run-{re.sub(r'[^A-Za-z0-9_.+-]+', '-', run.id)[:100]}"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        found.setdefault(run.key, name)
    return found


def origins(chapters: Sequence[Chapter]) -> list[dict[str, Any]]:
    """Every chapter's runs, strategy by strategy."""
    whole = {
        run.key: run for chapter in chapters for _, group in chapter.groups for run in group.runs
    }
    ids = anchors(list(whole.values()))
    found = []
    for place, chapter in enumerate(chapters, 1):
        entries: dict[str, dict[str, Run]] = {label: {} for label in chapter.labels}
        for _, group in chapter.groups:
            for entry in group.entries:
                entries[entry.label] |= {run.key: run for run in entry.runs}
        strategies = [
            {
                "id": f"s{place}-runs-{rank}",
                "label": label,
                "runs": [_one(run, ids[run.key]) for run in runs.values()],
            }
            for rank, (label, runs) in enumerate(entries.items(), 1)
        ]
        places = {one["label"]: one["id"] for one in strategies}
        found.append({"id": f"s{place}-runs", "strategies": strategies, "anchors": places})
    return found


def _one(run: Run, anchor: str) -> dict[str, Any]:
    shots = max(run.scores.get(TRAINED, {}), default=None)
    accuracy = run.accuracy(TRAINED, shots) if shots else None
    settings = json.dumps(run.record["settings"], indent=1, sort_keys=True, ensure_ascii=False)
    score = "no probes" if accuracy is None else f"{shots}-shot {100 * accuracy:.1f} %"
    return {
        **tables.origin(run),
        "anchor": anchor,
        "summary": f"seed {run.seed}: {score}",
        "settings": escape(plain(settings, lines=True)),
    }
