"""What cannot be is refused at once, in words that say what would work."""

from pathlib import Path

import pytest
from conftest import cli

from maskbench.errors import USAGE


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--strategy", "clmea"], "Did you mean 'clmae'"),
        (["--strategy", "random", "--model", "mirco"], "Did you mean 'micro'"),
        (["--strategy", "random", "--data", "scene"], "Did you mean 'scenes'"),
        (["--strategy", "random", "--data", "folder:"], "needs a path"),
        (["--strategy", "random", "--budget", "10epoch"], "Did you mean 'ep'"),
        (["--strategy", "random", "--budget", "0ep"], "larger than zero"),
        (["--strategy", "random", "--hidden", "0"], "choose 1 to 63"),
        (["--strategy", "random", "--hidden", "64"], "choose 1 to 63"),
        (["--strategy", "random", "--batch", "5001"], "between 1 and 5,000"),
        (["--strategy", "random", "--batch", "0"], "between 1 and 5,000"),
        (["--strategy", "random", "--seed", "one"], "Invalid value for '--seed'"),
        (["--strategy", "random", "--seed", "-1"], "choose 0 to"),
        (["--strategy", "random", "--device", "gpu"], "unknown device"),
        (["--strategy", "random", "--precision", "fp16"], "unknown precision"),
        (["--strategy", "random", "--set", "depth=2"], "unknown setting"),
        (["--strategy", "clmae", "--set", "dept=2"], "Did you mean 'depth'"),
        (["--strategy", "clmae", "--set", "depth"], "not key=value"),
        (["--strategy", "clmae", "--set", "depth=0"], "greater than or equal to 1"),
        (["--strategy", "clmae", "--set", "kl=1", "--set", "kl=2"], "given twice"),
        (["--strategy", "random", "--model", "vit_base"], "smaller than the 224 px"),
        (["--strategy", "random", "--lr", "-1"], "above 0"),
        (["--strategy", "random", "--limit", "3"], "below one image per class"),
    ],
)
def test_bad_input(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, the remedy in the message, no traceback, and no folder left behind."""
    monkeypatch.setenv("COLUMNS", "200")
    assert cli(monkeypatch, "run", "--out", str(tmp_path / "runs"), *words) == USAGE
    told = capsys.readouterr()
    assert says in " ".join(told.err.split())
    assert "Traceback" not in told.err
    assert not list(tmp_path.glob("runs/*/record.json"))


def test_unknown_setting_lists_all_with_defaults_and_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli(monkeypatch, "run", "--strategy", "clmae", "--set", "what=2")
    told = capsys.readouterr().err
    assert "kl = 0.1" in told
    assert "weight of the term that holds the mean score" in told


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "run", "--strategy", "clmea", "--debug") == USAGE
    assert "Traceback" in capsys.readouterr().err
