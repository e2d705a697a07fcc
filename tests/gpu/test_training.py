"""Trainings on a GPU: in each precision, stopped, killed and resumed, in a thread, and out of memory."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.adapters.open import open_adapter
from lorabench.runs.device import read_capability, read_gpu, read_meters
from lorabench.spectra.analysis import analyze_layer
from lorabench.training.trainer.train import train
from tests.gpu.conftest import Trained
from tests.training.trainer.children import die_at_step, ended, start
from tests.training.trainer.runs import (
    STEPS,
    adapter_bytes,
    events_of,
    learnt,
    of_kind,
    run_file,
)

pytestmark = pytest.mark.gpu

AUTO = {"env": {"LORABENCH": {"precision": "auto"}}}
SAME = {"full_determinism": True, "lora_dropout": 0.1}


@pytest.fixture(scope="session")
def on_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step in float32 on the CPU."""
    path = run_file(tmp_path_factory.mktemp("cpu"), use_cpu=True, lora_dropout=0.0)
    assert train(path).state == "finished"
    return learnt(path.parent / "run")


def test_cuda_and_the_driver_name_one_gpu() -> None:
    gpu = read_gpu()
    assert gpu is not None
    assert gpu.name == torch.cuda.get_device_name()
    assert read_capability() == torch.cuda.get_device_capability()
    assert gpu.total == pytest.approx(torch.cuda.get_device_properties(0).total_memory, rel=0.03)
    meters = read_meters([str(torch.cuda.get_device_properties(0).uuid)])
    assert (meters.name, meters.memory_total) == (gpu.name, gpu.total)
    assert None not in (meters.gpu_utilisation, meters.temperature, meters.power)


@pytest.mark.parametrize(
    ("precision", "changes", "tolerance"),
    [
        ("fp32", {"dtype": "float32"}, 2e-3),
        ("bf16", {"bf16": True}, 0.03),
        ("bf16", {"bf16": True, "dtype": "bfloat16"}, 0.05),
        ("fp16", {"fp16": True}, 0.03),
        ("fp16", {"fp16": True, "dtype": "float16"}, 0.03),
        ("bf16", AUTO, 0.03),
    ],
)
def test_each_precision_learns_what_the_cpu_learns(
    precision: str,
    changes: dict[str, Any],
    tolerance: float,
    on_the_cpu: dict[int, tuple[float, float]],
    tmp_path: Path,
) -> None:
    outcome = train(run_file(tmp_path, lora_dropout=0.0, **changes))
    assert outcome.state == "finished", outcome
    events = events_of(tmp_path / "run")
    (started,) = of_kind(events, "started")
    device = started["device"]
    assert (device["name"], device["dtype"]) == (torch.cuda.get_device_name(), precision)
    meters = of_kind(events, "device")
    assert meters
    assert all(event["name"] == torch.cuda.get_device_name() for event in meters)
    found = learnt(tmp_path / "run")
    assert found.keys() == on_the_cpu.keys()
    # GradScaler begins with a scale at which gradients overflow: it skips a step or two, and so falls behind.
    for step in [1] if precision == "fp16" else found:
        assert found[step][0] == pytest.approx(on_the_cpu[step][0], rel=tolerance)
    assert found[STEPS][0] < 0.8 * found[1][0]


def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole, torn = run_file(tmp_path / "whole", **SAME, **AUTO), run_file(tmp_path / "torn", **SAME, **AUTO)
    assert ended(start(whole), 120) == 0
    assert ended(start(torn, prepare=die_at_step, given=(6,)), 120) == -signal.SIGKILL
    assert ended(start(torn, "--resume"), 120) == 0
    assert learnt(torn.parent / "run") == learnt(whole.parent / "run")
    assert adapter_bytes(torn.parent / "run") == adapter_bytes(whole.parent / "run")


def test_a_thread_gives_the_memory_back(trained: Trained) -> None:
    measured = trained(place="thread", **AUTO)
    assert measured["state"] == "finished", measured["error"]
    assert measured["allocated"] > 4e6
    assert measured["held"] <= 1e6


def test_memory_that_runs_out_ends_in_a_hint(
    llama: Path, long_rows: Path, trained: Trained, tmp_path: Path
) -> None:
    measured = trained(
        share=6e9 / torch.cuda.get_device_properties(0).total_memory,
        model_name_or_path=str(llama),
        dtype="bfloat16",
        bf16=True,
        dataset_name=str(long_rows),
        assistant_only_loss=False,
        per_device_train_batch_size=16,
        max_length=1024,
    )
    assert (measured["state"], measured["reason"]) == ("failed", "out of memory")
    assert "CUDA out of memory" in measured["error"]
    assert "checkpointing" in measured["hint"]
    (failed,) = of_kind(events_of(tmp_path / "run"), "failed")
    assert failed["reason"] == "out of memory"


def test_what_is_seen_while_it_trains_is_what_the_checkpoint_holds(tmp_path: Path) -> None:
    path = run_file(tmp_path, **AUTO, max_steps=40, save_steps=1, logging_steps=1)
    assert train(path).state == "finished"
    folder = tmp_path / "run"
    seen = of_kind(events_of(folder), "spectra")
    assert seen
    for event in seen:
        saved = {
            layer.name: analyze_layer(layer)
            for layer in open_adapter(folder / f"checkpoint-{event['step']}").layers
        }
        for name, numbers in event["modules"].items():
            assert numbers["norm"] == pytest.approx(saved[name].frobenius_norm, rel=1e-4)
