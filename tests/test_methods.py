"""Methods in words: every number is the record's, and what is not recorded is not said."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import found, store
from synthetic import EVIL, put, record, rows, used
from test_earned import UNEARNED, group_of, planted

from maskbench.report.methods import methods
from maskbench.report.views import Group

NASTY = EVIL.replace("\ud800", "")
"""A record with a lone surrogate in a name is refused as a whole."""

Change = Callable[[dict[str, Any]], Any]


def runs(folder: Path, change: Change | None = None, seeds: int = 1) -> Group:
    """Random and clmae; ``change`` is made to every record."""
    for seed in range(seeds):
        for name in ("random", "clmae"):
            run = copy.deepcopy(record(name, seed, 0.5 + seed / 100))
            if change:
                change(run)
            put(folder, f"{name}-{seed}", run, files=False)
    return group_of(folder)


def told(group: Group) -> dict[str, str]:
    return dict(methods(group))


def text(group: Group) -> str:
    return "\n".join(f"{heading}: {said}" for heading, said in methods(group))


def fits(run: dict[str, Any]) -> None:
    run["probes"] = [
        {**row, "C": 300.0} if row["probe"] == "logreg" else {**row, "k": 20, "T": 0.07}
        for row in run["probes"]
    ]


CASES: list[tuple[str, Change, str]] = [
    ("Data", lambda r: r["data"].update(fingerprint="a1" * 32), "toy (fingerprint a1a1a1a1a1a1)"),
    ("Data", lambda r: r["data"].update(train=12345), "12,345 training images"),
    ("Data", lambda r: r["data"].update(stored_side=9), "kept at 9 px"),
    ("Data", lambda r: r["settings"].update(limit=17), "at most 17 images by --limit"),
    ("Model", lambda r: r["model"].update(depth=7), "7 blocks"),
    ("Model", lambda r: r["model"].update(depth=1), "1 block"),
    ("Model", lambda r: r["model"].update(decoder_width=11), "a decoder (width 11)"),
    ("Model", lambda r: r["model"].update(parameters=1234), "1,234 parameters"),
    ("Masking", lambda r: r["model"].update(hidden=9), "9 of 16 patches are hidden."),
    ("Masking", lambda r: r["strategy"].update(source="Doe, 1999"), "clmae (Doe, 1999)"),
    ("Masking", lambda r: r["strategy"].update(settings={"kl": 0.25}),
      "clmae (a test): settings kl 0.25."),
    ("Masking", lambda r: r["strategy"].update(settings={"kl": 0.25}, changed={"kl": 0.25}),
      "changed from its defaults: kl."),
    ("Masking", lambda r: r["strategy"].update(prior="a CLIP"),
      "clmae knows from outside: a CLIP."),
    ("Masking", lambda r: r["strategy"].update(prior=""), "No strategy states a prior"),
    ("Pretraining", lambda r: r["settings"].update(batch=64), "Batch 64"),
    ("Pretraining", lambda r: r["settings"].update(weight_decay=0.125), "weight decay 0.125"),
    ("Pretraining", lambda r: r["settings"].update(warmup=0.2), "warm-up over 20 % of the budget"),
    ("Pretraining", lambda r: r["settings"].update(precision="bf16"), "precision bf16"),
    ("Pretraining", lambda r: r["settings"].update(base_lr=0.02),
      "Base learning rate: 0.02, not tuned."),
    ("Pretraining", lambda r: r["settings"].update(lr_trials=3, lr_grid=[0.1, 0.2, 0.4]),
      "chosen from 3 trials of 0.1, 0.2, 0.4"),
    ("Pretraining", lambda r: r["ledger"].update(stop_reason="a bell"), "stopped by a bell"),
    ("Equal budgets", lambda r: r["provenance"].update(threads=8), "a CPU, 8 threads"),
    ("Equal budgets", lambda r: r["ledger"]["flops"].update(encoder=2e9, teacher=1e9),
      "encoder, decoder and teacher"),
    ("Equal budgets", lambda r: r["ledger"].update(flops_prior=1e12), "priors trained elsewhere"),
    ("Evaluation", fits, "logistic regression (C = 300)"),
    ("Evaluation", fits, "(k = 20, temperature = 0.07)"),
    ("Evaluation", lambda r: r.update(probing={"duplicates": 5}), "in the test split: 5."),
    ("Evaluation", lambda r: r.update(probing={"manifest_sha256": "d" * 64}),
      "subsets: dddddddddddd."),
    ("Masks", lambda r: r["masks"].update(images=77), "77 images"),
    ("Masks", lambda r: r["masks"].update(moments=[0, 0.5, 1]), "3 moments"),
    ("Software", lambda r: r["provenance"]["versions"].update(torch="9.9"), "torch 9.9"),
    ("Software", lambda r: r["provenance"].update(commit="c" * 40 + "-dirty"),
      "Commit cccccccccccc-dirty."),
]  # fmt: skip


@pytest.mark.parametrize(("heading", "change", "said"), CASES, ids=[case[2] for case in CASES])
def test_a_recorded_setting_is_said_and_only_then(
    tmp_path: Path, heading: str, change: Change, said: str
) -> None:
    assert said in told(runs(tmp_path / "changed", change))[heading]
    if said != "1 block":  # so it is without a change, too
        assert said not in told(runs(tmp_path / "plain")).get(heading, "")


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("batch", "Batch"), ("weight_decay", "eight decay"), ("warmup", "arm-up"),
        ("precision", "recision"), ("base_lr", "learning rate"), ("compile", "ompiled"),
        ("device", "device"),
    ],
)  # fmt: skip
def test_what_is_not_recorded_is_not_claimed(tmp_path: Path, key: str, word: str) -> None:
    assert word in told(runs(tmp_path / "whole"))["Pretraining"]
    assert word not in told(runs(tmp_path, lambda r: r["settings"].pop(key)))["Pretraining"]
    assert "None" not in text(runs(tmp_path / "again", lambda r: r["settings"].pop(key)))


def test_nothing_is_said_of_probes_and_masks_that_are_not_there(tmp_path: Path) -> None:
    headings = told(runs(tmp_path, lambda r: r.update(probes=[], controls=[], masks={})))
    assert headings.keys().isdisjoint({"Evaluation", "Statistics", "Masks"})
    assert {"Data", "Model", "Masking", "Pretraining", "Equal budgets", "Software"} == set(headings)


def test_settings_that_differ_are_all_named(tmp_path: Path) -> None:
    for name, batch, threads in (("random", 4, 1), ("clmae", 4, 2)):
        run = record(name, 0, 0.5)
        run["provenance"]["threads"] = threads
        run["ledger"]["stop_reason"] = f"bell {threads}"
        put(tmp_path, name, run, files=False)
        assert batch == run["settings"]["batch"]
    found = told(group_of(tmp_path))
    assert "Machine: a CPU, 1 thread or a CPU, 2 threads." in found["Equal budgets"]
    assert (
        "clmae: budget 40, 40 images, 10 steps, 2 epochs, stopped by bell 2"
        in (found["Pretraining"])
    )


def test_a_matched_view_is_explained_and_the_others_are_ranges(tmp_path: Path) -> None:
    put(tmp_path, "a", used("random", 0, 0.5, flops=4e9, seconds=3), files=False)
    put(tmp_path, "b", used("clmae", 0, 0.5, flops=9e9, seconds=12), files=False)
    said = told(group_of(tmp_path))["Equal budgets"]
    assert "matched in images: 40 images. Images count as equal only exactly." in said
    assert "Not matched: 4 GFLOP to 9 GFLOP; 3 s to 12 s." in said
    assert "FLOPs count as equal" not in said


def test_draws_are_counted_by_shots(tmp_path: Path) -> None:
    def fewer(run: dict[str, Any]) -> None:
        run["probes"] = [
            row for row in rows("patchmean", 0.5) if (row["shots"], row["draw"]) != (4, 1)
        ]

    assert "two draws." in told(runs(tmp_path / "all"))["Evaluation"]
    assert (
        "two draws of 1, 2 and one draw of 4." in told(runs(tmp_path / "few", fewer))["Evaluation"]
    )


@pytest.mark.parametrize(
    ("seeds", "there", "missing"),
    [
        (1, "not yet an interval (3 seeds), a test (6 seeds) or a verdict", "t-interval"),
        (3, "t(0.975, S - 1)", "sign-flip"),
        (6, "corrected by Holm's method over 3 comparisons", "Equivalence"),
        (8, "Equivalence: two one-sided t-tests at ± 1.0 point.", "not yet"),
    ],
)
def test_statistics_are_those_that_so_many_seeds_allow(
    tmp_path: Path, seeds: int, there: str, missing: str
) -> None:
    said = told(group_of(planted(tmp_path, seeds)))["Statistics"]
    assert f"block {seeds}" in said
    assert there in said
    assert missing not in said
    assert UNEARNED.findall(text(group_of(tmp_path))) == []


def test_a_study_names_its_nulls_and_what_its_intervals_cover(tmp_path: Path) -> None:
    group = group_of(store(tmp_path))
    said = dict(methods(group, studied=found(tmp_path)[0]))["Masks"]
    assert "Null masks: uniform (as many patches anywhere), torus" in said
    assert "edges" in said
    assert "over seeds and images" in said
    assert "Null masks" not in told(group).get("Masks", "")


def test_several_data_sets_are_counted(tmp_path: Path) -> None:
    group = runs(tmp_path)
    assert "data sets in all" not in told(group)["Data"]
    assert "3 data sets in all" in dict(methods(group, 3))["Data"]


def test_hostile_texts_come_out_plain(tmp_path: Path) -> None:
    def change(run: dict[str, Any]) -> None:
        run["strategy"].update(
            source=f"{NASTY}\n",
            prior=NASTY,
            settings={f"k\n{NASTY}": NASTY},
            changed={NASTY: NASTY},
        )
        run["data"].update(name=f"{NASTY}\r\n", layout=EVIL)
        run["settings"].update(batch={"x": NASTY}, precision=[EVIL], device=NASTY)
        run["provenance"].update(commit=NASTY, versions={NASTY: NASTY})

    said = text(runs(tmp_path, change))
    assert said.replace("\n", "").isprintable()
    assert len(said.splitlines()) == len(methods(group_of(tmp_path)))
    assert "\\x1b[31m" in said
