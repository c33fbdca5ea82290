"""Weights of others: nothing is unpickled, and what does not fit is refused in a line."""

import io
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import noise_split
from safetensors.torch import load_file, save_file
from synthetic import put, record

from maskbench import priors
from maskbench.errors import UsageError
from maskbench.events import Silent
from maskbench.model import Encoder
from maskbench.spec import preset

SMALLEST = "test_vit.r160_in1k"
SOURCES = Path(__file__).resolve().parents[1]


class Runs:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return (os.mkdir, (self._path,))


def refused(kind: str, folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        priors.features(
            kind,
            noise_split(2, 36),
            side=32,
            device=torch.device("cpu"),
            progress=Silent(),
            find_run=lambda _: folder,
        )
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < 700
    return told


def pickles(trap: Path) -> dict[str, bytes]:
    """The same trap as a plain pickle and as what torch saves, old and new."""
    found = {"plain": pickle.dumps(Runs(trap)), "nested": pickle.dumps({"model": Runs(trap)})}
    for name, new in (("new", True), ("old", False)):
        buffer = io.BytesIO()
        torch.save({"a": Runs(trap)}, buffer, _use_new_zipfile_serialization=new)
        found[name] = buffer.getvalue()
    array = io.BytesIO()
    np.save(array, np.array([Runs(trap)], dtype=object), allow_pickle=True)
    return {**found, "array": array.getvalue()}


@pytest.mark.parametrize("kind", ["plain", "nested", "new", "old", "array"])
@pytest.mark.parametrize("ending", ["pth", "safetensors", "npz", "bin"])
def test_a_pickled_network_of_timm_is_refused_unopened(
    tmp_path: Path, kind: str, ending: str
) -> None:
    trap, file = tmp_path / "trap", tmp_path / f"weights.{ending}"
    file.write_bytes(pickles(trap)[kind])
    told = refused(f"timm:{SMALLEST}@{file}", tmp_path)
    assert "cannot be loaded" in told
    assert not trap.exists()


@pytest.mark.parametrize("kind", ["plain", "nested", "new", "old", "array"])
def test_a_pickled_encoder_of_a_run_is_refused_unopened(tmp_path: Path, kind: str) -> None:
    trap, folder = tmp_path / "trap", put(tmp_path, "run", record("random", 0, 0.5))
    (folder / "encoder.safetensors").write_bytes(pickles(trap)[kind])
    assert "cannot be used" in refused("checkpoint:run", folder)
    assert not trap.exists()


def test_a_compressed_archive_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}))
        archive.writestr("bomb/data/0", bytes(50_000_000))
    assert "a compressed archive" in refused(f"timm:{SMALLEST}@{file}", tmp_path)


HUGE = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'


@pytest.mark.parametrize(
    "attack", ["huge", "header", "shape", "keys", "type", "torn", "link", "pipe"]
)
def test_encoders_that_do_not_fit_are_refused_in_a_line(tmp_path: Path, attack: str) -> None:
    folder = put(tmp_path, "run", record("random", 0, 0.5))
    path = folder / "encoder.safetensors"
    empty = Encoder(preset("nano").shape).state_dict()
    weights = {name: torch.zeros(value.shape) for name, value in empty.items()}
    save_file(weights, path)
    if attack == "huge":
        path.write_bytes(struct.pack("<Q", len(HUGE)) + HUGE)
    elif attack == "header":
        path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    elif attack == "shape":
        save_file({name: torch.ones(3) for name in weights}, path)
    elif attack == "keys":
        save_file({f"\x1b[31m<b>{i}": torch.ones(3) for i in range(500)}, path)
    elif attack == "type":
        odd = {name: value.to(torch.complex64) for name, value in load_file(path).items()}
        save_file(odd, path)
    elif attack == "torn":
        path.write_bytes(path.read_bytes()[:-10])
    elif attack == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
        os.mkfifo(path)
    assert "cannot be used" in refused("checkpoint:run", folder)


def test_nothing_in_the_package_unpickles() -> None:
    """By ``weights_only`` at most; the processes of one run send each other what they made."""
    found = []
    for file in (*SOURCES.glob("maskbench/**/*.py"), *SOURCES.glob("strategies/*.py")):
        if file.name == "distributed.py":
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            if re.search(
                r"import (c?pickle|dill|joblib|marshal|shelve)|torch\.load\(|np\.load\(", line
            ):
                found.append(f"{file.name}: {line.strip()}")
    assert all("weights_only=True" in line or "allow_pickle=False" in line for line in found), found
    assert len(found) == 3
