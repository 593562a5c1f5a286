"""A device's sensors, as sysfs shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_daemon.sensors.body import Sensors
from bise_daemon.sensors.clock import Clock, read_clock
from bise_daemon.sensors.energy import EnergyMeter
from bise_daemon.sensors.temperature import read_temperatures


def write(folder: Path, **files: object) -> Path:
    """Files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n", encoding="utf-8")
    return folder


def chip(sys: Path, number: int, name: str, **files: object) -> None:
    write(sys / f"class/hwmon/hwmon{number}", name=name, **files)


def package(sys: Path, number: str, **files: object) -> None:
    write(sys / f"class/powercap/intel-rapl:{number}", **files)


def test_a_chip_names_its_sensors(tmp_path: Path) -> None:
    chip(tmp_path, 0, "coretemp", temp1_input=61_500, temp1_label="Package id 0")
    chip(tmp_path, 1, "nvme", temp1_input=38_000)
    assert read_temperatures(tmp_path) == {"coretemp Package id 0": 61.5, "nvme": 38.0}


def test_of_several_with_one_name_the_hottest_counts(tmp_path: Path) -> None:
    for number, milli in enumerate((38_000, 47_000, 40_000)):
        chip(tmp_path, number, "nvme", temp1_input=milli)
    assert read_temperatures(tmp_path) == {"nvme": 47.0}


@pytest.mark.parametrize("content", ["", "hot", "-274000", "999999999", "4" * 5000, "4ä"])
def test_a_sensor_that_makes_no_sense_is_left_out(tmp_path: Path, content: str) -> None:
    chip(tmp_path, 0, "acpitz", temp1_input=content)
    assert read_temperatures(tmp_path) == {}


def test_zones_stand_in_where_no_chip_tells(tmp_path: Path) -> None:
    write(tmp_path / "class/thermal/thermal_zone0", type="soc", temp=55_000)
    assert read_temperatures(tmp_path) == {"soc": 55.0}


def test_clocks_are_shares_of_the_fastest(tmp_path: Path) -> None:
    for number, (now, allowed, most) in enumerate(((1000, 1500, 2000), (2000, 3000, 4000))):
        core = tmp_path / f"devices/system/cpu/cpu{number}"
        write(core / "cpufreq", scaling_cur_freq=now, scaling_max_freq=allowed, cpuinfo_max_freq=most)
        write(core / "thermal_throttle", core_throttle_count=number + 1)
    assert read_clock(tmp_path) == Clock(speed=0.5, limit=0.75, throttled=3)


def test_energy_is_counted_by_package(tmp_path: Path) -> None:
    for number in ("0", "1", "0:0"):
        package(tmp_path, number, energy_uj=1_000_000)
    meter = EnergyMeter(tmp_path)
    assert meter.read() == {"package-0": 0.0, "package-1": 0.0}
    package(tmp_path, "0", energy_uj=3_500_000)
    package(tmp_path, "0:0", energy_uj=9_000_000)
    assert meter.read() == {"package-0": 2.5, "package-1": 0.0}


def test_energy_goes_on_where_a_counter_starts_over(tmp_path: Path) -> None:
    package(tmp_path, "0", energy_uj=9_000_000, max_energy_range_uj=10_000_000)
    meter = EnergyMeter(tmp_path)
    meter.read()
    package(tmp_path, "0", energy_uj=500_000)
    assert meter.read() == {"package-0": 1.5}


@pytest.mark.parametrize("content", ["gone", 0])
def test_energy_never_falls(tmp_path: Path, content: object) -> None:
    package(tmp_path, "0", energy_uj=9_000_000)  # and no range is told
    meter = EnergyMeter(tmp_path)
    meter.read()
    package(tmp_path, "0", energy_uj=content)
    assert meter.read() == {"package-0": 0.0}


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    body = Sensors(tmp_path).read()
    assert (body.celsius, body.clock, body.joules) == ({}, Clock(None, None, None), {})
