"""Read what this machine computes on and how busy it is: the GPU through NVML, else the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

Answer = TypeVar("Answer")
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its memory in bytes; None where the system does not tell it."""

    name: str
    used: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Meters:
    """How busy a device is: percent, bytes, °C and watts; None where the system does not tell it."""

    name: str
    gpu_utilisation: float | None = None
    cpu_utilisation: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None
    power: float | None = None

    def fields(self) -> dict[str, str | float]:
        """Return what is known, as the fields of a `device` event."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_meters() -> Meters:
    """Return how busy the GPU is, or the CPU where there is no GPU.

    The CPU's share is of all cores, and since the last call.
    """
    return ask_gpu(_read_gpu_meters) or _read_cpu_meters()


def read_device(gpu: Callable[[], Device | None] | None = None, meminfo: Path = MEMINFO) -> Device:
    """Return the first GPU and its memory, or the CPU and the machine's where there is no GPU.

    `gpu` reads the GPU and returns None where there is none; NVML by default.
    """
    return (gpu or read_gpu)() or _read_cpu(meminfo)


def read_gpu() -> Device | None:
    """Return the GPU that CUDA would take first, or None without one or without its driver."""

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
    """Return what `read(nvml, handle)` says of the GPU in use, or None where there is none or NVML fails.

    That is the first that CUDA_VISIBLE_DEVICES names, counted as `nvidia-smi` does (by PCI bus), or GPU 0.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = _visible_gpu(pynvml)
        return None if handle is None else read(pynvml, handle)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _visible_gpu(nvml: Any) -> Any | None:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        # An identifier may be cut short, as long as it tells one GPU.
        if first == str(index) or (
            first.startswith("GPU-") and str(nvml.nvmlDeviceGetUUID(handle)).startswith(first)
        ):
            return handle
    return None


def _read_gpu_meters(nvml: Any, handle: Any) -> Meters:
    def told(question: str, *arguments: object) -> Any | None:
        """One answer; a GPU of another kind, or a slice of one, does not know them all."""
        try:
            return getattr(nvml, question)(handle, *arguments)
        except nvml.NVMLError:
            return None

    utilisation, memory = told("nvmlDeviceGetUtilizationRates"), told("nvmlDeviceGetMemoryInfo")
    temperature = told("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
    milliwatts = told("nvmlDeviceGetPowerUsage")
    return Meters(
        name=str(nvml.nvmlDeviceGetName(handle)),
        gpu_utilisation=None if utilisation is None else float(utilisation.gpu),
        memory_used=None if memory is None else int(memory.used),
        memory_total=None if memory is None else int(memory.total),
        temperature=None if temperature is None else float(temperature),
        power=None if milliwatts is None else milliwatts / 1000,
    )


def _read_cpu_meters() -> Meters:
    import psutil

    device = _read_cpu(MEMINFO)
    return Meters(
        name=device.name,
        cpu_utilisation=psutil.cpu_percent(),
        memory_used=device.used,
        memory_total=device.total,
    )


def _read_cpu(meminfo: Path) -> Device:
    name = f"CPU, {os.cpu_count() or 1} cores"
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total = int(fields["MemTotal"].split()[0]) * 1024
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return Device(name, None, None)
    return Device(name, total - available, total)
