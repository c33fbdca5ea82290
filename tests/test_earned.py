"""No unearned word in anything that is generated, and the earned ones where they are earned."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from synthetic import compare, plain, put, record, rows

from maskbench.report import page
from maskbench.report.alarms import alarms, depends_on_c
from maskbench.report.diagnostics import diagnostics
from maskbench.report.judge import judge
from maskbench.report.methods import methods
from maskbench.report.reading import read
from maskbench.report.verdict import verdict
from maskbench.report.views import Group, groups

DRAWS = True  # figures have words, too
ROOT = Path(__file__).resolve().parents[1]
UNEARNED = re.compile(
    r"\b(better|best|worse|worst|outperform\w*|significan\w*|superior\w*|inferior\w*|wins?|won|"
    r"winner\w*|winning|loser\w*|beats?|beaten|improves?|improved|gains? over|"
    r"state[- ]of[- ]the[- ]art|sota|prove[sdn]?|no difference within)\b",
    re.IGNORECASE,
)
EFFECTS = {"grid": 0.03, "clmae": -0.03, "block": 0.0}
TIERS = {1: "smoke", 2: "smoke", 3: "draft", 5: "standard", 7: "standard", 8: "claim"}


def planted(store: Path, seeds: int, effects: dict[str, float] = EFFECTS) -> Path:
    """Runs of random and of strategies that differ from it by so much, nearly equally by seed."""
    noise = np.random.default_rng(4).normal(0, 0.0015, (len(effects), seeds))
    for seed in range(seeds):
        base = 0.5 + 0.01 * (seed % 3)
        put(store, f"random-{seed}", record("random", seed, base), files=False)
        for i, (name, gain) in enumerate(effects.items()):
            run = record(name, seed, base + gain + float(noise[i, seed]))
            put(store, f"{name}-{seed}", run, files=False)
    return store


def group_of(store: Path) -> Group:
    runs, left_out = read(sorted(store.iterdir()))
    (group,) = groups(runs, [item.begun for item in left_out if item.begun])
    return group


@cache
def generated(seeds: int) -> str:
    """All that is generated from planted runs: terminal, page, and every string of the JSON."""
    with TemporaryDirectory() as folder:
        store = planted(Path(folder) / "runs", seeds)
        options = ("--runs", str(store), "--out", str(Path(folder) / "page"))
        _, terminal = compare(*options)
        html = (Path(folder) / "page" / "report.html").read_text()
        _, told = compare(*options, "--json")
        group = group_of(store)
        listed = [text for part in methods(group) for text in part]
        listed += [f"{one.what} {one.state} {one.said}" for one in diagnostics(group)]
        labels = " ".join(re.findall(r'(?:aria-label|alt|title)="([^"]*)"', html))
    return "\n".join([terminal, plain(html), labels, *listed, *strings(json.loads(told))])


def strings(value: Any) -> list[str]:
    """Every key and text of a JSON document."""
    if isinstance(value, dict):
        return [text for k, v in value.items() for text in (str(k), *strings(v))]
    if isinstance(value, list):
        return [text for v in value for text in strings(v)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 7])
def test_no_unearned_word_below_the_claim_tier(seeds: int) -> None:
    assert UNEARNED.findall(generated(seeds)) == []


def test_the_words_are_said_where_they_are_earned() -> None:
    text = generated(8)
    assert "grid is better than random: grid − random = +3.7 points [" in text
    assert "clmae is worse than random: clmae − random = −3.7 points [" in text
    assert "block: no difference within 1.0 point, block − random = " in text
    assert "8 seeds, d_z = " in text
    assert {word.lower() for word in UNEARNED.findall(text)} == {
        "better", "worse", "no difference within",
    }  # fmt: skip


@pytest.mark.parametrize("seeds", TIERS)
def test_what_a_tier_says(seeds: int) -> None:
    text = generated(seeds)
    assert ("observed in one run" in text) == (seeds == 1)
    assert ("one seed: a smoke test, no verdict" in text) == (seeds == 1)
    assert ("consistent with a gain" in text) == (TIERS[seeds] == "standard")
    assert ("Holm p = 0.0" in text) == (seeds >= 6)
    assert bool(re.search(r"\+\d+\.\d \[[−\d.]+, [−\d.]+\]", text)) == (seeds >= 3)
    assert ("80 % power" in text) == (seeds >= 3)
    assert ("paired runs correlate" in text) == (seeds >= 3)
    assert TIERS[seeds] in text


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_no_p_value_below_six_seeds(seeds: int) -> None:
    assert not re.findall(r"\bp = ", generated(seeds))
    numbers = re.findall(r'"p(?:_adjusted|_equivalent)?": (\S+?),', generated(seeds))
    assert set(numbers) <= {"null"}


def test_what_is_written_by_hand_claims_nothing() -> None:
    for name in ("README.md", "docs/notes.md", "docs/strategies.md"):
        assert UNEARNED.findall((ROOT / name).read_text(encoding="utf-8")) == [], name


def test_too_small_a_gain_is_said_to_be_small(tmp_path: Path) -> None:
    text = verdict(group_of(planted(tmp_path, 8, {"grid": 0.004})))
    assert "grid is better than random" in text
    assert "by less than 1.0 point" in text


# The same bytes


def told(store: Path, order: Sequence[int]) -> str:
    folders = sorted(store.iterdir())
    report = page.make([folders[i] for i in order])
    return report.html + repr([judge(group).primary for group in report.groups])


@pytest.mark.slow
def test_the_same_bytes_in_another_order_and_process(tmp_path: Path) -> None:
    store = planted(tmp_path, 6)
    count = len(list(store.iterdir()))
    first = told(store, range(count))
    assert told(store, np.random.default_rng(0).permutation(count).tolist()) == first
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path\n"
        f"from test_earned import told; print(told(Path({str(store)!r}), range({count})), end='')"
    )
    here = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=here, capture_output=True, check=True
    )
    assert done.stdout.decode() == first


# Failed runs


def fail(store: Path, name: str, seeds: Sequence[int], status: str = "failed") -> None:
    for seed in seeds:
        broken = record(name, seed, 0.5, status=status, error="E", probes=[], ledger={})
        put(store, f"{name}-{seed}-{status}", broken, files=False)


def test_failed_runs_are_counted_and_spoil_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    store = planted(tmp_path / "runs", 8)
    fail(store, "grid", (8, 9), "diverged")  # 2 of 10: not more than a fifth
    fail(store, "clmae", (8, 9, 10))
    fail(store, "clmae", (11,), "interrupted")
    fail(store, "adios", (0, 1))
    group = group_of(store)
    found = judge(group)
    assert found.attempts["grid"].told == "8/10"
    assert found.attempts["clmae"].told == "8/12 !"
    assert (found.attempts["clmae"].failed, found.attempts["clmae"].incomplete) == (3, 1)
    assert found.attempts["adios"].told == "0/2 !"
    assert found.findings == {"block": "within", "clmae": None, "grid": "better"}
    assert (found.ranks["grid"], found.ranks.get("clmae")) == ("a", None)
    assert "but 3 of 11 runs of clmae failed: no verdict" in verdict(group)
    assert "adios" in " ".join(alarms(group))
    code, text = compare("--runs", str(store), "--out", str(tmp_path / "page"))
    html = plain((tmp_path / "page" / "report.html").read_text())
    assert "8/12 !" in text
    assert "3 of 12 !" in html
    for said in (text, html):
        assert "clmae: 8 of 12 started runs finished, 3 failed, 1 incomplete." in said
        assert "adios: 0 of 2 started runs finished, 2 failed (none to average)." in said
        assert re.search(r"31\.\d ?± ?\d\.\d\*", said)
    _, out = compare("--runs", str(store), "--out", str(tmp_path / "page"), "--json")
    (clmae,) = [row for row in json.loads(out)["rows"] if row["strategy"] == "clmae"]
    assert clmae["runs"]["failed"] == 3
    assert clmae["runs"]["flagged"] is True
    assert clmae["finding"] is None
    assert len(json.loads(out)["runs_started"]) == 5
    assert code == 3


def test_failed_runs_of_random_spoil_every_verdict(tmp_path: Path) -> None:
    store = planted(tmp_path, 8)
    fail(store, "random", (8, 9, 10))
    assert set(judge(group_of(store)).findings.values()) == {None}
    assert UNEARNED.findall(verdict(group_of(store))) == []


def test_failed_trials_and_other_budgets_are_no_failed_runs(tmp_path: Path) -> None:
    store = planted(tmp_path, 3)
    trial = record("grid", 5, 0.5, status="diverged")
    trial["settings"]["scored_on"] = "development"
    put(store, "trial", trial, files=False)
    other = record("grid", 5, 0.5, status="failed")
    other["budget"] = {**other["budget"], "amount": 80}
    put(store, "other", other, files=False)
    assert judge(group_of(store)).attempts["grid"].told == "3/3"


# Warnings


def varied(probe: str, accuracy: float) -> list[dict[str, Any]]:
    return [{**row, "probe": probe} for row in rows("patchmean", accuracy) if row["shots"]]


def test_a_ranking_that_turns_with_c_is_said_to(tmp_path: Path) -> None:
    for name, at_c, elsewhere in (("random", 0.5, 0.5), ("grid", 0.52, 0.49), ("clmae", 0.6, 0.6)):
        probes = [
            *rows("patchmean", at_c), *varied("logreg-C/10", at_c),
            *varied("logreg-Cx10", elsewhere),
        ]  # fmt: skip
        put(tmp_path, name, record(name, 0, at_c, probes=probes), files=False)
    group = group_of(tmp_path)
    assert depends_on_c(group) == [("random", "grid")]
    assert "The ranking depends on C" in " ".join(alarms(group))


def test_seeds_without_other_c_are_no_evidence_of_a_turn(tmp_path: Path) -> None:
    """Two older seeds tip the mean; the one that was probed under every C is alike under all."""
    for name, seeds in (("random", (0.5, 0.5, 0.5)), ("grid", (0.4, 0.4, 0.52))):
        for seed, at in enumerate(seeds):
            more = [*varied("logreg-C/10", at), *varied("logreg-Cx10", at)] if seed == 2 else []
            run = record(name, seed, at, probes=[*rows("patchmean", at), *more])
            put(tmp_path, f"{name}-{seed}", run, files=False)
    assert depends_on_c(group_of(tmp_path)) == []


def test_anchors(tmp_path: Path) -> None:
    assert alarms(group_of(planted(tmp_path / "whole", 1))) == []
    falling = [
        {**row, "accuracy": 0.5 - 0.01 * (row["shots"] or 0)} for row in rows("patchmean", 0)
    ]
    put(tmp_path / "odd", "random", record("random", 0, 0.5, probes=falling), files=False)
    put(tmp_path / "odd", "grid", record("grid", 0, 0.2), files=False)
    found = " ".join(alarms(group_of(tmp_path / "odd")))
    assert "Accuracy does not rise with labels (1, 4 per class): random." in found
    assert "Not above an untrained encoder: grid." in found
