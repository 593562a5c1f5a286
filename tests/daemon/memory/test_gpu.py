"""Accelerators' memory, as a library like NVIDIA's tells it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from bise_daemon.memory.gpu import NO_GPUS, open_gpus
from bise_daemon.memory.reading import GpuMemory


class NvmlError(Exception):
    """What all of the library's errors derive from."""


@dataclass
class Nvml:
    """The part of `pynvml` that is used; a driver whose health can be set."""

    NVMLError = NvmlError
    healthy: bool = True
    memory: list[SimpleNamespace] = field(
        default_factory=lambda: [SimpleNamespace(free=3, total=8, used=5), SimpleNamespace(free=1, total=4, used=3)]
    )

    def nvmlInit(self) -> None:
        self._answer()

    def nvmlDeviceGetCount(self) -> int:
        self._answer()
        return len(self.memory)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        self._answer()
        return self.memory[handle]

    def _answer(self) -> None:
        if not self.healthy:
            raise NvmlError("Driver Not Loaded")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    library = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_each_device_is_read(nvml: Nvml) -> None:
    gpus = open_gpus()
    assert gpus.read() == (GpuMemory(3, 8), GpuMemory(1, 4))
    nvml.memory[1].free = 0
    assert gpus.read() == (GpuMemory(3, 8), GpuMemory(0, 4))


def test_without_the_library_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpus() is NO_GPUS
    assert NO_GPUS.read() == ()


def test_without_a_driver_there_are_none(nvml: Nvml) -> None:
    nvml.healthy = False
    assert open_gpus() is NO_GPUS


def test_a_driver_that_stops_answering_is_no_failure_of_ours(nvml: Nvml) -> None:
    gpus = open_gpus()
    nvml.healthy = False
    assert gpus.read() == ()
