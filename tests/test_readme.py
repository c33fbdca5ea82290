"""What the README tells a newcomer to do works, word for word."""

import re
from pathlib import Path

import pytest
from conftest import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_strategy_in_the_readme_is_short_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = blocks("python")
    assert len(source.strip().splitlines()) <= 20
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    words = ["--budget", "3step", "--limit", "160", "--batch", "16", "--draws", "1", "--json"]
    assert cli(monkeypatch, "run", "--strategy", "./mine.py:Mine", *words) == 0
    assert '"status": "finished"' in capsys.readouterr().out


def test_every_option_the_readme_names_exists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    told = ""
    for verb in ("run", "compare", "ls", "show"):
        assert cli(monkeypatch, verb, "--help") == 0
        told += capsys.readouterr().out
    commands = "\n".join(blocks("bash"))
    uses = [line for line in commands.splitlines() if "maskbench " in line]
    for option in set(re.findall(r"(--[a-z][a-z-]+)", "\n".join(uses))):
        assert option in told, option


def test_set_up_commands_are_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install -q uv && uv run pytest" in README
    assert "pip install -q uv && uv run maskbench run --strategy clmae" in README
    assert "pip install -q uv\n" in script
    assert "uv run pytest\n" in script


def test_files_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"\b[A-Z]+_[A-Z]+\b", README)
