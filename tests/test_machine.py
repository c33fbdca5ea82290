"""Load, battery, memory and energy, on made-up machines and on this one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from maskbench import machine
from maskbench.machine import Energy, made_by, on_battery, peak_memory, reset_peak_memory

Supply = dict[str, str]
MAINS: Supply = {"type": "Mains", "online": "1"}
UNPLUGGED: Supply = {"type": "Mains", "online": "0"}
CHARGER: Supply = {"type": "USB", "online": "1"}
FULL: Supply = {"type": "Battery", "status": "Full"}
DRAINING: Supply = {"type": "Battery", "status": "Discharging"}
MOUSE: Supply = {**DRAINING, "scope": "Device"}


def put(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


# --- load and battery -----------------------------------------------------------------------------


def test_load_is_that_of_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.254, 9.0, 9.0))
    assert machine.load() == 1.25


def test_load_is_unknown_where_nobody_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("unobtainable")

    monkeypatch.setattr(os, "getloadavg", fail)
    assert machine.load() is None
    monkeypatch.delattr(os, "getloadavg")
    assert machine.load() is None


@pytest.mark.parametrize(
    ("supplies", "drained"),
    [
        ([], False),
        ([MAINS], False),
        ([DRAINING], True),
        ([FULL], False),
        ([UNPLUGGED, DRAINING], True),
        ([UNPLUGGED, FULL, DRAINING], True),
        ([MAINS, DRAINING], False),
        ([CHARGER, DRAINING], False),
        ([MOUSE], False),
        ([UNPLUGGED, MOUSE], False),
        ([{}, {"type": "Battery"}], False),
    ],
)
def test_battery(tmp_path: Path, supplies: list[Supply], drained: bool) -> None:
    for number, supply in enumerate(supplies):
        put(tmp_path / "class" / "power_supply" / f"supply{number}", supply)
    assert on_battery(tmp_path) is drained


# --- the CPU --------------------------------------------------------------------------------------


def test_who_made_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROCESSOR_IDENTIFIER", raising=False)
    assert made_by(tmp_path / "self") == ""
    monkeypatch.setenv("PROCESSOR_IDENTIFIER", "AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD")
    assert made_by(tmp_path / "self") == "AuthenticAMD"
    put(tmp_path, {"cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n"})
    assert made_by(tmp_path / "self") == "GenuineIntel"


# --- memory ---------------------------------------------------------------------------------------


def test_peak_memory_is_the_systems_high_water_mark(tmp_path: Path) -> None:
    put(tmp_path, {"status": "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  512 kB\nVmRSS:\t 100 kB"})
    assert peak_memory("cpu", tmp_path)["host"] == 512 * 1024


def test_peak_memory_elsewhere_is_that_of_the_process(tmp_path: Path) -> None:
    here, there = peak_memory("cpu")["host"], peak_memory("cpu", tmp_path)["host"]
    assert here is not None
    assert there is not None
    assert min(here, there) > 50 * 2**20


def test_a_cpu_run_has_no_peak_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: 7)
    assert peak_memory("cpu")["device"] is None
    assert peak_memory("cuda:0")["device"] == 7


def test_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clear_refs").touch()
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", told.append)
    reset_peak_memory("cpu", tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5"
    assert not told
    reset_peak_memory("cuda:1", tmp_path)
    assert told == ["cuda:1"]
    reset_peak_memory("cpu", tmp_path / "nowhere")


def test_reset_forgets_what_was_freed() -> None:
    """Here, where the system can."""
    block = bytearray(os.urandom(2**20) * 100)
    high = peak_memory("cpu")["host"]
    del block
    reset_peak_memory("cpu")
    low = peak_memory("cpu")["host"]
    assert low is not None
    assert high is not None
    if low >= high:
        pytest.skip("this system does not reset the peak")
    assert high - low > 50 * 2**20


# --- energy of a CPU ------------------------------------------------------------------------------

SPAN = 262_143_328_850


def package(root: Path, number: str, name: str, energy: int | str, span: int = SPAN) -> Path:
    folder = root / "class" / "powercap" / f"intel-rapl:{number}"
    put(folder, {"name": name, "energy_uj": str(energy), "max_energy_range_uj": str(span)})
    return folder / "energy_uj"


def meter_of(root: Path) -> Energy:
    meter = Energy.find("cpu", root)
    assert meter
    return meter


def test_packages_are_added_and_what_they_contain_is_not(tmp_path: Path) -> None:
    one, two = (
        package(tmp_path, "0", "package-0", 5_000_000),
        package(tmp_path, "1", "package-1", 7),
    )
    others = [package(tmp_path, "0:0", "core", 9), package(tmp_path, "2", "psys", 9)]
    meter = meter_of(tmp_path)
    assert meter.joules() == 0
    one.write_text("6500000\n")
    two.write_text("2000007\n")
    for other in others:
        other.write_text("999999999\n")
    assert meter.joules() == pytest.approx(3.5)
    assert meter_of(tmp_path).joules() == 0


def test_a_counter_that_starts_again(tmp_path: Path) -> None:
    counter = package(tmp_path, "0", "package-0", 40, 100)
    meter, seen = meter_of(tmp_path), []
    for reading in (90, 90, 10, 30, 20):
        counter.write_text(str(reading))
        seen.append(meter.joules())
    assert seen == pytest.approx([50e-6, 50e-6, 70e-6, 90e-6, 180e-6])


def test_no_meter_where_any_package_is_unreadable(tmp_path: Path) -> None:
    assert Energy.find("cpu", tmp_path) is None
    package(tmp_path, "0", "package-0", 5)
    unreadable = package(tmp_path, "1", "package-1", 5)
    unreadable.unlink()
    unreadable.mkdir()  # an error to read, also for root
    assert Energy.find("cpu", tmp_path) is None
    unreadable.rmdir()
    unreadable.write_text("nonsense")
    assert Energy.find("cpu", tmp_path) is None


def test_a_counter_that_goes_away_is_not_nothing(tmp_path: Path) -> None:
    counter = package(tmp_path, "0", "package-0", 5)
    meter = meter_of(tmp_path)
    counter.unlink()
    assert meter.joules() is None
    counter.write_text("1000005")
    assert meter.joules() == 1


def test_this_machine_answers() -> None:
    meter = Energy.find("cpu")
    assert meter is None or (meter.joules() or 0) >= 0
    assert on_battery() in (True, False)


# --- energy of a GPU ------------------------------------------------------------------------------


class NVMLError(Exception):
    pass


class Nvml(ModuleType):
    """Two GPUs, which the library numbers in another order than torch; ``fails`` names a call."""

    NVMLError = NVMLError

    def __init__(self, fails: str = "") -> None:
        super().__init__("pynvml")
        self.millijoules, self.fails = {"GPU-aa": 5_000_000, "GPU-bb": 0}, fails

    def _call(self, name: str) -> None:
        if name == self.fails:
            raise NVMLError("Not Supported")

    def nvmlInit(self) -> None:
        self._call("init")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self._call("handle")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self._call("energy")
        return self.millijoules[handle]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType | None], None]:
    """Torch sees two GPUs; the library is the one given, or missing."""
    uuids = {torch.device("cuda"): "aa", torch.device("cuda:1"): "bb"}

    def properties(device: Any) -> SimpleNamespace:
        return SimpleNamespace(uuid=uuids[device])

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    return lambda library: monkeypatch.setitem(sys.modules, "pynvml", library)


@pytest.mark.parametrize(("device", "uuid"), [("cuda", "GPU-aa"), ("cuda:1", "GPU-bb")])
def test_the_gpu_that_torch_uses(gpu: Any, device: str, uuid: str) -> None:
    library = Nvml()
    gpu(library)
    meter = Energy.find(device)
    assert meter
    assert meter.joules() == 0
    for other in library.millijoules:
        library.millijoules[other] += 1500 if other == uuid else 10**9
    assert meter.joules() == 1.5
    library.millijoules[uuid] = 0  # the driver was loaded anew
    assert meter.joules() == 1.5
    library.millijoules[uuid] = 250
    assert meter.joules() == 1.75
    library.fails = "energy"
    assert meter.joules() is None


@pytest.mark.parametrize("call", ["init", "handle", "energy"])
def test_no_meter_where_the_library_objects(gpu: Any, call: str) -> None:
    gpu(Nvml(fails=call))
    assert Energy.find("cuda") is None


def test_no_meter_without_the_library(gpu: Any) -> None:
    gpu(None)
    assert Energy.find("cuda") is None


def test_no_meter_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(torch.cuda, "get_device_properties", refuse)
    assert Energy.find("cuda") is None
