"""Pictures and saliency maps of the first images, end to end; runs that are older have none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import cli
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_analysing import make_run

from maskbench.analysis import sources
from maskbench.data.scenes import generate
from maskbench.report.reading import read
from maskbench.report.study_file import read_study
from maskbench.report.tape import read_masks

STUDIES = DRAWS = True


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictured")
    (root / "images").mkdir()
    for n, image in enumerate(generate(24, "train").images):
        Image.fromarray(image).save(root / "images" / f"{n:02}.png")
    return make_run(root, root / "runs", "clmae-fast", "--no-moments")


def test_maps_and_pictures_are_of_the_same_images(run: Path) -> None:
    (known,), _ = read([run])
    found, tape = read_study(known), read_masks(run)
    names = ["spectral residual", "edges", "centre", "difficulty", "attention"]
    assert list(found.maps) == found.document.maps == names  # of a folder no objects are known
    edges = sources.tokens(sources.edge_energy(tape.shown), 8, 8)
    np.testing.assert_allclose(found.maps["edges"].reshape(12, 64), edges, rtol=2e-3)
    assert len({one.tobytes() for one in found.maps["difficulty"]}) == 12
    np.testing.assert_allclose(found.maps["attention"].sum(axis=(1, 2)), 1, atol=0.1)
    assert tape.rebuilt is not None
    assert tape.rebuilt.shape == (9, 12, 32, 32, 3)
    covered = tape.hidden[:, :12].repeat(4, axis=2).repeat(4, axis=3)
    true = np.broadcast_to(tape.shown, tape.rebuilt.shape)
    np.testing.assert_array_equal(tape.rebuilt[~covered], true[~covered])


def test_an_older_run_is_studied_and_compared(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / run.name
    shutil.copytree(run, old)
    file = old / "masks.safetensors"
    arrays = load_file(file)
    with safe_open(file, framework="numpy") as opened:
        facts = opened.metadata()
    del arrays["rebuilt"]
    save_file(arrays, file, metadata=facts)
    assert read_masks(old).rebuilt is None
    shutil.rmtree(old / "analysis")
    where = ["--runs", str(tmp_path), "--data", f"folder:{run.parent.parent / 'images'}"]
    capsys.readouterr()
    assert cli(monkeypatch, "masks", str(old), "--images", "256", "--json", *where) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert found["maps"] == ["spectral residual", "edges", "centre"]  # no moments, no reference
    assert len(found["moments"]) == 9
    page = tmp_path / "page"
    assert cli(monkeypatch, "compare", "--runs", str(tmp_path), "--out", str(page)) in (0, 3)
    assert (page / "report.html").exists()
