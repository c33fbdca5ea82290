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


def beats_both_controls_by_ten_points(record: dict[str, Any]) -> None:
    trained = mean_accuracy(record["probes"], "logreg", 16)
    assert trained is not None
    for control in ("untrained", "pixels"):
        reference = mean_accuracy(record["controls"], "logreg", 16, control)
        assert reference is not None
        assert trained >= reference + 0.10, control


def share_everything_but_the_masks(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["controls"] == other["controls"]
    amounts = [{**record["budget"], "seconds_expected": None} for record in (one, other)]
    assert amounts[0] == amounts[1]
    assert one["data"] == other["data"]
    assert one["ledger"]["flops_total"] > 5 * other["ledger"]["flops_total"]


def are_on_one_page(records: dict[str, dict[str, Any]], place: Path) -> None:
    done = maskbench(place, "compare")
    page = place / "reports" / "latest" / "report.html"
    assert page.is_file()
    assert "report.html" in done.stdout + done.stderr
    html = page.read_text(encoding="utf-8")
    assert all(record["id"] in html for record in records.values())
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_two_strategies_are_trained_probed_and_compared(tmp_path: Path) -> None:
    told = {
        name: json.loads(maskbench(tmp_path, "run", "--strategy", name, "--json").stdout)
        for name in ("clmae", "random")
    }
    records = {name: answer["record"] for name, answer in told.items()}
    for record in records.values():
        beats_both_controls_by_ten_points(record)
    share_everything_but_the_masks(records["clmae"], records["random"])
    are_on_one_page(records, tmp_path)


def test_ctrl_c_ends_with_130_and_says_so_in_the_record(tmp_path: Path) -> None:
    words = ["run", "--strategy", "random", "--budget", "1000ep"]
    with subprocess.Popen(
        [sys.executable, "-m", "maskbench", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 300
            while not any(p.stat().st_size for p in tmp_path.glob("runs/*/metrics.jsonl")):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()  # otherwise a failure would wait for a thousand epochs
    assert process.returncode == 130
    assert "Traceback" not in told
    (record,) = tmp_path.glob("runs/*/record.json")
    assert json.loads(record.read_text())["status"] == "interrupted"
