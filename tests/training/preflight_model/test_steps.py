"""Steps: what the Trainer does, counted before it does it."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, SequentialSampler

from lorabench.training.preflight.meta_model import described
from lorabench.training.preflight.steps import checkpoint_bytes, plan, steps_findings
from tests.training.preflight_model.conftest import Configure
from tests.training.preflight_model.trained import rows, trainer_of

LENGTHS: list[dict[str, Any]] = [
    {"num_train_epochs": 1.0},
    {"num_train_epochs": 2.5},
    {"max_steps": 4},
]


def test_a_grid_of_settings_gives_the_trainers_own_steps(configure: Configure, samples: Path) -> None:
    """One trainer for each number of rows; its own method counts, for each batch size, and so on."""
    compared = 0
    for count in (10, 16):
        data = rows(samples, count)
        for batch, drop_last in product((1, 3, 4), (False, True)):
            fields = {"per_device_train_batch_size": batch, "dataloader_drop_last": drop_last}
            trainer = trainer_of(configure(samples / "demo-model", **fields), data)
            loader = trainer.get_train_dataloader()
            for accumulation, length in product((1, 2, 3), LENGTHS):
                config = configure(
                    samples / "demo-model", **fields, gradient_accumulation_steps=accumulation, **length
                )
                for name in ("gradient_accumulation_steps", "max_steps", "num_train_epochs"):
                    setattr(trainer.args, name, config.get(name))
                told = trainer.set_initial_training_values(trainer.args, loader)
                planned = plan(config, count)
                assert (planned.steps, planned.steps_per_epoch) == (told[6], told[1])
                assert planned.effective_batch == told[4]
                assert planned.micro_batches == len(loader)
                assert planned.warmup == trainer.args.get_warmup_steps(told[6])
                compared += 1
    assert compared == 2 * 6 * 9


@pytest.mark.parametrize(
    "fields",
    [
        {"num_train_epochs": 2.0, "save_steps": 2},
        {"num_train_epochs": 1.5, "gradient_accumulation_steps": 2, "save_strategy": "epoch"},
        {"max_steps": 5, "save_steps": 0.5, "save_total_limit": 2},
        {"max_steps": 3, "save_strategy": "no"},
        {"num_train_epochs": 1.0, "dataloader_drop_last": True, "save_steps": 1, "save_only_model": True},
    ],
)
def test_a_real_run_takes_these_steps_and_leaves_these_checkpoints(
    configure: Configure, samples: Path, fields: dict[str, Any]
) -> None:
    config = configure(
        samples / "demo-model",
        per_device_train_batch_size=4,
        lora_target_modules=["q_proj", "v_proj"],
        gradient_checkpointing=False,
        **fields,
    )
    trainer = trainer_of(config, rows(samples, 10))
    trainer.train()
    planned = plan(config, 10)
    assert trainer.state.global_step == planned.steps
    left = {int(path.name.partition("-")[2]): path for path in config.folder.glob("checkpoint-*")}
    assert sorted(left) == list(planned.checkpoints[len(planned.checkpoints) - planned.kept :])
    model = described(config)
    assert model is not None
    for step, checkpoint in left.items():
        size = sum(path.stat().st_size for path in checkpoint.iterdir())
        assert checkpoint_bytes(config, model.trainable, step) == pytest.approx(size, rel=0.03)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_several_processes_share_the_batches_as_accelerate_shards_them(
    configure: Configure, samples: Path, processes: int
) -> None:
    for count, batch, drop_last in product((7, 16, 33), (1, 2, 4), (False, True)):
        sampler = BatchSampler(SequentialSampler(range(count)), batch, drop_last)
        shard = BatchSamplerShard(sampler, num_processes=processes, process_index=0)
        config = configure(
            samples / "demo-model", per_device_train_batch_size=batch, dataloader_drop_last=drop_last
        )
        planned = plan(config, count, processes)
        assert planned.micro_batches == len(shard)
        assert planned.effective_batch == batch * processes


def test_the_sentence_has_all_the_numbers(configure: Configure, samples: Path) -> None:
    config = configure(
        samples / "demo-model", per_device_train_batch_size=4, num_train_epochs=3, warmup_steps=0.03
    )
    first, disk = steps_findings(config, 1000, trainable=100_000)
    assert first.message == "1,000 rows, batch 4: 250 × 3 epochs = 750 steps, warm-up 23."
    assert disk.message == "2 checkpoints: about 1.3 MB each, 2.7 MB on disk."
    config.apply({"gradient_accumulation_steps": 2})
    assert steps_findings(config, 1000, processes=2)[0].message == (
        "1,000 rows, batch 4 × 2 × 2 = 16: 63 × 3 epochs = 189 steps, warm-up 6."
    )


def test_rows_that_fill_no_batch_are_an_error_with_a_mend(configure: Configure, samples: Path) -> None:
    config = configure(samples / "demo-model", dataloader_drop_last=True, per_device_train_batch_size=8)
    (error,) = steps_findings(config, 5)
    assert error.level == "error"
    assert error.mend is not None
    config.apply(error.mend.changes)
    assert plan(config, 5).steps == 3


def test_packing_is_said_to_be_an_estimate(configure: Configure, samples: Path) -> None:
    config = configure(samples / "demo-model", packing=True, max_length=256, per_device_train_batch_size=4)
    assert steps_findings(config, 1000, tokens=50_000)[0].message == (
        "about 196 packed rows, batch 4: 49 × 3 epochs = about 147 steps."
    )
    unknown = [finding for finding in steps_findings(config, 1000) if finding.level == "warning"]
    assert len(unknown) == 1
    assert "packing" in unknown[0].message


def test_a_warm_up_longer_than_the_run_is_a_warning(configure: Configure, samples: Path) -> None:
    config = configure(samples / "demo-model", max_steps=50, warmup_steps=100)
    (warning,) = [finding for finding in steps_findings(config, 1000) if finding.level == "warning"]
    assert warning.message.startswith("Warm-up takes 100 of 50 steps")


def test_data_of_unknown_length_need_max_steps(configure: Configure, samples: Path) -> None:
    (error,) = steps_findings(configure(samples / "demo-model"), None)
    assert error.level == "error"
    assert error.message == "A dataset that is streamed has no length, and needs max_steps."
    (fine,) = steps_findings(configure(samples / "demo-model", max_steps=20), None)
    assert fine.message == "20 steps (max_steps)."


def test_a_disk_that_cannot_hold_the_checkpoints_is_a_warning(
    configure: Configure, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 5_000_000))  # type: ignore[attr-defined]
    config = configure(samples / "demo-model", save_steps=100, per_device_train_batch_size=4)
    (warning,) = [found for found in steps_findings(config, 1000, trainable=100_000) if found.mend]
    assert warning.level == "warning"
    assert warning.message.endswith(" MB on disk, which has 5.0 MB free.")
    assert warning.mend is not None
    config.apply(warning.mend.changes)
    assert steps_findings(config, 1000, trainable=100_000)[-1].level == "ok"
