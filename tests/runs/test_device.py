"""What the machine computes on."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorabench.runs.device import Device, read_capability, read_device, read_gpu, read_meters


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
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert read_gpu() == Device("H100 at gpu 0", 41, 80)
    assert read_capability() == (9, 0)


class FakeNvml:
    """NVML with two GPUs, of which the second does not tell its power; `answers` replaces single ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        import pynvml

        told: dict[str, Any] = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}{handle}{handle}-abc",
            "nvmlDeviceGetName": lambda handle: f"H100 number {handle}",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=41_000, total=80_000),
            "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=97, memory=12),
            "nvmlDeviceGetTemperature": lambda handle, sensor: 63,
            "nvmlDeviceGetPowerUsage": self.power,
            "nvmlDeviceGetNumGpuCores": lambda handle: 16896,
            "nvmlDeviceGetMaxClockInfo": lambda handle, clock: 1980,
        }
        for name, answer in {**told, **answers}.items():
            monkeypatch.setattr(pynvml, name, answer)

    @staticmethod
    def power(handle: object) -> int:
        import pynvml

        if handle != 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 412_500


def test_a_gpu_tells_its_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert read_meters().fields() == {
        "name": "H100 number 0",
        "gpu_utilisation": 97.0,
        "memory_used": 41_000,
        "memory_total": 80_000,
        "temperature": 63.0,
        "power": 412.5,
    }


def test_what_a_gpu_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert set(read_meters().fields()) == {
        "name",
        "gpu_utilisation",
        "memory_used",
        "memory_total",
        "temperature",
    }


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        ("0", "H100 number 0"),
        ("1,0", "H100 number 1"),
        (" 1 ", "H100 number 1"),
        ("GPU-111", "H100 number 1"),
        ("MIG-7c", "H100 number MIG-7c"),
    ],
)
def test_the_gpu_is_the_one_that_cuda_would_take(
    monkeypatch: pytest.MonkeyPatch, visible: str, name: str
) -> None:
    FakeNvml(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert read_meters().name == name
    assert read_device().name == name


SPEEDS = {0: (2560, 1590), 1: (6912, 1410)}  # cores and MHz of a T4 and an A100


@pytest.mark.parametrize(
    ("order", "visible", "name"),
    [
        ("", "0", "H100 number 1"),
        ("FASTEST_FIRST", "1", "H100 number 0"),
        ("PCI_BUS_ID", "0", "H100 number 0"),
        ("PCI_BUS_ID", "1", "H100 number 1"),
        ("", "GPU-000", "H100 number 0"),
    ],
)
def test_of_different_gpus_cuda_takes_the_fastest_first_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, order: str, visible: str, name: str
) -> None:
    FakeNvml(
        monkeypatch,
        nvmlDeviceGetNumGpuCores=lambda handle: SPEEDS[handle][0],
        nvmlDeviceGetMaxClockInfo=lambda handle, clock: SPEEDS[handle][1],
        nvmlDeviceGetCudaComputeCapability=lambda handle: {0: (7, 5), 1: (8, 0)}[handle],
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    assert read_meters().name == name
    assert read_capability() == {"H100 number 0": (7, 5), "H100 number 1": (8, 0)}[name]


def test_the_gpus_that_train_are_metered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = {"GPU-aa": 0, "MIG-bb": 1}

    def by_uuid(uuid: str) -> int:
        import pynvml

        if uuid not in handles:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handles[uuid]

    FakeNvml(
        monkeypatch,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetName=lambda handle: "H100",
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=(90, 70)[handle]),
        nvmlDeviceGetTemperature=lambda handle, sensor: (63, 71)[handle],
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=(5, 7)[handle], total=10),
    )
    assert read_meters(["bb"]).temperature == 71.0
    assert read_meters(["aa", "bb", "on another machine"]).fields() == {
        "name": "2 × H100",
        "gpu_utilisation": 80.0,
        "memory_used": 12,
        "memory_total": 20,
        "temperature": 71.0,
        "power": 412.5,  # of the one that tells it
    }
    for none in ([], ["on another machine"]):
        assert read_meters(none).name.startswith("CPU")


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-999", "none"])
def test_where_cuda_sees_no_gpu_the_cpu_is_read(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    FakeNvml(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert read_meters().name.startswith("CPU")


def test_the_cpu_tells_how_busy_it_was_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    read_meters([])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    meters = read_meters([])
    assert meters.cpu_utilisation is not None
    assert 0 < meters.cpu_utilisation <= 100
    assert meters.memory_used is not None
    assert meters.memory_total is not None
    assert 0 < meters.memory_used < meters.memory_total
    assert meters.gpu_utilisation is None
