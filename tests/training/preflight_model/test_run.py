"""The first check of all: what is wrong with the fields, and what `trl sft` would pass by."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.run import CHECKS, findings_of
from tests.training.preflight_model.conftest import Configure


def of_config(config: RunConfig) -> list[Finding]:
    return list(findings_of(CHECKS[0], config))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"rank_pattern": {"o_proj": 16}}, "rank_pattern"),
        ({"bias": "lora_only", "layers_to_transform": [0]}, "bias, layers_to_transform"),
        ({"lora_bias": True}, "lora_bias"),
    ],
)
def test_what_trl_sft_would_train_without_is_a_warning_with_what_to_do(
    configure: Configure, samples: Path, fields: dict[str, Any], names: str
) -> None:
    fine, told = of_config(configure(samples / "demo-model", **fields))
    assert fine.level == "ok"
    assert told.level == "warning"
    assert told.message == f"`trl sft` would train without {names} (under env: LORABENCH: lora:)."
    assert "Start the run with lorabench train" in told.detail


def test_a_value_that_cannot_be_says_what_all_other_checks_take(configure: Configure, samples: Path) -> None:
    (told,) = of_config(configure(samples / "demo-model", lora_r=0))
    assert told.level == "error"
    assert told.detail.splitlines()[-1] == "Meanwhile all other checks take its default, 16."
    # Each value alone can be: the checks take them as they stand.
    both = of_config(configure(samples / "demo-model", bf16=True, fp16=True))
    assert "error" in {finding.level for finding in both}
    assert not any("Meanwhile" in finding.detail for finding in both)


@pytest.mark.parametrize(
    ("optimizer", "rate", "warned"),
    [
        ("adamw_torch_fused", 1e10, True),
        ("adamw_torch_fused", 0.011, True),
        ("paged_adamw_8bit", 0.1, True),
        ("adamw_torch_fused", 1e-2, False),
        ("adamw_torch_fused", 6e-3, False),
        ("sgd", 1.0, False),
        ("sgd", 1.5, True),
    ],
)
def test_a_learning_rate_beyond_all_lora_runs_is_a_warning_with_the_usual_range(
    configure: Configure, samples: Path, optimizer: str, rate: float, warned: bool
) -> None:
    config = configure(samples / "demo-model", optim=optimizer, learning_rate=rate)
    told = [found for found in of_config(config) if found.level == "warning"]
    assert [found.field for found in told] == ["learning_rate"] * warned
    for found in told:
        assert f"learning_rate {rate:g} is far above" in found.message
        assert "1e-5 … 1e-3 is usual with AdamW" in found.detail
        assert (found.mend is None) == (optimizer == "sgd")
        config.apply(found.mend.changes if found.mend else {"learning_rate": 1.0})
        assert [found.level for found in of_config(config)] == ["ok"]


def test_the_samples_own_runs_get_no_such_warning(samples: Path) -> None:
    runs = [RunConfig.load(path) for path in samples.glob("*/run.yaml")]
    assert runs
    assert [found for run in runs for found in of_config(run) if found.field == "learning_rate"] == []


def test_trl_gives_peft_a_configuration_without_them_as_the_warning_says(
    configure: Configure, samples: Path
) -> None:
    from trl import ModelConfig, get_peft_config

    config = configure(samples / "demo-model", rank_pattern={"o_proj": 16}, lora_r=4)
    ours = config.peft_config()
    theirs = get_peft_config(ModelConfig(use_peft=True, lora_r=4))
    assert ours is not None
    assert (ours.rank_pattern, theirs.rank_pattern) == ({"o_proj": 16}, {})


@pytest.mark.parametrize(
    "fields",
    [{}, {"bias": "none", "init_lora_weights": True}, {"rank_pattern": {"q": 1}, "use_peft": False}],
)
def test_where_both_train_the_same_nothing_is_said(
    configure: Configure, samples: Path, fields: dict[str, Any]
) -> None:
    assert [found.level for found in of_config(configure(samples / "demo-model", **fields))] == ["ok"]


def of(check: str, config: RunConfig) -> list[Finding]:
    return [found for each in CHECKS if each.name == check for found in findings_of(each, config)]


@pytest.mark.parametrize("fields", [{"dataset_streaming": True}, {"streaming": True}])
def test_streamed_data_need_max_steps_as_the_trainer_says(
    configure: Configure, samples: Path, fields: dict[str, Any]
) -> None:
    place = str(samples / "demo-data")
    named = {"datasets": [{"path": place}]} if "streaming" in fields else {"dataset_name": place}
    config = configure(samples / "demo-model", **named, **fields)
    (error,) = of("steps", config)
    assert error.level == "error"
    assert error.mend is not None
    config.apply(error.mend.changes)
    assert [found.message for found in of("steps", config)] == ["1,000 steps (max_steps)."]


def test_a_report_to_nobody_knows_and_one_that_is_not_installed_are_errors(
    configure: Configure, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="wandbb is not supported"):
        get_reporting_integration_callbacks("wandbb")
    monkeypatch.setattr("lorabench.training.config.later.find_spec", lambda _: None)
    config = configure(samples / "demo-model", report_to="wandbb")
    (unknown,) = of("trl", config)
    assert unknown.message == "report_to is wandbb, which transformers does not know; did you mean wandb?"
    assert unknown.mend is not None
    config.apply(unknown.mend.changes)
    (missing,) = of("trl", config)
    assert missing.message == "report_to needs wandb, which is not installed here: pip install wandb."
    assert missing.mend is not None
    config.apply(missing.mend.changes)
    assert [found.level for found in of("trl", config)] == ["ok"]


def test_an_attention_that_the_model_would_refuse_is_an_error_and_mended(
    configure: Configure, samples: Path
) -> None:
    with pytest.raises(ValueError, match="is not supported"):
        AutoModelForCausalLM.from_pretrained(samples / "demo-model", attn_implementation="sdpaa")
    config = configure(samples / "demo-model", attn_implementation="sdpaa")
    (unknown,) = of("trl", config)
    assert "did you mean sdpa?" in unknown.message
    assert unknown.mend is not None
    config.apply(unknown.mend.changes)
    assert [found.level for found in of("trl", config)] == ["ok"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"attn_implementation": "flash_attention_2"}, "attn_implementation needs flash_attention_2, which"),
        ({"load_in_4bit": True}, "load_in_4bit needs bitsandbytes, which is not installed here: pip install"),
        ({"optim": "paged_adamw_8bit"}, "optim needs bitsandbytes, which is not installed here: pip install"),
    ],
)
def test_packages_that_are_not_there_are_named_and_done_without_by_the_mend(
    configure: Configure,
    samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.setattr("lorabench.training.config.later.find_spec", lambda _: None)
    config = configure(samples / "demo-model", **fields)
    (missing,) = of("trl", config)
    assert (missing.level, missing.message[: len(says)]) == ("error", says)
    assert missing.mend is not None
    config.apply(missing.mend.changes)
    assert [found.level for found in of("trl", config)] == ["ok"]


def test_an_optimizer_that_is_misspelt_gets_the_one_that_was_meant(
    configure: Configure, samples: Path
) -> None:
    with pytest.raises(ValueError, match="is not a valid OptimizerNames"):
        TrainingArguments(output_dir="x", optim="adamw_torc")
    config = configure(samples / "demo-model", optim="adamw_torc")
    (wrong,) = of("trl", config)
    assert wrong.message == "optim is adamw_torc, which TRL does not know; did you mean adamw_torch?"
    assert wrong.mend is not None
    config.apply(wrong.mend.changes)
    assert [found.level for found in of("trl", config)] == ["ok"]


def test_leftovers_of_deepspeed_are_an_error_where_it_is_not_installed(
    configure: Configure, samples: Path
) -> None:
    if find_spec("deepspeed"):
        pytest.skip("deepspeed is installed")
    config = configure(samples / "demo-model", deepspeed="ds_config.json")
    (error,) = of("trl", config)
    assert error.level == "error"
    assert error.message.startswith("deepspeed needs a package that is not installed")
    assert error.mend is not None
    config.apply(error.mend.changes)
    assert [found.level for found in of("trl", config)] == ["ok"]
