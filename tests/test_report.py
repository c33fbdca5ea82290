"""The report: what it may compare, what it says, and that it is safe to send."""

import base64
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic import (
    CLAIMS,
    DATA,
    EVIL,
    MODEL,
    SHOTS,
    budget,
    compare,
    groups_of,
    html_of,
    ledger,
    pair,
    plain,
    put,
    record,
    used,
)  # fmt: skip

from maskbench.report import page, words
from maskbench.report.board import leaderboard
from maskbench.report.means import mean
from maskbench.report.reading import read
from maskbench.report.verdict import verdict
from maskbench.report.views import groups

# What the page is


def test_same_records_same_bytes(tmp_path: Path) -> None:
    one, two = pair(tmp_path / "one", 3), pair(tmp_path / "elsewhere" / "two", 3)
    assert html_of(one) == html_of(two)


def test_hostile_texts_are_only_texts(tmp_path: Path) -> None:
    pair(tmp_path)
    paired = EVIL.replace("\ud800", "")  # what is no text at all is refused
    put(tmp_path, "broken", record(EVIL, 0, 0.4))
    put(tmp_path, "evil", record(paired, 0, 0.4))
    put(tmp_path, "evil-failed", record(paired, 1, 0.4, status="failed", error=f"E: {paired}"))
    html = html_of(tmp_path)
    assert "<script>alert" not in html
    assert html.count("<script") == html.count("</script>") == 2  # the page's own, and the player's
    assert "&lt;script&gt;" in html
    assert "\\u003cscript" in html  # in the player's data
    assert not set(html) & {"\u202e", "\x1b", "\ud800"}
    html.encode("utf-8")


def test_nothing_is_fetched_and_only_the_page_s_own_script_runs(tmp_path: Path) -> None:
    html = html_of(pair(tmp_path, 3))
    assert (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in html
    )
    (script,) = re.findall(r"(?s)<script>(.*?)</script>", html)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; base-uri 'none'" in html
    targets = re.findall(r'(?:src|href)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert targets
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    assert "http:" not in html
    assert "https:" not in html
    assert len(html) < 1_000_000


def test_ids_are_unique_and_every_reference_has_one(tmp_path: Path) -> None:
    pair(tmp_path)
    put(tmp_path, "more", used("random", 0, 0.5, images=80, flops=8e9))
    html = html_of(tmp_path)
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    pointed = re.findall(r'(?:href="|url\()#([^")]*)', html) + re.findall(
        r'labelledby="([^"]*)"', html
    )
    assert set(pointed) <= set(ids)


# What it says


def test_one_seed_is_no_verdict(tmp_path: Path) -> None:
    text = plain(html_of(pair(tmp_path)))
    assert "one seed: a smoke test, no verdict" in text
    assert "clmae − random = +2.5 points, observed in one run." in text
    assert not re.search(r"\d ± \d", text)
    assert "one seed" in re.findall(r"(?s)<tbody>.*?</tbody>", html_of(tmp_path))[0]


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_no_claim_words(tmp_path: Path, seeds: int) -> None:
    text = plain(html_of(pair(tmp_path, seeds))).lower()
    assert not [word for word in CLAIMS if word in text]


def test_two_seeds_have_no_interval(tmp_path: Path) -> None:
    text = plain(html_of(pair(tmp_path, 2)))
    assert "With two seeds there is no interval and no verdict." in text


def test_three_seeds_have_a_paired_t_interval(tmp_path: Path) -> None:
    (group,) = groups(read(list(pair(tmp_path, 3).iterdir()))[0])
    found = leaderboard(group)[1].difference
    assert found
    # differences 0.02, 0.03, 0.04; sd 0.01; t(2) = 4.302653
    assert found.value == pytest.approx(0.03)
    assert found.half == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert "clmae − random = +3.8 points [0.6, 6.9] (3 seeds)" in verdict(group)  # over 0.8
    assert "A draft: 3 seeds give an interval and no test." in verdict(group)


def test_rounding_never_moves_an_interval_off_zero() -> None:
    found = mean([0.00996, 0.0, 0.0051])
    assert found
    low, high = (float(x) for x in words.band(found.band).replace("−", "-")[1:-1].split(","))
    assert low <= 100 * found.band[0]
    assert high >= 100 * found.band[1]


def test_seeds_that_random_lacks_are_not_paired(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    put(tmp_path, "clmae-1", record("clmae", 1, 0.9))
    (group,) = groups(read(list(tmp_path.iterdir()))[0])
    assert leaderboard(group)[1].difference is None
    assert "No seed is shared with random masking" in verdict(group)


def test_a_run_at_the_level_of_the_untrained_encoder_is_called_so(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.29))
    assert "Not above an untrained encoder: random." in plain(html_of(tmp_path))


def test_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    pair(tmp_path, 2)
    code, out = compare("--runs", str(tmp_path), "--out", str(tmp_path / "page"), "--json")
    rows = json.loads(out)["rows"]
    assert code == 0
    random, clmae = rows
    # two draws at 0.5 and 0.51, seeds a point apart
    assert random["accuracy"]["value"] == pytest.approx((0.505 + 0.515) / 2)
    assert clmae["difference"]["value"] == pytest.approx((0.02 + 0.03) / 2)
    assert random["over_untrained"]["value"] == pytest.approx(0.51 - 0.305)
    assert random["knn20"]["value"] == pytest.approx(0.505)
    by_shots = [(0.505 - (4 - n) / 50 - 0.2) / 0.8 for n in SHOTS]
    assert random["fs_aulc"]["value"] == pytest.approx(sum(by_shots) / 3 + 0.005 / 0.8)
    assert random["training_seconds"] == 2.5
    assert random["seconds_relative"] == 1.0
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html_of(tmp_path))
    assert {"51.0", "+3.1", "50.5", "40"} <= set(cells)


# What it compares


@pytest.mark.parametrize(
    "change",
    [
        {"budget": budget(80), "ledger": ledger(4.2, 80, 8e9)},
        {"data": {**DATA, "fingerprint": "e" * 64}},
        {"model": {**MODEL, "hidden": 8}},
        {"settings": {**record("clmae", 0, 0.5)["settings"], "base_lr": 0.5}},
    ],
)
def test_unlike_runs_share_no_table(tmp_path: Path, change: dict[str, Any]) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    put(tmp_path, "clmae-0", record("clmae", 0, 0.6, **change))
    html = html_of(tmp_path)
    tables = re.findall(r"(?s)<table.*?</table>", groups_of(html))
    assert not [table for table in tables if ">random</th>" in table and ">clmae</th>" in table]
    assert len(page.make(sorted(tmp_path.iterdir())).groups) == 2
    assert "clmae − random" not in html


def test_settings_tell_apart_entries_of_one_strategy(tmp_path: Path) -> None:
    for last in (-1, 0):
        strategy = {"name": "clmae", "settings": {"first": 1, "last": last}}
        put(tmp_path, f"clmae{last}", record("clmae", 0, 0.5, strategy=strategy))
    (group,) = groups(read(list(tmp_path.iterdir()))[0])
    assert [entry.label for entry in group.entries] == ["clmae (last=-1)", "clmae (last=0)"]


def test_seconds_are_related_only_on_the_same_machine(tmp_path: Path) -> None:
    pair(tmp_path)
    other = record("clmae", 0, 0.5)
    other["provenance"]["threads"] = 8
    (tmp_path / "clmae-0" / "record.json").write_text(json.dumps(other))
    (group,) = groups(read(list(tmp_path.iterdir()))[0])
    assert [row.seconds_relative for row in leaderboard(group)] == [1.0, None]


# What it leaves out


def test_left_out_runs_are_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    store = pair(tmp_path / "runs")
    put(store, "broken", record("clmae", 1, 0.5, status="failed", error="E: it broke"), files=False)
    put(store, "newer", record("clmae", 2, 0.5, schema=2), files=False)
    put(store, "partial", record("clmae", 3, 0.5, ledger={}), files=False)
    again = record("clmae", 0, 0.9)
    again["provenance"]["started"] = "2026-01-02T00:00:00+00:00"
    put(store, "twice", again)
    put(store, "textual", record("clmae", 5, 0.5, budget="much"), files=False)
    (store / "junk").mkdir()
    (store / "junk" / "record.json").write_bytes(b"\xff{")
    code, out = compare("--runs", str(store), "--out", str(tmp_path / "page"), "--json")
    assert code == 3
    found = {item["run"]: item["status"] for item in json.loads(out)["left_out"]}
    unreadable = {**dict.fromkeys(("junk", "textual"), "unreadable"), "newer": "other schema"}
    others = {"broken": "failed", "twice": "repeated", "partial": "unbudgeted"}
    assert found == {**others, **unreadable}
    text = plain((tmp_path / "page" / "report.html").read_text())
    assert "Left out, and why" in text
    assert "E: it broke" in text
    assert "schema 2" in text
    assert str(tmp_path) not in text


def test_missing_files_are_named(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5), files=False)
    report = page.make([tmp_path / "random-0"])
    assert [item.status for item in report.left_out] == ["missing file", "missing file"]
    assert "No masks were recorded." in report.html


def test_only_unfinished_runs_still_make_a_page(tmp_path: Path) -> None:
    put(tmp_path, "broken", record("random", 0, 0.5, status="running"), files=False)
    assert "There is no finished run to show." in html_of(tmp_path)


def test_without_masks_or_probes(tmp_path: Path) -> None:
    put(tmp_path, "a", record("random", 0, 0.5, probes=[], controls=[], masks={}))
    text = plain(html_of(tmp_path))
    assert "No probes" in text
    assert "No masks were recorded" in text
    assert "its record is not whole" not in text
