"""What a machine tells about itself: load, battery, peak memory, energy; nothing where it is mute.

Read from the system's own files and from NVIDIA's library, when they are asked for.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SYSFS = Path("/sys")
PROC = Path("/proc/self")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``."""
LARGEST, LARGE = 2**31 - 1, 2**25
"""Bytes: the largest number it takes, and the largest threshold of older releases."""
MAINS = ("Mains", "USB")
"""Kinds of supplies that come out of a wall."""


def load() -> float | None:
    """Tasks that run or wait for a core, averaged over a minute; None where nobody counts them."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


LOAD_BEFORE = load()
"""The load when this process began: its own work is not in it yet."""


def made_by(proc: Path = PROC) -> str:
    """Who made the CPU, as x86 CPUs tell: ``AuthenticAMD``; empty where nothing says so.

    Args:
        proc: As Linux shows this process; what it tells of CPUs stands beside it.
    """
    for line in _text(proc.parent / "cpuinfo").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "vendor_id":
            return rest.strip()
    return os.environ.get("PROCESSOR_IDENTIFIER", "").rpartition(" ")[2]  # Windows


def on_battery(sysfs: Path = SYSFS) -> bool:
    """Whether a battery is being emptied and nothing is plugged in; False where that is unknown.

    Args:
        sysfs: Where Linux says so. A battery of a mouse or the like does not count.
    """
    supplies = {folder: _text(folder / "type") for folder in sysfs.glob("class/power_supply/*")}
    if any(_text(f / "online") == "1" for f, kind in supplies.items() if kind in MAINS):
        return False
    own = (
        f for f, kind in supplies.items() if kind == "Battery" and _text(f / "scope") != "Device"
    )
    return any(_text(battery / "status") == "Discharging" for battery in own)


def _text(file: Path) -> str:
    """What a small file says; empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def reset_peak_memory(device: str, proc: Path = PROC) -> None:
    """Let ``peak_memory`` begin anew, as far as the system lets one.

    Args:
        device: As torch calls it.
        proc: This process, as Linux shows it: a 5 in ``clear_refs`` resets the peak.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        (proc / "clear_refs").write_text("5")


def peak_memory(device: str, proc: Path = PROC) -> dict[str, int | None]:
    """Peak bytes of this process, and of its memory on a GPU (None on a CPU).

    Args:
        device: As torch calls it: where the work is done, whatever else is there.
        proc: This process, as Linux shows it. Elsewhere no reset moves the host's peak.
    """
    there = None
    if device.startswith("cuda"):
        import torch

        there = torch.cuda.max_memory_allocated(device)
    return {"host": _host_peak(proc), "device": there}


def _host_peak(proc: Path) -> int | None:
    for line in _text(proc / "status").splitlines():
        name, _, rest = line.partition(":")
        if name == "VmHWM":
            return int(rest.split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_memory() -> None:
    """Let the C library keep the memory that was freed, instead of giving it back to the system.

    A training step on a CPU frees what it allocated, a hundred MB and more, and needs it again in
    the next: glibc would unmap it, and the system would clear every page anew. The peak is the
    same; what was used once stays with the process. Nothing happens where the user has set
    ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_``, and without glibc.
    """
    import ctypes

    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    with suppress(OSError, TypeError):  # where a program is no library, as on Windows
        library = ctypes.CDLL(None)
        if not hasattr(library, "gnu_get_libc_version"):  # others number the options differently
            return
        library.mallopt(M_TRIM_THRESHOLD, LARGEST)
        if not library.mallopt(M_MMAP_THRESHOLD, LARGEST):
            library.mallopt(M_MMAP_THRESHOLD, LARGE)


class _Counter(NamedTuple):
    """Something that counts joules upwards.

    Args:
        read: Where it stands; raises OSError or ValueError if it cannot be read.
        span: Where it starts again from 0; 0 if it never does.
    """

    read: Callable[[], float]
    span: float

    def since(self, before: float, now: float) -> float:
        """Joules between two readings, less than one round apart; none if it was reset."""
        return (now - before) % self.span if self.span else max(now - before, 0.0)


class Energy:
    """A meter of the joules that a device has used since the meter was made.

    It counts the whole device: every process on it, and what it takes to idle. For a GPU that is
    the board, without the host; for a CPU all packages, without memory and the rest. Made by
    ``find``.
    """

    def __init__(self, counters: Sequence[_Counter]) -> None:
        self._counters = counters
        self._last = [counter.read() for counter in counters]
        self._joules = 0.0

    @classmethod
    def find(cls, device: str, sysfs: Path = SYSFS) -> "Energy | None":
        """A meter of a device, or None where there is none that may be read.

        Args:
            device: As torch calls it. GPUs are read through NVIDIA's library (the extra
                ``energy``), CPUs through Linux's powercap (usually only by root).
            sysfs: Where powercap lies.
        """
        counters = _nvidia(device) if device.startswith("cuda") else _packages(sysfs)
        try:
            return cls(counters) if counters else None
        except (OSError, ValueError):
            return None

    def joules(self) -> float | None:
        """Joules since the meter was made; None when a counter can no longer be read.

        Never less than before. A CPU's counter starts again after some 60 to 260 kJ, which at full
        load is a quarter of an hour or more: ask more often than that.
        """
        try:
            now = [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            return None
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            self._joules += counter.since(before, after)
        self._last = now
        return self._joules


def _packages(sysfs: Path) -> list[_Counter]:
    """Counters of all CPU packages, Intel's or AMD's (RAPL); none unless all can be read.

    Their parts, and the platform that contains them, are left out: they would count twice.
    """
    tops = sorted(sysfs.glob("class/powercap/intel-rapl:[0-9]*"))
    packages = [p for p in tops if p.name.count(":") == 1 and _text(p / "name").startswith("pack")]
    try:
        return [_package(folder) for folder in packages]
    except (OSError, ValueError):
        return []


def _package(folder: Path) -> _Counter:
    def microjoules(name: str) -> int:
        return int((folder / name).read_text(encoding="ascii"))

    span = microjoules("max_energy_range_uj")
    return _Counter(lambda: microjoules("energy_uj") / 1e6, span / 1e6)


def _nvidia(device: str) -> list[_Counter]:
    """The counter of the GPU that torch uses, found by its UUID; none if NVIDIA's library objects.

    (The library numbers GPUs its own way, whatever CUDA_VISIBLE_DEVICES says.)
    """
    import torch

    try:
        nvml: Any = importlib.import_module("pynvml")
        uuid = torch.cuda.get_device_properties(torch.device(device)).uuid
    except (ImportError, AttributeError, RuntimeError, AssertionError):
        return []
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return []

    def joules() -> float:
        """The library counts millijoules since its driver was loaded."""
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except nvml.NVMLError as error:
            raise OSError(str(error)) from error

    return [_Counter(joules, 0.0)]
