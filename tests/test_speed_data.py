"""The benchmark of data loading runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEED = [sys.executable, "-m", "benchmarks.speed.data", "--quick"]


@pytest.mark.slow
def test_every_rate_is_there() -> None:
    done = subprocess.run([*SPEED, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rate = {row["what"]: row["per_s"] for row in found["rows"] if "per_s" in row}
    for side in (32, 224):
        assert 0 < rate[f"reading + augmentation, {side} px"] < rate[f"reading, {side} px"]
    ratios = [row["ratio"] for row in found["rows"] if "ratio" in row]
    assert len(ratios) == 2
    assert min(ratios) > 5
    packed = [row for row in found["rows"] if "peak_bytes" in row]
    assert [row["files"] for row in packed] == [2000, 50]
    assert all(row["peak_bytes"] >= row["peak_before_bytes"] > 0 for row in packed)
