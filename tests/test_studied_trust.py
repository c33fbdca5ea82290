"""Studies of masks that are damaged, hostile, or of something else: named, the rest is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from studies import HIDDEN, IMAGES, change, found, store
from synthetic import EVIL, compare, foreign, html_of, plain

from maskbench import findings, trust


def no_study(folder: Path) -> None:
    (folder / findings.FOLDER / findings.JSON).unlink()


def torn(folder: Path) -> None:
    (folder / findings.FOLDER / findings.JSON).write_text('{"schema": 1, ')


def no_values(folder: Path) -> None:
    (folder / findings.FOLDER / findings.VALUES).unlink()


def other_values(folder: Path) -> None:
    file = folder / findings.FOLDER / findings.VALUES
    save_file({"values": np.zeros((3, IMAGES), np.float32)}, file)


def wrong_values(folder: Path) -> None:
    rows = len(
        json.loads((folder / findings.FOLDER / findings.JSON).read_text())["tables"]["saliency"]
    )
    values = np.full((rows, IMAGES), 0.25, np.float32)
    save_file({"values": values}, folder / findings.FOLDER / findings.VALUES)


def linked(folder: Path) -> None:
    file = folder / findings.FOLDER / findings.JSON
    away = folder.parent.parent / "away.json"
    file.rename(away)
    file.symlink_to(away)


def other_run(folder: Path) -> None:
    change(folder, run="somebody")


def no_moment(folder: Path) -> None:
    change(folder, moments=[{"share": 0.0, "step": 0}])


def twice(folder: Path) -> None:
    content = json.loads((folder / findings.FOLDER / findings.JSON).read_text())
    content["tables"]["geometry"] += content["tables"]["geometry"][:1]
    change(folder, tables=content["tables"])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (no_study, "maskbench masks"), (torn, "masks.json"), (no_values, "no analysis/values"),
        (other_values, "values of shape"), (wrong_values, "do not fit together"),
        (linked, "leaves its folder"), (other_run, "another run"), (no_moment, "no moment"),
        (twice, "twice"),
    ],
)  # fmt: skip
def test_damaged_studies_are_named_and_the_rest_is_shown(
    tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    runs = store(tmp_path / "runs")
    damage(runs / "clmae-1")
    both, left_out = found(runs)
    assert [(item.run, item.status) for item in left_out] == [("clmae-1", "missing file")]
    assert why in left_out[0].reason
    assert str(tmp_path) not in left_out[0].reason
    assert {label: len(own) for label, _, own in both.strategies} == {"random": 3, "clmae": 2}
    text = plain(html_of(runs))
    assert "its masks are not in the study of masks" in text
    assert "for 30 images and two seeds, the fewest of any strategy here" in text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"images_sha256": "1" * 64}, "on other images"),
        ({"reference": "random-0"}, "with another reference model"),
        ({"moments": [{"share": s, "step": 0} for s in (0.0, 0.3, 1.0)]}, "at other moments"),
        ({"grid": {"rows": 2, "columns": 8, "hidden": HIDDEN}, "maps": []}, "on another grid"),
    ],
)
def test_studies_of_something_else_are_named(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    change(store(tmp_path) / "random-0", **changes)
    both, left_out = found(tmp_path)
    assert [(item.run, item.status) for item in left_out] == [("random-0", "other masks")]
    assert why in left_out[0].reason
    assert {label: len(own) for label, _, own in both.strategies} == {"random": 2, "clmae": 3}
    assert why in plain(html_of(tmp_path))


def test_rounding_of_moments_to_steps_is_no_difference(tmp_path: Path) -> None:
    shares = [{"share": s, "step": 0} for s in (0.0, 0.51, 1.0)]
    change(store(tmp_path, 2) / "random-0", moments=shares)
    assert found(tmp_path)[1] == []


def test_hostile_texts_are_only_texts(tmp_path: Path) -> None:
    evil = EVIL.replace("\ud800", "")
    store(tmp_path / "runs", 2)
    for folder in (tmp_path / "runs").iterdir():
        content = json.loads((folder / findings.FOLDER / findings.JSON).read_text())
        for row in content["tables"]["saliency"]:
            row["source"] += rf"{evil}$\frac{{$"
            row["note"] = evil
        for row in content["tables"]["geometry"]:
            row["note"] = evil
        change(folder, tables=content["tables"], alarms=[evil, f"at 1 % of the budget: {evil}"])
    code, terminal = compare("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page"))
    assert code == 0
    texts = [terminal, *(file.read_text() for file in (tmp_path / "page").iterdir())]
    assert all(not set(text) & {"\u202e", "\x1b"} for text in texts)
    html = (tmp_path / "page" / "report.html").read_text()
    assert "What the masks hide" in html
    assert "<script" not in foreign(html)
    assert "&lt;script&gt;" in html


def test_tiny_p_values_are_no_reason_to_refuse_a_file() -> None:
    assert trust.parse('{"p": 1e-200}', smallest=0) == {"p": 1e-200}
    with pytest.raises(ValueError, match="within"):
        trust.parse('{"p": 1e-200}')
    with pytest.raises(ValueError, match="within"):
        trust.parse("1e31", smallest=0)
