"""Saliency maps of the first few images: kept with a study, read back, refused if they are odd."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from studies import IMAGES, add, change, maps
from synthetic import GRID, put, record

from maskbench import findings
from maskbench.analysis.agreement import Source
from maskbench.errors import StoreError
from maskbench.report.frame import Run
from maskbench.report.reading import read
from maskbench.report.study_file import read_study
from maskbench.studying import pictured

DRAWS = True

EVERY = np.ones(IMAGES, bool)


def studied(path: Path) -> Run:
    add(put(path, "clmae-0", record("clmae", 0, 0.5)), 3, 1.0)
    runs, _ = read([path / "clmae-0"])
    return runs[0]


def values(run: Run) -> Path:
    return run.folder / findings.FOLDER / findings.VALUES


def test_what_exists_is_kept_and_read_by_name(tmp_path: Path) -> None:
    run = studied(tmp_path)
    found = read_study(run)
    assert found.document.maps == ["edges"]  # of objects nothing is known
    assert list(found.maps) == ["edges"]
    wanted = maps()[:12].reshape(12, GRID, GRID)
    np.testing.assert_allclose(found.maps["edges"], wanted, rtol=1e-3)
    assert found.maps["edges"].dtype == np.float32


def test_gaps_are_nan_and_unknown_sources_are_left_out() -> None:
    some = np.arange(IMAGES) % 3 > 0
    late = np.arange(IMAGES) >= 12
    odd = maps()
    odd[4, 5] = np.inf
    sources = [
        Source("objects", maps(), some), Source("late", maps(), late), Source("odd", odd, EVERY),
        Source("large", 1e6 * maps(), EVERY), Source("centre", np.asfortranarray(maps()), EVERY),
    ]  # fmt: skip
    found = pictured(sources, GRID)
    assert list(found) == ["objects", "odd", "large", "centre"]
    assert all(one.shape == (12, GRID, GRID) for one in found.values())
    assert all(one.dtype == np.float16 for one in found.values())
    np.testing.assert_array_equal(np.isnan(found["objects"]).all(axis=(1, 2)), ~some[:12])
    np.testing.assert_array_equal(np.isnan(found["objects"]).any(axis=(1, 2)), ~some[:12])
    assert np.flatnonzero(np.isnan(found["odd"]).all(axis=(1, 2))).tolist() == [4]
    assert np.isfinite(found["large"]).all()
    np.testing.assert_allclose(found["centre"].reshape(12, -1), maps()[:12], rtol=1e-3)


def test_an_older_study_has_none(tmp_path: Path) -> None:
    run = studied(tmp_path)
    file = run.folder / findings.FOLDER / findings.JSON
    content = json.loads(file.read_text())
    del content["maps"]
    file.write_text(json.dumps(content))
    arrays = load_file(values(run))
    del arrays["maps"]
    save_file(arrays, values(run))
    found = read_study(run)
    assert found.maps == {}
    assert found.document.maps == []


ONE = maps()[:12].reshape(1, 12, GRID, GRID).astype(np.float16)
TORN, INFINITE = ONE.copy(), ONE.copy()
TORN[0, 3, 1, 1] = np.nan
INFINITE[0, 3, 1, 1] = np.inf


@pytest.mark.parametrize(
    "odd",
    [
        None, ONE.astype(np.float32), ONE.astype(np.float64), ONE.view(np.int16), TORN, INFINITE,
        -ONE, ONE[0], ONE[:, :5], ONE[:, :, :2], ONE.repeat(2, 0), ONE.repeat(2, 1), ONE[:0],
    ],
)  # fmt: skip
def test_maps_of_another_kind_are_refused(tmp_path: Path, odd: NDArray[Any] | None) -> None:
    run = studied(tmp_path)
    arrays = load_file(values(run))
    del arrays["maps"]
    more = {} if odd is None else {"maps": np.ascontiguousarray(odd)}
    save_file({**arrays, **more}, values(run))
    with pytest.raises(StoreError, match=r"analysis/values.safetensors: .*maps"):
        read_study(run)


@pytest.mark.parametrize(
    "names", [["edges", "edges"], ["edges", "centre"], [7], "edges", ["x" * 200], ["e"] * 17]
)
def test_names_of_another_kind_are_refused(tmp_path: Path, names: Any) -> None:
    run = studied(tmp_path)
    change(run.folder, maps=names)
    with pytest.raises(StoreError):
        read_study(run)


def test_hostile_names_are_plain_text(tmp_path: Path) -> None:
    run = studied(tmp_path)
    change(run.folder, maps=["\x1b[31m\u202e"])
    assert list(read_study(run).maps) == [r"\x1b[31m\u202e"]
