"""The checklist: every check turns from ok to what it is there for, and says whom it means."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import change as rewrite
from studies import found, store
from synthetic import EVIL, put, record, rows
from test_earned import UNEARNED, fail, group_of, planted, varied

from maskbench.report.diagnostics import Finding, diagnostics
from maskbench.report.views import Group

Change = Callable[[dict[str, Any]], Any]


def runs(folder: Path, change: Change | None = None, *, files: bool = True) -> Group:
    """Two seeds of random and clmae that pass every check; ``change`` is made to clmae-1."""
    for seed in (0, 1):
        for name, at in (("random", 0.5), ("clmae", 0.55)):
            run = copy.deepcopy(record(name, seed, at))
            run["probes"] += [*varied("logreg-C/10", at), *varied("logreg-Cx10", at)]
            for row in (*run["probes"], *run["controls"]):
                row["converged"] = True
            run["nonfinite"] = {"steps_skipped": []}
            run["provenance"]["commit"] = "c" * 40
            if change and (name, seed) == ("clmae", 1):
                change(run)
            put(folder, f"{name}-{seed}", run, files=files)
    return group_of(folder)


def told(group: Group, *more: Any) -> dict[str, Finding]:
    return {one.what: one for one in diagnostics(group, *more)}


def trained(at: float) -> Change:
    return lambda run: run.update(probes=rows("patchmean", at))


def test_all_is_well(tmp_path: Path) -> None:
    states = {one.what: one.state for one in diagnostics(runs(tmp_path))}
    assert states.pop("Collapse of masks") == "not known"
    assert set(states.values()) == {"ok"}
    assert len(states) == 15


CASES: list[tuple[str, Change, str, str]] = [
    ("Probe fits", lambda r: r["probes"][0].update(converged=False), "look", "clmae-1 (1 of 30)"),
    ("Probe fits", lambda r: r["probes"][0].pop("converged"), "not known", "Whether 1 fits"),
    ("Trained above an untrained encoder", trained(0.2), "look", "random 2 of 2; clmae 1 of 2"),
    ("Trained above raw pixels", trained(0.2), "look", "with 4 labels per class"),
    ("Trained above raw pixels", trained(0.27), "ok", "clmae 2 of 2"),
    ("Skipped steps", lambda r: r["nonfinite"].update(steps_skipped=[3]), "look", "(one step)"),
    ("Skipped steps", lambda r: r.pop("nonfinite"), "not known", "1 of 4 runs"),
    ("Versions", lambda r: r["provenance"]["versions"].update(torch="9"), "look", "torch 9 ("),
    ("Commit", lambda r: r["provenance"].update(commit="d" * 40), "look", "dddddddddddd (one run)"),
    ("Commit", lambda r: r["provenance"].update(commit=None), "not known", "1 of 4 runs"),
    ("Checkout", lambda r: r["provenance"].update(commit="c" * 40 + "-dirty"), "look", "clmae-1"),
    ("Machine", lambda r: r["provenance"].update(threads=4), "look", "a CPU, 4 threads (one run)"),
    ("Machine load", lambda r: r["provenance"].update(load=5.0), "look", "clmae-1 (2.50)"),
    ("Machine load", lambda r: r["provenance"].update(load=None), "not known", "1 of 4 runs"),
    ("Seeds", lambda r: r.update(seed=7), "look", "random 0, 1; clmae 0, 7"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "change", "state", "said"), CASES, ids=[c[0] + c[3] for c in CASES]
)
def test_a_check_turns(tmp_path: Path, what: str, change: Change, state: str, said: str) -> None:
    found = told(runs(tmp_path, change))[what]
    assert found.state == state
    assert said in found.said


def test_a_dirty_checkout_is_no_other_commit(tmp_path: Path) -> None:
    group = runs(tmp_path, lambda r: r["provenance"].update(commit="c" * 40 + "-dirty"))
    assert told(group)["Commit"].state == "ok"


def test_none_above_an_anchor_is_a_failure(tmp_path: Path) -> None:
    put(tmp_path, "r", record("random", 0, 0.2), files=False)
    found = told(group_of(tmp_path))["Trained above an untrained encoder"]
    assert (found.state, "random 0 of 1" in found.said) == ("failed", True)


@pytest.mark.parametrize(("status", "state"), [("failed", "failed"), ("interrupted", "look")])
def test_runs_that_did_not_finish_are_named(tmp_path: Path, status: str, state: str) -> None:
    fail(planted(tmp_path, 3), "grid", (5,), status)
    found = told(group_of(tmp_path))["Runs"]
    assert found.state == state
    assert f"grid-5-{status} ({status})" in found.said
    assert "grid: 3 of 4 started runs finished" in found.said


def test_an_order_that_turns_under_another_c(tmp_path: Path) -> None:
    for name, at, elsewhere in (("random", 0.5, 0.5), ("grid", 0.52, 0.488)):
        probes = [
            *rows("patchmean", at), *varied("logreg-C/10", at), *varied("logreg-Cx10", elsewhere)
        ]  # fmt: skip
        put(tmp_path, name, record(name, 0, at, probes=probes), files=False)
    found = told(group_of(tmp_path))["Probe's C"]
    assert found.state == "look"
    assert "grid − random +2.5, +2.5, −1.5." in found.said
    assert "The order turns for random and grid." in found.said
    assert told(group_of(planted(tmp_path / "old", 1)))["Probe's C"].state == "not known"


@pytest.mark.parametrize(
    ("losses", "state", "said"),
    [
        ([1.0, 2.0], "look", "clmae 1.000 to 2.000, it has not fallen"),
        ([2.0, None, 1.0], "failed", "2.000 to 1.000, one line without a finite loss"),
        ([], "not known", "clmae is not recorded"),
    ],
)
def test_loss(tmp_path: Path, losses: list[float | None], state: str, said: str) -> None:
    group = runs(tmp_path)
    lines = [json.dumps({"images": i, "loss": loss}) for i, loss in enumerate(losses)]
    (tmp_path / "clmae-0" / "metrics.jsonl").write_text("\n".join([*lines, '{"note": 1}']))
    found = told(group)["Training loss"]
    assert (found.state, said in found.said) == (state, True)
    assert "random 2.000 to 0.200" in found.said


def test_losses_are_tenths_in_the_order_of_images(tmp_path: Path) -> None:
    group = runs(tmp_path)
    lines = [json.dumps({"images": i, "loss": 30 - i}) for i in range(20)]
    (tmp_path / "clmae-0" / "metrics.jsonl").write_text("\n".join(reversed(lines)))
    assert "clmae 29.500 to 11.500" in told(group)["Training loss"].said


def test_alarms_of_masks(tmp_path: Path) -> None:
    group = group_of(store(tmp_path, 1))
    calm = told(group, found(tmp_path)[0])["Collapse of masks"]
    rewrite(tmp_path / "clmae-0", alarms=["at 50 % of the budget: masks of MAE are alike."])
    loud = told(group_of(tmp_path), found(tmp_path)[0])["Collapse of masks"]
    assert (calm.state, calm.said) == ("ok", "No alarm in two studies.")
    assert loud.state == "look"
    assert "clmae, seed 0, at 50 % of the budget: masks of MAE are alike." in loud.said


def test_budgets_apart(tmp_path: Path) -> None:
    group = runs(tmp_path, lambda r: r["ledger"].update(
        flops_total=4.02e9, flops={**r["ledger"]["flops"], "decoder": 1.02e9}))  # fmt: skip
    found = told(group)["Equal budget"]
    assert found.said.startswith("Most over least, minus 1: images 0 % and FLOPs 0.5 %")


def test_other_pixels_under_one_name(tmp_path: Path) -> None:
    one, two = runs(tmp_path / "one"), None
    other = record("random", 0, 0.5)
    other["data"]["fingerprint"] = "e" * 64
    put(tmp_path / "two", "r", other, files=False)
    two = group_of(tmp_path / "two")
    assert told(one, None, [one])["Data of one name"].state == "ok"
    found = told(one, None, [one, two])["Data of one name"]
    assert (found.state, found.said) == ("look", "toy in this group has other pixels than in g2.")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for seed in range(9):
        run = record("random", seed, 0.5)
        run["provenance"]["load"] = 9.0
        put(tmp_path, f"r{seed}", run, files=False)
    said = told(group_of(tmp_path))["Machine load"].said
    assert said.endswith("r5 (4.50); and 3 more.")


def test_texts_are_plain_and_claim_nothing(tmp_path: Path) -> None:
    def change(run: dict[str, Any]) -> None:
        nasty = EVIL.replace("\ud800", "") + "\n"
        run["provenance"].update(commit=nasty, versions={nasty: nasty})
        run["provenance"]["device"]["cpu"] = nasty
        run["data"]["name"] = "toy"

    found = diagnostics(runs(tmp_path, change))
    assert all(one.said.isprintable() for one in found)
    assert {one.state for one in found} <= {"ok", "look", "failed", "not known"}
    assert UNEARNED.findall(" ".join(f"{one.what} {one.said}" for one in found)) == []
