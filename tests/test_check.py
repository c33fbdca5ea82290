"""``maskbench check`` on strangers' files: who breaks a clause is told which, and what was seen."""

import json
import re
from pathlib import Path

import pytest
from conftest import SMALL, cli
from strangers import FAILURES, PARTIAL, SEVERAL, STRANGERS
from test_readme import blocks

from maskbench.contract import CLAUSES, Skipped, Subject, judge, pairs, resources
from maskbench.contract import masks as masks_room
from maskbench.errors import BUG, USAGE

PROCESSES = next(clause for clause in CLAUSES if clause.name == "processes")


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes above lie in strange.py, in the current folder."""
    (tmp_path / "strange.py").write_text(STRANGERS)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer sizes, and no processes: they take seconds."""

    def skip(names: object) -> None:
        raise Skipped("left out by this test")

    monkeypatch.setattr(resources, "pairs", skip)
    monkeypatch.setattr(resources, "SHAPES", {"toy": SMALL})
    monkeypatch.setattr(masks_room, "SIDES", (4, 3))
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.usefixtures("stranger", "quick")
@pytest.mark.parametrize(("name", "clause", "expected", "seen"), FAILURES)
def test_a_broken_clause_is_named_with_what_was_expected_and_seen(
    name: str,
    clause: str,
    expected: str,
    seen: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli(monkeypatch, "check", f"strange.py:{name}") == BUG
    told = capsys.readouterr()
    rows = [row.rstrip() for row in told.out.splitlines()]
    number = next(number for number, row in enumerate(rows) if row.startswith("FAILED"))
    assert rows[number].split()[1] == clause
    labels, words = zip(*(row.split(maxsplit=1) for row in rows[number + 1 :][:2]), strict=True)
    assert labels == ("expected", "seen")
    assert expected in words[0]
    assert seen in words[1]
    others = [row for row in rows[number + 1 :] if row.startswith("FAILED")]
    if name not in SEVERAL:
        assert not others
        sentence = f"1 of {len(CLAUSES)} clause is not kept: {clause}"
        assert sentence in " ".join(told.err.split())
    assert "Traceback" not in told.err + told.out


@pytest.mark.slow
@pytest.mark.usefixtures("stranger")
def test_replicas_that_drift_apart_or_from_one_process_are_found() -> None:
    """What is of a part of the batch and should be of all; a path of one's own works there."""
    told = {}
    for name, pair in pairs([f"strange.py:{name}" for name in PARTIAL]).items():
        subject = Subject(name)
        subject.pair = pair
        verdict = judge(PROCESSES, subject)
        told[name.partition(":")[2]] = f"{verdict.expected}: {verdict.seen}"
    assert not told.pop("Whole").strip(": ")
    assert "both processes to hold the same values" in told["Drifts"]
    assert "strategy.mean" in told.pop("Drifts")
    for words in told.values():
        assert "two processes to end with the values of one, to 1e-05" in words
        assert "context.mean, .total or .gather" in words
        assert re.search(r"\d+ of \d+ values are further .* model\.\S+ by [\d.e-]+ of", words)


@pytest.mark.slow
def test_the_stranger_from_the_readme_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = blocks("python")
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli(monkeypatch, "check", "./mine.py:Mine") == 0
    told = capsys.readouterr()
    assert "FAILED" not in told.out
    assert [line.split()[1] for line in told.out.splitlines()] == [c.name for c in CLAUSES]
    assert "./mine.py:Mine keeps the contract" in told.err


@pytest.mark.usefixtures("stranger", "quick")
@pytest.mark.parametrize("name", ["random+strange.py:Weighted", "strange.py:Weighted"])
def test_composed_names_and_json(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "check", name, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"]
    assert [row["clause"] for row in answer["clauses"]] == [clause.name for clause in CLAUSES]


@pytest.mark.parametrize("name", ["clmea", "random+clmea"])
def test_unknown_names_are_refused_with_the_nearest(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "check", name) == USAGE
    assert "Did you mean 'clmae'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("stranger", "quick")
def test_debug_shows_where_it_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "check", "strange.py:Raises", "--debug") == BUG
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "strange.py" in told
