"""How many processes there will be: what accelerate's own launcher makes of the same file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands import launch
from trl.cli.accelerate_config import resolve_accelerate_config_argument
from trl.scripts.sft import make_parser

from lorabench.errors import LorabenchError
from lorabench.training.preflight.processes import processes_of
from lorabench.training.preflight.steps import steps_findings
from lorabench.training.trainer.ranks import without_ranks
from tests.training.preflight_model.conftest import Configure

THEIRS = {"compute_environment": "LOCAL_MACHINE", "num_machines": 1, "use_cpu": False, "debug": False}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let this machine have so many GPUs, and no file of accelerate's."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    default = str(tmp_path / "default_config.yaml")
    monkeypatch.setattr(launch, "default_config_file", default)
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", default)

    def have(count: int) -> Path:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        return Path(default)

    return have


def started_by_trl(path: Path) -> int:
    """Ask TRL and accelerate how many processes `trl sft --config` would start."""
    environment = dict(os.environ)
    *_, from_file, _ = make_parser().parse_args_and_config(
        ["--config", str(path)], return_remaining_strings=True, separate_remaining_strings=True
    )
    os.environ.clear()
    os.environ.update(environment)
    words = [*resolve_accelerate_config_argument(from_file), "script.py"]
    arguments, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words))
    several = arguments.multi_gpu or arguments.use_deepspeed or arguments.use_fsdp
    return arguments.num_processes if several else 1


@pytest.mark.parametrize("count", [0, 1, 2, 4])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_processes": 1},
        {"num_processes": 2},
        {"accelerate_config": "single_gpu"},
        {"accelerate_config": "multi_gpu"},
        {"accelerate_config": "multi_gpu", "num_processes": 4},
        {"accelerate_config": "zero2", "num_processes": 2},
        {"accelerate_config": "fsdp1"},
    ],
    ids=str,
)
def test_the_count_is_accelerates_own(
    configure: Configure, samples: Path, tmp_path: Path, gpus: Any, count: int, fields: dict[str, Any]
) -> None:
    gpus(count)
    config = configure(samples / "demo-model", **fields)
    config.save(tmp_path / "run.yaml")
    assert processes_of(config).count == started_by_trl(tmp_path / "run.yaml")


@pytest.mark.parametrize("spread", ["NO", "MULTI_GPU"])
def test_the_file_of_accelerate_config_counts_too(
    configure: Configure, samples: Path, tmp_path: Path, gpus: Any, spread: str
) -> None:
    gpus(2).write_text(yaml.safe_dump({**THEIRS, "distributed_type": spread, "num_processes": 3}))
    config = configure(samples / "demo-model")
    config.save(tmp_path / "run.yaml")
    assert processes_of(config).count == started_by_trl(tmp_path / "run.yaml") == (3 if spread != "NO" else 1)


def test_a_launched_process_knows_how_many_there_are(
    configure: Configure, samples: Path, gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert processes_of(configure(samples / "demo-model", num_processes=2)).count == 8


def test_the_steps_count_with_them_and_say_where_the_number_comes_from(
    configure: Configure, samples: Path, gpus: Any
) -> None:
    gpus(2)
    config = configure(samples / "demo-model", num_processes=2, per_device_train_batch_size=4)
    (steps, _) = steps_findings(config, 1000)
    assert steps.message == "1,000 rows, batch 4 × 2 = 8: 125 × 3 epochs = 375 steps."
    assert steps.detail.endswith("\n2 processes: num_processes.")


def test_processes_that_will_not_be_started_here_are_told(
    configure: Configure, samples: Path, gpus: Any
) -> None:
    gpus(1)
    config = configure(samples / "demo-model", num_processes=4, per_device_train_batch_size=4)
    steps, told, _ = steps_findings(config, 1000)
    assert steps.message == "1,000 rows, batch 4: 250 × 3 epochs = 750 steps."
    assert (told.level, told.message) == (
        "warning",
        "Counted for one process: num_processes is 4, but here accelerate would start one.",
    )


@pytest.mark.parametrize(
    ("there", "fields", "told"),
    [
        (1, {"accelerate_config": "multi_gpu", "num_processes": 2}, "there is 1 GPU."),
        (2, {"num_processes": 3}, "there are 2 GPUs."),
        (2, {"num_processes": 2}, None),
        (0, {"accelerate_config": "multi_gpu", "num_processes": 2}, None),  # gloo, on the CPU
        (1, {"accelerate_config": "multi_gpu", "num_processes": 2, "use_cpu": True}, None),
    ],
)
def test_more_processes_than_gpus_are_an_error(
    configure: Configure, samples: Path, gpus: Any, there: int, fields: dict[str, Any], told: str | None
) -> None:
    """CUDA would say `invalid device ordinal` in one of them, and the others would wait for it."""
    gpus(there)
    config = configure(samples / "demo-model", **{"use_cpu": False} | fields)
    errors = [finding for finding in steps_findings(config, 1000) if finding.level == "error"]
    assert [told in finding.message for finding in errors] == ([True] if told else [])
    if errors and errors[0].mend:
        assert errors[0].mend.changes == {"num_processes": there}


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, True),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, False),  # of two machines, each with GPUs of its own
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "ACCELERATE_USE_CPU": "true"}, False),
    ],
)
def test_the_first_of_processes_that_lack_gpus_says_so_for_all(
    configure: Configure,
    samples: Path,
    gpus: Any,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    refused: bool,
) -> None:
    gpus(1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = configure(samples / "demo-model", use_cpu=False)
    with without_ranks():
        levels = [finding.level for finding in steps_findings(config, 1000)]
    assert ("error" in levels) is refused


def test_a_file_of_accelerates_that_is_not_there_is_named(
    configure: Configure, samples: Path, gpus: Any
) -> None:
    gpus(2)
    with pytest.raises(LorabenchError, match="accelerate_config zero9 is neither") as raised:
        processes_of(configure(samples / "demo-model", accelerate_config="zero9"))
    assert "zero2, zero3" in raised.value.hint
