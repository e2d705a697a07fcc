"""Read what this machine computes on: the GPU through NVML, else the CPU's memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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
    """Return the first visible NVIDIA GPU by NVML, or None without one or without its driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if pynvml.nvmlDeviceGetCount() == 0:
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = pynvml.nvmlDeviceGetName(handle)
        return Device(str(name), int(memory.used), int(memory.total))
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
