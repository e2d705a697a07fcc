"""Read what this machine computes on and how busy it is: the GPU through NVML, else the CPU."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
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


def read_meters(gpus: Sequence[str] | None = None) -> Meters:
    """Return how busy these GPUs are, by their UUIDs; of none, or of those that NVML knows none of, the CPU.

    None is the GPU that CUDA would take first. Of several the utilisation is the mean, the temperature the
    highest, memory and power are sums. The CPU's share is of all cores, and since the last call.
    """
    found = _with_nvml(lambda nvml: [_read_gpu_meters(nvml, handle) for handle in _handles(nvml, gpus)])
    return _together(found) if found else _read_cpu_meters()


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

    That is the first that CUDA_VISIBLE_DEVICES names, or GPU 0.
    """

    def ask(nvml: Any) -> Answer | None:
        handle = _visible_gpu(nvml)
        return None if handle is None else read(nvml, handle)

    return _with_nvml(ask)


def _with_nvml(ask: Callable[[Any], Answer | None]) -> Answer | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return ask(pynvml)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _handles(nvml: Any, gpus: Sequence[str] | None) -> list[Any]:
    if gpus is None:
        return [handle for handle in [_visible_gpu(nvml)] if handle is not None]
    found = []
    for gpu in gpus:
        for kind in ("GPU", "MIG"):  # CUDA tells the number without its kind
            with contextlib.suppress(nvml.NVMLError):
                found.append(nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{gpu}"))
                break
    return found


def _visible_gpu(nvml: Any) -> Any | None:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    for index, handle in enumerate(_in_order(nvml)):
        # An identifier may be cut short, as long as it tells one GPU.
        if first == str(index) or (
            first.startswith("GPU-") and str(nvml.nvmlDeviceGetUUID(handle)).startswith(first)
        ):
            return handle
    return None


def _in_order(nvml: Any) -> list[Any]:
    """Return the GPUs as CUDA numbers them.

    NVML counts by PCI bus; CUDA too where CUDA_DEVICE_ORDER says so, else it takes the fastest first, by a
    heuristic of its own (CUDA C++ Programming Guide, "CUDA Environment Variables"). Ours is the same for
    GPUs of one kind; a training asks PyTorch which it has.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    if len(handles) < 2 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return handles

    def slowness(handle: Any) -> int:
        try:
            clock = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
            return -int(nvml.nvmlDeviceGetNumGpuCores(handle) * clock)
        except nvml.NVMLError:
            return 0

    return sorted(handles, key=slowness)


def _together(meters: Sequence[Meters]) -> Meters:
    if len(meters) == 1:
        return meters[0]
    kinds = Counter(each.name for each in meters)

    def all_of(name: str, combine: Callable[[list[Any]], Any]) -> Any:
        told = [value for each in meters if (value := getattr(each, name)) is not None]
        return combine(told) if told else None

    return Meters(
        name=", ".join(f"{count} × {name}" for name, count in kinds.items()),
        gpu_utilisation=all_of("gpu_utilisation", fmean),
        memory_used=all_of("memory_used", sum),
        memory_total=all_of("memory_total", sum),
        temperature=all_of("temperature", max),
        power=all_of("power", sum),
    )


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
