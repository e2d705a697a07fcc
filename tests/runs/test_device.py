"""What the machine computes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lorabench.runs.device import Device, read_capability, read_device, read_gpu


def test_a_gpu_is_shown_before_the_cpu() -> None:
    gpu = Device("NVIDIA H100", 41_000_000_000, 80_000_000_000)
    assert read_device(gpu=lambda: gpu) == gpu


def test_without_a_gpu_the_machines_memory_is_read(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n")
    device = read_device(gpu=lambda: None, meminfo=meminfo)
    assert device.name.startswith("CPU")
    assert (device.used, device.total) == (600 * 1024, 1000 * 1024)


def test_a_system_that_does_not_tell_its_memory_has_a_device_all_the_same(tmp_path: Path) -> None:
    device = read_device(gpu=lambda: None, meminfo=tmp_path / "none")
    assert (device.used, device.total) == (None, None)


def test_a_failing_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert read_gpu() is None


def test_the_first_gpu_tells_its_name_memory_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
        "nvmlDeviceGetName": lambda handle: f"H100 at {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=41, total=80),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert read_gpu() == Device("H100 at gpu 0", 41, 80)
    assert read_capability() == (9, 0)
