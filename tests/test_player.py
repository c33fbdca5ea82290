"""The page's part about runs' own masks: whose lines are whose, and who is not played."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from synthetic import GRID, html_of, plain, put, record

from maskbench.report import frame, page
from maskbench.results import read_metrics

DRAWS = True

NAMES = ("random", "block", "clmae", "grid")
GRID_TEXT = json.dumps({"rows": GRID, "columns": GRID, "hidden": 12})


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
            save_file(tensors, folder / "masks.safetensors", metadata={"grid": GRID_TEXT})
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


def table(html: str, label: str) -> dict[str, list[str]]:
    """A table by the label of its box: its head and its rows by their first cell."""
    box = html.partition(f'aria-label="{label}">')[2].partition("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in box.split("<tr>")[1:]]
    return {first: rest for first, *rest in rows}


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


def test_tables_of_other_numbers_of_moments_line_up(tmp_path: Path) -> None:
    moments = {"random": [0.0, 0.5, 1.0], "clmae": [0.0, 1.0], "grid": [0.0, 0.2, 1.0]}
    hidden = {}
    for name, shares in moments.items():
        rows = [{"gap": share / 4 - 0.1, "error": 0.01} for share in shares]
        told = {"file": "masks.safetensors", "moments": shares, "difficulty": rows, "images": 20}
        path = put(tmp_path, name, record(name, 0, 0.5, masks=told)) / "masks.safetensors"
        tensors = load_file(path)
        tensors["bits"] = tensors["bits"][-len(shares) :]
        tensors["steps"] = np.array([int(10 * share) for share in shares])
        save_file(tensors, path, metadata={"grid": GRID_TEXT})
        hidden[name] = np.unpackbits(tensors["bits"], axis=2).mean(axis=1).std(axis=1)
    html = html_of(tmp_path)
    assert table(html, "Difficulty gap") == {
        "Strategy": ["0 %", "20 %", "50 %", "100 %"],
        "random": ["−10.0", "–", "+2.5", "+15.0"],
        "clmae": ["−10.0", "–", "–", "+15.0"],
        "grid": ["−10.0", "−5.0", "–", "+15.0"],
    }
    numbers = table(html, "Numbers of the masks")
    assert numbers["Masks"] == ["0 %", "20 %", "50 %", "100 %"]
    for name, places in {"random": [0, 2, 3], "clmae": [0, 3], "grid": [0, 1, 3]}.items():
        cells = ["–"] * 4
        for place, spread in zip(places, hidden[name], strict=True):
            cells[place] = f"{spread:.3f}"
        assert numbers[f"{name}: spread"] == cells


def test_strategies_that_saw_other_images_are_named(tmp_path: Path) -> None:
    said = "Not played, since"
    assert said not in html_of(store(tmp_path / "all"))
    html = html_of(store(tmp_path / "one", strangers=("clmae",)))
    assert f"{said} it saw other images: clmae." in plain(html)
    (told,) = re.findall(r'<script type="application/json">([^<]*)</script>', html)
    assert {one["label"] for one in json.loads(told)["strategies"]} == {*NAMES} - {"clmae"}
    text = plain(html_of(store(tmp_path / "two", strangers=("block", "clmae"))))
    assert f"{said} they saw other images: block, clmae." in text
