"""Files of probes from others: what is damaged or hostile is named, and the rest goes on."""

import json
import os
from pathlib import Path

import pytest
from synthetic import EVIL, compare, foreign
from test_datasets import probed, probes, store_of

from maskbench.report import page


def spoil(path: Path, how: str) -> None:
    content = json.loads(path.read_text())
    text = {
        "torn": path.read_text()[:200],
        "nan": path.read_text().replace('"accuracy": 0.', '"accuracy": NaN, "x": 0.', 1),
        "deep": "[" * 5000,
        "list": "[]",
        "schema": json.dumps({**content, "schema": 2}),
        "lacks": json.dumps({k: v for k, v in content.items() if k != "asked"}),
        "classes": json.dumps({**content, "data": {**content["data"], "classes": ["a", "b"]}}),
        "data": json.dumps({**content, "asked": {**content["asked"], "data": "x"}}),
        "encoder": json.dumps({**content, "encoder": {"name": f"another{EVIL}"}}),
        "accuracy": json.dumps({**content, "rows": [{**content["rows"][0], "accuracy": 1.5}]}),
        "shots": json.dumps({**content, "rows": [{**content["rows"][0], "shots": 0}]}),
    }
    path.unlink()
    if how == "link":
        outside = path.parents[3] / "outside.json"
        outside.write_text(json.dumps(content))
        path.symlink_to(outside)
    elif how == "loop":
        path.symlink_to(path)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "large":
        with path.open("wb") as file:
            file.truncate(2**26 + 1)
    else:
        path.write_text(text[how])


@pytest.mark.parametrize(
    "how",
    [
        *("torn", "nan", "deep", "list", "schema", "lacks", "classes", "data", "encoder"),
        *("accuracy", "shots", "link", "loop", "pipe", "large"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_goes_on(tmp_path: Path, how: str) -> None:
    runs = probed(tmp_path / "runs", 2)
    spoil(runs[3] / "probes" / "other-1.json", how)
    where = ("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page"))
    code, text = compare(*where, "--json")
    told = json.loads(text)
    assert code == 3
    (item,) = [item for item in told["left_out"] if "probes" in item["run"]]
    assert (item["run"], item["status"]) == ("clmae-1/probes/other-1.json", "unreadable")
    assert str(tmp_path) not in item["reason"]
    assert item["reason"].isprintable()
    assert len(told["rows"]) == 2
    (over,) = told["over_data_sets"]
    assert not over["rows"]
    assert "3 of 4 runs were probed there, not clmae-1" in over["note"]
    html = (tmp_path / "page" / "report.html").read_text()
    assert "clmae-1/probes/other-1.json" in html
    assert "<script" not in foreign(html)


@pytest.mark.parametrize("how", ["link", "file", "many"])
def test_a_folder_of_probes_that_is_none(tmp_path: Path, how: str) -> None:
    runs = probed(tmp_path / "runs", 1)
    folder = runs[0] / "probes"
    if how == "many":
        for i in range(70):
            (folder / f"z{i}.json").write_text((folder / "other-1.json").read_text())
    else:
        folder.rename(tmp_path / "elsewhere")
        if how == "link":
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            folder.write_text("")
    report = page.make(runs)
    (item,) = [item for item in report.left_out if "probes" in item.run]
    assert item.run == "random-0/probes"
    assert str(tmp_path) not in item.reason
    assert bool(report.across[0].rows) == (how == "many")


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    runs = store_of(tmp_path / "runs", 1)
    names = (EVIL[:-1], "seeds", "toy", "x" * 900)
    for run in runs:
        for i, name in enumerate(names):
            probes(run, 0.5, f"n{i}", {"name": name, "fingerprint": f"{i}" * 64})
    report = page.make(runs)
    found = report.across[0]
    titles = [one.title for one in found.sets]
    assert len(set(titles)) == len(titles) == 5
    assert max(map(len, titles)) < 60
    assert "<script" not in foreign(report.html)
    assert "\x1b" not in report.html
    _, text = compare("--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page"))
    assert "\x1b" not in text
