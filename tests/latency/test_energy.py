"""Energy counters, as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.latency.energy import energy_meter


def zone(folder: Path, name: str, energy_uj: int) -> Path:
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text("10000000\n")
    return path


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone(tmp_path, name, 1_000_000)
    meter = energy_meter(tmp_path)
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone(tmp_path, name, 3_000_000)
    assert meter.joules() == pytest.approx(4.0)


def test_a_counter_starts_over(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 9_000_000)
    meter = energy_meter(tmp_path)
    zone(tmp_path, "intel-rapl:0", 500_000)
    assert meter.joules() == pytest.approx(1.5)


def test_a_machine_that_does_not_say(tmp_path: Path) -> None:
    assert energy_meter(tmp_path).joules() is None
    zone(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy_meter(tmp_path).joules() is None
