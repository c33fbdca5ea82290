"""Three doors to a strategy, and what is said when one is shut."""

from pathlib import Path

import pytest

from maskbench import registry
from maskbench.errors import StrategyError, UsageError

MINE = """
import torch
from maskbench.strategy import Mask, MaskStrategy

class Mine(MaskStrategy):
    family, source, summary = "data-free", "ours", "hides the first patches"

    def mask(self, batch, context):
        scores = -torch.arange(context.grid.patches).float()
        return Mask.from_scores(scores.expand(len(batch.images), -1), context.grid)

class Other:
    pass
"""


def test_built_in_strategies_are_found_by_scanning() -> None:
    names = [entry.name for entry in registry.entries()]
    assert {"random", "clmae"} <= set(names)
    assert not any(name.startswith("_") for name in names)
    assert all(registry.load(name).family for name in names)


def test_facts_read_from_the_source_equal_those_of_the_class() -> None:
    for entry in registry.entries():
        cls = registry._load_one(entry.name)
        assert (entry.family, entry.source, entry.summary) == (cls.family, cls.source, cls.summary)


def test_a_file_is_loaded_only_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    cls = registry.load(f"{file}:Mine")
    assert cls.__name__ == "Mine"
    assert "mine" not in [entry.name for entry in registry.entries()]


@pytest.mark.parametrize(
    ("attribute", "error", "says"),
    [("Mien", UsageError, "Did you mean 'Mine'"), ("Other", StrategyError, "not a strategy")],
)
def test_wrong_class(tmp_path: Path, attribute: str, error: type[Exception], says: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    with pytest.raises(error, match=says):
        registry.load(f"{file}:{attribute}")


def test_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'clmae'"):
        registry.load("clmea")
    with pytest.raises(UsageError, match="no strategy file"):
        registry.load(f"{tmp_path}/none.py:Mine")
    (tmp_path / "broken.py").write_text("import torch\n1 / 0\n")
    with pytest.raises(StrategyError, match="ZeroDivisionError"):
        registry.load(f"{tmp_path}/broken.py:Mine")


def test_facts_in_every_literal_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tuple.py").write_text(MINE)
    lines = 'family: str = "data-free"\n    source = "ours"\n    summary = "hides"'
    tupled = 'family, source, summary = "data-free", "ours", "hides the first patches"'
    (tmp_path / "annotated.py").write_text(MINE.replace(tupled, lines))
    monkeypatch.setattr(registry, "_folder", lambda: tmp_path)
    assert [(e.name, e.family, e.source) for e in registry.entries()] == [
        ("annotated", "data-free", "ours"),
        ("tuple", "data-free", "ours"),
    ]


def test_entry_points_are_a_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from importlib.metadata import EntryPoint

    point = EntryPoint("theirs", "theirs_pkg:Mine", registry.GROUP)
    (tmp_path / "theirs_pkg.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert registry.load("theirs").__name__ == "Mine"
    assert "theirs" in [entry.name for entry in registry.entries()]
