"""Resume and reuse: what lies in the output folder, compared with a real checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.resume import resume_findings
from tests.fuzz.hostile_pickles import WAYS
from tests.training.preflight_model.conftest import Configure
from tests.training.preflight_model.trained import rows, trainer_of

TARGETS = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def trained(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a real run: checkpoint-2 and checkpoint-4 with optimizer and scheduler."""
    folder = tmp_path_factory.mktemp("trained")
    config = RunConfig.of(
        {
            "model_name_or_path": str(samples / "demo-model"),
            "output_dir": str(folder),
            "use_peft": True,
            "lora_r": 8,
            "lora_alpha": 16,
            "lora_target_modules": TARGETS,
            "learning_rate": 2e-4,
            "per_device_train_batch_size": 2,
            "max_steps": 4,
            "save_steps": 2,
            "use_cpu": True,
            "bf16": False,
        }
    )
    trainer_of(config, rows(samples, 8)).train()
    return folder


@pytest.fixture
def again(configure: Configure, samples: Path, trained: Path, tmp_path: Path) -> Any:
    """Configure another run into a copy of that folder."""
    copy = tmp_path / "out"
    shutil.copytree(trained, copy)

    def make(**changes: Any) -> RunConfig:
        same = {"lora_target_modules": TARGETS, "learning_rate": 2e-4, "max_steps": 8}
        return configure(samples / "demo-model", **(same | changes))

    return make


def told(findings: list[Finding], level: str) -> list[str]:
    return [finding.message for finding in findings if finding.level == level]


def test_an_empty_folder_is_nothing_to_say(configure: Configure, samples: Path) -> None:
    assert resume_findings(configure(samples / "demo-model")) == []


def test_a_folder_with_checkpoints_is_told_and_the_mend_goes_on_from_the_newest(again: Any) -> None:
    config = again()
    (found,) = resume_findings(config)
    assert found.level == "warning"
    assert found.message == (
        "The output folder already holds checkpoint-4: on the screen `t` asks whether to go on from it, "
        "`lorabench train` wants --resume or --anew"
    )
    assert "earlier-N" in found.detail
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert [finding.message for finding in resume_findings(config)] == ["Goes on from checkpoint-4."]


def test_of_a_torn_checkpoint_without_a_whole_one_it_is_said_that_no_run_goes_on(again: Any) -> None:
    config = again()
    (config.folder / "checkpoint-4" / "optimizer.pt").unlink()
    (older,) = resume_findings(config)
    assert "already holds checkpoint-2: on the screen `t` asks" in older.message
    assert older.detail.startswith("checkpoint-4 is passed over: no optimizer.pt")
    (config.folder / "checkpoint-2" / "optimizer.pt").unlink()
    (torn,) = resume_findings(config)
    assert "holds checkpoint-4, from which no run can go on (no optimizer.pt" in torn.message
    assert torn.mend is None


def test_the_same_configuration_goes_on(again: Any) -> None:
    assert told(resume_findings(again(resume_from_checkpoint=True)), "ok") == ["Goes on from checkpoint-4."]


def test_another_rank_will_not_load_and_the_trainer_agrees(again: Any, samples: Path) -> None:
    config = again(lora_r=16, resume_from_checkpoint=True)
    (error,) = [finding for finding in resume_findings(config) if finding.level == "error"]
    assert error.message == "r = 16 here, 8 in checkpoint-4: shapes will not match."
    checkpoint = config.folder / "checkpoint-4"
    with pytest.raises(RuntimeError, match="size mismatch"):
        trainer_of(config, rows(samples, 8)).train(resume_from_checkpoint=str(checkpoint))
    assert error.mend is not None
    config.apply(error.mend.changes)
    assert told(resume_findings(config), "error") == []


def test_without_resuming_the_mismatch_is_told_too(again: Any) -> None:
    findings = resume_findings(again(lora_r=16))
    assert told(findings, "error") == []
    assert told(findings, "warning")[1:] == ["r = 16 here, 8 in checkpoint-4: shapes will not match."]
    assert findings[0].mend is None


def test_other_targets_are_told_by_name(again: Any) -> None:
    config = again(lora_target_modules=["q_proj", "up_proj"], resume_from_checkpoint=True)
    assert told(resume_findings(config), "error") == [
        "Targets here, not in checkpoint-4: up_proj (6 modules); it has no weights for them.",
        "Targets in checkpoint-4, not here: v_proj (6 modules); their weights have no place.",
    ]


def test_another_base_and_dora_are_errors(again: Any) -> None:
    errors = told(resume_findings(again(use_dora=True, resume_from_checkpoint=True)), "error")
    assert errors == ["DoRA here, not in checkpoint-4: the magnitudes will not match."]
    other = again(model_name_or_path="some/other", resume_from_checkpoint=True)
    (error,) = told(resume_findings(other), "error")
    assert error.startswith("The base model is some/other here, ")


def test_what_is_silently_applied_and_silently_ignored_is_said(again: Any, samples: Path) -> None:
    config = again(lora_alpha=32, learning_rate=1e-3, resume_from_checkpoint=True)
    alpha, rate = told(resume_findings(config), "warning")
    assert alpha.startswith("lora_alpha = 32 here, 16 in checkpoint-4:")
    assert rate == "learning_rate 0.001 will be ignored: checkpoint-4 goes on with 0.0002."
    trainer = trainer_of(config, rows(samples, 8))
    trainer.train(resume_from_checkpoint=str(config.folder / "checkpoint-4"))
    assert trainer.lr_scheduler.base_lrs == [2e-4] * len(trainer.lr_scheduler.base_lrs)


@pytest.mark.parametrize("missing", ["trainer_state.json", "optimizer.pt", "scheduler.pt"])
def test_a_torn_newest_checkpoint_is_passed_over_for_an_older_whole_one(again: Any, missing: str) -> None:
    config = again(resume_from_checkpoint=True)
    (config.folder / "checkpoint-4" / missing).unlink()
    (warning,) = told(resume_findings(config), "warning")
    assert warning.startswith(f"checkpoint-4 is passed over: no {missing}: ")
    assert told(resume_findings(config), "ok") == ["Goes on from checkpoint-2."]
    assert told(resume_findings(config), "error") == []


def test_a_torn_checkpoint_that_was_asked_for_by_name_is_an_error(again: Any) -> None:
    config = again()
    checkpoint = config.folder / "checkpoint-4"
    config.set("resume_from_checkpoint", str(checkpoint))
    weights = checkpoint / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (error,) = [finding for finding in resume_findings(config) if finding.level == "error"]
    assert error.message.startswith(
        "No run can go on from checkpoint-4: adapter_model.safetensors is damaged"
    )
    assert error.mend is not None
    config.apply(error.mend.changes)
    assert told(resume_findings(config), "ok") == ["Goes on from checkpoint-2."]


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(again: Any, name: str, tmp_path: Path) -> None:
    config = again(resume_from_checkpoint=True)
    hostile = WAYS["a storage's identity"](tmp_path / "ran")
    (config.folder / "checkpoint-4" / name).write_bytes(hostile)
    assert told(resume_findings(config), "error") == [
        f"{name} in checkpoint-4 would run code on loading, and is refused."
    ]
    assert not (tmp_path / "ran").exists()


def test_torn_checkpoints_alone_are_an_error(again: Any) -> None:
    config = again(resume_from_checkpoint=True)
    for checkpoint in config.folder.glob("checkpoint-*"):
        (checkpoint / "optimizer.pt").unlink()
    findings = resume_findings(config)
    assert told(findings, "error") == [
        "resume_from_checkpoint is true, but the output folder holds no whole checkpoint."
    ]
    assert [message.split(" is ")[0] for message in told(findings, "warning")] == [
        "checkpoint-4",
        "checkpoint-2",
    ]


def test_a_checkpoint_that_is_not_there_is_an_error(configure: Configure, samples: Path) -> None:
    (error,) = told(
        resume_findings(configure(samples / "demo-model", resume_from_checkpoint="gone")), "error"
    )
    assert error == "There is no checkpoint gone to go on from."
    none = configure(samples / "demo-model", resume_from_checkpoint=True)
    assert "holds no whole checkpoint" in told(resume_findings(none), "error")[0]


def test_an_adapter_as_the_base_model_is_refused(configure: Configure, samples: Path) -> None:
    config = configure(samples / "style-clean-r16")
    (error,) = [finding for finding in resume_findings(config) if finding.level == "error"]
    assert error.message == "style-clean-r16 already is a PEFT model; this would put a second LoRA on it."
    assert error.mend is not None
    assert error.mend.changes == {"model_name_or_path": "sample_adapters/demo-model"}


def test_an_adapter_in_the_output_folder_is_told(configure: Configure, samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "style-clean-r16", tmp_path / "out")
    findings = resume_findings(configure(samples / "demo-model"))
    assert told(findings, "warning")[:2] == [
        "The output folder already holds an adapter, which this run moves to a folder earlier-N",
        "r = 8 here, 16 in out: shapes will not match.",
    ]
