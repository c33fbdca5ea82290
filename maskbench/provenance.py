"""Where a number comes from: versions, commit, machine."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from maskbench import machine

PACKAGES = ("maskbench", "torch", "timm", "numpy", "scikit-learn", "pillow", "safetensors")


def now() -> str:
    """Time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(device: str) -> dict[str, Any]:
    """Versions, commit, device and threads; no host name, no user, no paths.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    import torch

    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": commit(),
        "device": {"kind": device, "gpu": gpu, "cpu": cpu_name(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "load": machine.load(),
        "system": f"{platform.system()} {platform.machine()}",
        "started": now(),
        "finished": None,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str | None:
    """Git commit of the checkout this code runs from (``-dirty`` when changed), or None."""
    folder = Path(__file__).resolve().parent
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    tracked = ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name]
    try:
        for command in (tracked, words):
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 ours
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """The GPU's name, or the processor's.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else cpu_name()


def elsewhere(ledger: Mapping[str, Any], device: str) -> str:
    """Where a run's seconds were taken, if that is not here; empty if it is.

    Args:
        ledger: The run's.
        device: ``cpu`` or ``cuda``: what seconds would be taken on here. Threads count on a CPU.
    """
    import torch

    told = ledger.get("machine") or {}
    threads = None if device == "cuda" else torch.get_num_threads()
    here = device_name(device), threads
    there = told.get("device"), None if device == "cuda" else told.get("threads")
    if here == there:
        return ""
    words = [f"{name} ({n} threads)" if n else f"{name}" for name, n in (there, here)]
    return f"on {words[0]}, and this is {words[1]}"
