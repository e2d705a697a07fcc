"""Read what this machine computes on: the GPU through NVML, else the CPU's memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its memory in bytes; None where the system does not tell it."""

    name: str
    used: int | None
    total: int | None


def read_device(
    gpu: Callable[[], Device | None] | None = None, meminfo: Path = Path("/proc/meminfo")
) -> Device:
    """Return the first GPU and its memory, or the CPU and the machine's where there is no GPU.

    `gpu` reads the GPU and returns None where there is none; NVML by default.
    """
    return (gpu or read_gpu)() or _read_cpu(meminfo)


def read_gpu() -> Device | None:
    """Return the first NVIDIA GPU that NVML lists, or None without one or without its driver."""

    def read(nvml: Any, handle: Any) -> Device:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Device(str(nvml.nvmlDeviceGetName(handle)), int(memory.used), int(memory.total))

    return ask_gpu(read)


def read_capability() -> tuple[int, int] | None:
    """Return the first GPU's CUDA compute capability, or None without one or without its driver."""

    def read(nvml: Any, handle: Any) -> tuple[int, int]:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        return int(major), int(minor)

    return ask_gpu(read)


def ask_gpu(read: Callable[[Any, Any], Answer]) -> Answer | None:
    """Return what `read(nvml, handle)` says of the first GPU, or None where NVML has none or fails."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if pynvml.nvmlDeviceGetCount() == 0:
            return None
        return read(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _read_cpu(meminfo: Path) -> Device:
    name = f"CPU, {os.cpu_count() or 1} cores"
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total = int(fields["MemTotal"].split()[0]) * 1024
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return Device(name, None, None)
    return Device(name, total - available, total)
