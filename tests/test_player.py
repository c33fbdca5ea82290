"""The mask player's part of the page: whose lines are whose, and who is not played."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from synthetic import html_of, plain, put, record

from maskbench.report import frame, page
from maskbench.results import read_metrics

NAMES = ("random", "block", "clmae", "grid")


def store(path: Path, scheduled: tuple[str, ...] = (), strangers: tuple[str, ...] = ()) -> Path:
    """A run per strategy; some log a lambda, some saw other images than the rest."""
    for name in NAMES:
        folder = put(path, name, record(name, 0, 0.5))
        if name in scheduled:
            lines = [{"progress": i / 4, f"{name}/lambda": 1 - i / 4} for i in range(5)]
            with (folder / "metrics.jsonl").open("a") as file:
                file.write("\n" + "\n".join(json.dumps(line) for line in lines))
        if name in strangers:
            tensors = load_file(folder / "masks.safetensors")
            tensors["shown"] = 255 - tensors["shown"]
            grid = json.dumps({"rows": 4, "columns": 4, "hidden": 12})
            save_file(tensors, folder / "masks.safetensors", metadata={"grid": grid})
    return path


def styles(svg: str, tag: str) -> list[tuple[Any, ...]]:
    """Colour, width and dashes of an SVG's lines."""
    found = []
    for style in re.findall(rf'<{tag}\b[^>]* style="([^"]*)"', svg):
        own = dict(part.split(": ", 1) for part in style.rstrip("; ").split("; "))
        dashes = re.findall(r"[\d.]+", own.get("stroke-dasharray", ""))
        width = float(own.get("stroke-width", 1))
        found.append((own.get("stroke"), width, [round(float(dash), 2) for dash in dashes]))
    return found


def test_a_schedule_is_drawn_as_its_strategy_is_everywhere(tmp_path: Path) -> None:
    report = page.make(sorted(store(tmp_path, ("clmae", "grid")).iterdir()))
    labels = [entry.label for entry in report.groups[0].entries]
    (drawn,) = re.findall(r'(?s)<figure class="schedule">(.*?)</figure>', report.html)
    key = re.findall(r'(?s)class="course-key">(.*?)</svg> (\w+)</span>', drawn)
    loss = next(one for one in report.pictures if one.name == "g1-loss").svg()
    lines, elsewhere = styles(drawn, "polyline"), styles(loss, "path")
    assert [label for _, label in key] == ["clmae", "grid"]
    for line, (svg, label) in zip(lines, key, strict=True):
        assert styles(svg, "line") == [line]
        assert line in elsewhere  # as the loss figure draws it
        assert line[0] == f"var(--series-{labels.index(label)})"
    assert lines[0] != lines[1]


def test_what_a_run_logged_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(folder: Path) -> list[dict[str, Any]]:
        asked.append(folder.name)
        return read_metrics(folder)

    monkeypatch.setattr(frame, "read_metrics", counted)
    html = html_of(store(tmp_path, ("clmae",)))
    assert sorted(asked) == sorted(NAMES)  # for its loss, its check and its schedule
    assert "clmae 2.000 to 0.200" in plain(html)
    assert 'class="schedule"' in html
    (tmp_path / "clmae/metrics.jsonl").unlink()
    (tmp_path / "clmae/metrics.jsonl").symlink_to(tmp_path / "grid/metrics.jsonl")
    html = html_of(tmp_path)  # a link out of the folder is not followed
    assert "clmae is not recorded" in plain(html)
    assert "no loss curve: no readable metrics.jsonl" in plain(html)
    assert 'class="schedule"' not in html


def test_strategies_that_saw_other_images_are_named(tmp_path: Path) -> None:
    said = "Not played, since"
    assert said not in html_of(store(tmp_path / "all"))
    html = html_of(store(tmp_path / "one", strangers=("clmae",)))
    assert f"{said} it saw other images: clmae." in plain(html)
    (told,) = re.findall(r'<script type="application/json">([^<]*)</script>', html)
    assert {one["label"] for one in json.loads(told)["strategies"]} == {*NAMES} - {"clmae"}
    text = plain(html_of(store(tmp_path / "two", strangers=("block", "clmae"))))
    assert f"{said} they saw other images: block, clmae." in text
