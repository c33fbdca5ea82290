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
    rate = {row["what"]: row["per_s"] for row in found["rows"]}
    for side in (32, 224):
        assert 0 < rate[f"reading + augmentation, {side} px"] < rate[f"reading, {side} px"]
    assert found["ratios"]["batch 64"] > 5
    assert found["ratios"]["batch 256"] > 5
    packed = [row for row in found["rows"] if "peak_bytes" in row]
    assert [row["files"] for row in packed] == [2000, 50]
    assert all(row["peak_bytes"] >= row["peak_before_bytes"] > 0 for row in packed)


@pytest.mark.slow
def test_the_table_names_every_rate() -> None:
    code = (
        "from benchmarks.speed import data\n"
        "rows = [{'what': 'reading', 'per_s': 1234.5, 'of': 'core'},"
        " {'what': 'packing', 'files': 9, 'per_s': 2.0, 'of': 'machine', 'clock_s': 4.5,"
        " 'processor_s': 4.0,"
        " 'peak_before_bytes': 2**20, 'peak_bytes': 2**21}]\n"
        "print(data.table({'rows': rows, 'ratios': {'batch 64': 7.25}, 'load': [0.5, 1.5],"
        " 'provenance': {'device': {'cpu': 'a chip', 'cores': 2}}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    text = " ".join(done.stdout.split())
    assert "reading 1,234 core" in text
    assert "7.2 at batch 64" in text
    assert "9 files, 4.5 s of the clock, 4.0 s of the processor, peak 2 MiB (1 MiB before)" in text
    assert "a chip, 2 cores, load 0.5 to 1.5" in text
