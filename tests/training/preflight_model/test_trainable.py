"""The trainable share: the very numbers that PEFT prints, found without weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.meta_model import MetaModel, described
from lorabench.training.preflight.trainable import trainable_findings
from tests.training.preflight_model.architectures import (
    GEMMA_3_1B,
    LLAMA_2_7B,
    LLAMA_2_70B,
    MIXTRAL_8X7B,
    QWEN_2_5_05B,
    QWEN_3_5_4B,
    SEVEN,
    model_folder,
)
from tests.training.preflight_model.conftest import Configure

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "DoRA": {"use_dora": True},
    "rsLoRA and ranks by pattern": {
        "use_rslora": True,
        "rank_pattern": {"o_proj": 16, r"layers\.0\.self_attn\.q_proj": 4},
    },
    "modules_to_save of a tied embedding": {"lora_modules_to_save": ["embed_tokens"]},
    "an adapted embedding": {"lora_target_modules": ["embed_tokens", "q_proj"]},
    "two layers": {"layers_to_transform": [1, 3]},
    "biases": {"bias": "all"},
    "PiSSA": {"init_lora_weights": "pissa"},
    "all-linear": {"lora_target_modules": ["all-linear"]},
}


def looked_at(config: RunConfig) -> MetaModel:
    model = described(config)
    assert model is not None
    assert not model.problem
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("where", ["demo", "stories"])
def test_the_counts_are_those_of_peft_on_real_weights(
    configure: Configure, samples: Path, request: pytest.FixtureRequest, variant: str, where: str
) -> None:
    if where == "demo":
        folder = samples / "demo-model"
    else:
        folder = request.getfixturevalue("shared_data") / "models" / "stories260K"
    config = configure(folder, **VARIANTS[variant])
    real = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config.peft_config())
    model = looked_at(config)
    assert (model.trainable, model.total) == real.get_nb_trainable_parameters()


def test_the_sentence_has_the_figures_of_print_trainable_parameters(
    configure: Configure, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(samples / "demo-model")
    base = AutoModelForCausalLM.from_pretrained(samples / "demo-model")
    get_peft_model(base, config.peft_config()).print_trainable_parameters()
    printed = capsys.readouterr().out
    (found,) = trainable_findings(config)
    model = looked_at(config)
    assert (
        found.message
        == f"{model.trainable:,} of {model.total:,} = {100 * model.trainable / model.total:.4f} %."
    )
    for figure in (f"{model.trainable:,}", f"{model.total:,}", f"{100 * model.trainable / model.total:.4f}"):
        assert figure in printed


# Base parameters as the models' cards tell them; LoRA's by hand: r · Σ (in + out) over the targets.
@pytest.mark.parametrize(
    ("architecture", "base", "lora"),
    [
        (LLAMA_2_7B, 6_738_415_616, 8 * 32 * (4 * 8192 + 3 * (4096 + 11008))),
        (LLAMA_2_70B, 68_976_648_192, 8 * 80 * (2 * 16384 + 2 * 9216 + 3 * (8192 + 28672))),
        (QWEN_2_5_05B, 494_032_768, 8 * 24 * (2 * 1792 + 2 * (896 + 128) + 3 * (896 + 4864))),
        (MIXTRAL_8X7B, 46_702_792_704, 8 * 32 * (2 * 8192 + 2 * (4096 + 1024))),
        (GEMMA_3_1B, 999_885_952, 8 * 26 * (2 * (1152 + 1024) + 2 * (1152 + 256) + 3 * (1152 + 6912))),
    ],
    ids=["Llama-2-7B", "Llama-2-70B", "Qwen2.5-0.5B", "Mixtral-8x7B", "Gemma-3-1B"],
)
def test_published_models_have_their_published_sizes(
    configure: Configure, architecture: dict[str, Any], base: int, lora: int
) -> None:
    model = looked_at(configure(architecture))
    assert model.total - model.trainable == base
    assert model.trainable == lora


def test_rank_8_on_seven_modules_of_a_4b_model_is_about_a_quarter_of_a_percent(configure: Configure) -> None:
    (found,) = trainable_findings(configure(QWEN_3_5_4B))
    assert found.level == "ok"
    assert found.message == "10,616,832 of 4,216,368,128 = 0.2518 %."


def test_without_lora_everything_would_be_trained_and_that_is_an_error(
    configure: Configure, samples: Path
) -> None:
    config = configure(samples / "demo-model", use_peft=False)
    (found,) = trainable_findings(config)
    assert found.level == "error"
    assert found.message.startswith("All 1,312,384 parameters would be trained")
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert [finding.level for finding in trainable_findings(config)] == ["ok"]


def test_modules_to_save_that_outweigh_the_adapter_are_said(configure: Configure) -> None:
    (found,) = trainable_findings(configure(QWEN_2_5_05B, lora_modules_to_save=["lm_head"]))
    assert found.message.endswith("most of it modules_to_save.")
    assert "modules_to_save 136,134,656" in found.detail


def test_a_70b_model_takes_little_time_and_memory(tmp_path: Path) -> None:
    """In a process of its own, since memory is that of the whole process; a noisy machine gets 10 seconds."""
    folder = model_folder(tmp_path / "model", LLAMA_2_70B)
    program = f"""
import resource, time
import transformers.models.llama.modeling_llama, trl
from peft import LoraConfig
from transformers import AutoConfig
from lorabench.training.preflight.meta_model import meta_model
config = AutoConfig.from_pretrained({str(folder)!r})
before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
model = meta_model(config, LoraConfig(r=8, target_modules={SEVEN!r}, task_type="CAUSAL_LM"))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(model.trainable, time.perf_counter() - begin, after - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    trainable, seconds, kilobytes = done.stdout.split()
    assert int(trainable) == 103_546_880
    assert float(seconds) < 10
    assert int(kilobytes) * (1 if sys.platform == "linux" else 1 / 1024) < 500_000
