"""The published report: whole, small, and what its records give."""

import re
from pathlib import Path

import pytest
from synthetic import CLAIMS, plain

from maskbench.report import page, writing
from maskbench.report.judge import judge

DRAWS = True

EXAMPLE = Path(__file__).resolve().parents[1] / "reports" / "example"
MOST_BYTES = 40 * 2**20


@pytest.fixture(scope="module")
def made() -> page.Report:
    return page.make(writing.runs_of(EXAMPLE))


@pytest.mark.slow
def test_it_is_what_its_records_give(made: page.Report) -> None:
    found, _ = writing.check(made, EXAMPLE)  # of other versions only the numbers are compared
    assert found == []


@pytest.mark.slow
def test_it_leaves_nothing_out_and_shows_everything(made: page.Report) -> None:
    assert made.left_out == []
    html = (EXAMPLE / "report.html").read_text(encoding="utf-8")
    for part in ("Leaderboard", "Differences to random", "few labels", "over epochs",
                 "against cost", "What was hidden", "What the masks hide", "Diagnostics", "Methods",
                 "What this report cannot tell you", "Every run"):  # fmt: skip
        assert part in plain(html), part
    assert 'class="player"' in html
    assert '"rebuilt":["data:image/webp' in html
    verdict = judge(made.groups[0])
    if not any(verdict.findings.values()):
        assert not [word for word in CLAIMS if re.search(rf"\b{word}\b", plain(html).lower())]


def test_it_is_small_and_holds_no_place_of_the_machine_it_was_made_on() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in files:
        if path.suffix in (".json", ".csv", ".html", ".jsonl"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"/(?:tmp|root|home|work)/", text), path.name
