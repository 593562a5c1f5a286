"""Accelerators' memory, from NVML where there is one."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from bise_daemon.memory.reading import GpuMemory


class Gpus(Protocol):
    """The accelerators of this machine."""

    def read(self) -> tuple[GpuMemory, ...]:
        """The memory of each, in NVML's order."""
        ...


class NoGpus:
    """A machine without any, or without a way to ask."""

    def read(self) -> tuple[GpuMemory, ...]:
        """Nothing."""
        return ()


NO_GPUS = NoGpus()


class NvmlGpus:
    """Accelerators with an NVIDIA driver.

    Args:
        nvml: the `pynvml` module (of the distribution nvidia-ml-py), initialized.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]

    def read(self) -> tuple[GpuMemory, ...]:
        """The memory of each; of none if the driver stops answering, or has no memory of its own to tell about."""
        try:
            return tuple(
                GpuMemory(int(info.free), int(info.total))
                for info in map(self._nvml.nvmlDeviceGetMemoryInfo, self._handles)
            )
        except self._nvml.NVMLError:
            return ()


def open_gpus() -> Gpus:
    """The machine's accelerators: none where nvidia-ml-py is not installed, or finds no driver."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return NO_GPUS
    try:
        nvml.nvmlInit()
        return NvmlGpus(nvml)
    except nvml.NVMLError:
        return NO_GPUS
