"""The README's quick start, as a newcomer runs it: about four minutes on two cores."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maskbench.results import mean_accuracy

pytestmark = pytest.mark.slow


def maskbench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maskbench", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def records(place: Path) -> dict[str, dict[str, Any]]:
    told = {
        name: json.loads(maskbench(place, "run", "--strategy", name, "--json").stdout)
        for name in ("clmae", "random")
    }
    return {name: answer["record"] for name, answer in told.items()}


@pytest.mark.parametrize("name", ["clmae", "random"])
def test_the_trained_encoder_beats_both_controls_by_ten_points(
    records: dict[str, dict[str, Any]], name: str
) -> None:
    record = records[name]
    trained = mean_accuracy(record["probes"], "logreg", 16)
    assert trained is not None
    for control in ("untrained", "pixels"):
        reference = mean_accuracy(record["controls"], "logreg", 16, control)
        assert reference is not None
        assert trained >= reference + 0.10, control


def test_both_share_everything_but_the_masks(records: dict[str, dict[str, Any]]) -> None:
    one, other = records["clmae"], records["random"]
    assert one["controls"] == other["controls"]
    assert one["budget"] == other["budget"]
    assert one["data"] == other["data"]
    assert one["ledger"]["flops_total"] > 5 * other["ledger"]["flops_total"]


def test_compare_makes_one_page(place: Path, records: dict[str, dict[str, Any]]) -> None:
    done = maskbench(place, "compare")
    page = place / "reports" / "latest" / "report.html"
    assert page.is_file()
    assert "report.html" in done.stdout + done.stderr
    html = page.read_text(encoding="utf-8")
    assert all(record["id"] in html for record in records.values())
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_ctrl_c_ends_with_130_and_says_so_in_the_record(tmp_path: Path) -> None:
    words = ["run", "--strategy", "random", "--budget", "1000ep"]
    with subprocess.Popen(
        [sys.executable, "-m", "maskbench", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 300
        while not any(p.stat().st_size for p in tmp_path.glob("runs/*/metrics.jsonl")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    (record,) = tmp_path.glob("runs/*/record.json")
    assert json.loads(record.read_text())["status"] == "interrupted"
