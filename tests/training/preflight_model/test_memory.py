"""Memory: the band holds the peak of real trainings, and each part is what its formula says."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from trl.trainer.utils import get_quantization_config

from lorabench.runs.device import Device
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.activations import Pass, by_formula, dimensions
from lorabench.training.preflight.memory import (
    Setting,
    estimate,
    memory_findings,
    setting_of,
    total,
    weight_bytes,
)
from lorabench.training.preflight.meta_model import MetaModel, meta_model
from lorabench.training.preflight.model_source import source_of
from lorabench.training.preflight.trace import trace
from lorabench.training.trainer.build import parse
from tests.training.preflight_model.architectures import (
    FALCON,
    GPT_2,
    LLAMA_2_7B,
    MAMBA,
    MIXTRAL_8X7B,
    QWEN_2_5_05B,
)
from tests.training.preflight_model.conftest import Configure
from tests.training.preflight_model.trained import LiveBytes, rows, trainer_of

GB = 1_000_000_000


def looked_at(config: RunConfig) -> tuple[Any, Any, MetaModel]:
    source, lora = source_of(config), config.peft_config()
    return source.config, lora, meta_model(source.config, lora)


def on_a_gpu(**changes: Any) -> Setting:
    fields: dict[str, Any] = {
        "batch": 4,
        "length": 1024,
        "packed": False,
        "dtype": "bfloat16",
        "autocast": "bfloat16",
        "bits": 16,
        "nested": False,
        "checkpointing": True,
        "attention": None,
        "adapter": 4,
        "optimizer": 8.0,
        "paged": False,
        "gpu": True,
    }
    return Setting(**(fields | changes))


@pytest.mark.parametrize(
    ("batch", "checkpointing", "dora"),
    [(4, False, False), (32, False, False), (4, True, False), (32, True, False), (32, False, True)],
)
def test_the_band_holds_the_peak_of_a_real_training(
    configure: Configure, samples: Path, batch: int, checkpointing: bool, dora: bool
) -> None:
    config = configure(
        samples / "demo-model",
        per_device_train_batch_size=batch,
        gradient_checkpointing=checkpointing,
        use_dora=dora,
        lora_dropout=0.05,
        max_length=256,
        max_steps=2,
        save_strategy="no",
    )
    trainer = trainer_of(config, rows(samples, batch))
    longest = max(len(row["input_ids"]) for row in trainer.train_dataset)
    with LiveBytes([*trainer.model.parameters(), *trainer.model.buffers()]) as live:
        trainer.train()
    model = looked_at(config)
    parts = dict(estimate(*model, setting_of(config, model[0], longest)))
    for known in ("weights", "adapter", "overhead"):  # there before, or no tensors
        del parts[known]
    low, high = total(parts)
    assert low <= live.peak <= high
    assert high < 1.4 * low


class Held:
    """Stands for a storage that autograd saved, for as long as it does."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage = storage


@pytest.mark.parametrize(
    ("dtype", "autocast", "fields"),
    [
        ("float32", None, {}),
        ("float32", "bfloat16", {}),
        ("float32", None, {"use_dora": True}),
        ("bfloat16", None, {"lora_modules_to_save": ["o_proj"], "lora_target_modules": ["q_proj", "v_proj"]}),
    ],
    ids=str,
)
def test_what_the_trace_counts_is_what_autograd_keeps(
    configure: Configure, samples: Path, dtype: str, autocast: str | None, fields: dict[str, Any]
) -> None:
    """The same pass on real tensors: every storage that is kept, counted once, parameters not at all."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    config = configure(samples / "demo-model", lora_dropout=0.05, **fields)
    run = Pass(3, 50, dtype, autocast, gpu=False)
    traced = trace(*looked_at(config), run)
    base = AutoModelForCausalLM.from_pretrained(samples / "demo-model", dtype=getattr(torch, dtype))
    decoder = get_peft_model(base, config.peft_config()).train().base_model.model.model
    parameters = {parameter.untyped_storage()._cdata for parameter in decoder.parameters()}
    saved: list[weakref.ref[Held]] = []

    def save(tensor: torch.Tensor) -> Held:
        held = Held(tensor.untyped_storage())
        saved.append(weakref.ref(held))
        return held

    mask = torch.ones(3, 50)
    mask[0, 40:] = 0  # a batch of unequal rows: without padding there would be no mask, and a little less
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=autocast is not None)
    with bf16, torch.autograd.graph.saved_tensors_hooks(save, lambda _: pytest.fail("nothing goes back")):
        result = decoder(torch.ones(3, 50, dtype=torch.long), attention_mask=mask, use_cache=False)
    held = [each.storage for ref in saved if (each := ref()) is not None]
    sizes = {storage._cdata: storage.nbytes() for storage in held if storage._cdata not in parameters}
    assert result[0].requires_grad
    assert traced is not None
    assert traced.kept(False) == pytest.approx(sum(sizes.values()), rel=0.01)


def test_a_trace_leaves_nothing_behind(configure: Configure, samples: Path) -> None:
    def fakes() -> int:
        gc.collect()
        return sum(isinstance(each, FakeTensor) for each in gc.get_objects())

    looked = looked_at(configure(samples / "demo-model", use_dora=True))
    before = fakes()
    assert trace(*looked, Pass(3, 50, "float32", None)) is not None
    assert fakes() == before


@pytest.mark.parametrize(
    ("architecture", "modules", "by_formula"),
    [
        (GPT_2, ["c_attn", "c_fc"], False),
        (FALCON, ["query_key_value", "dense"], False),
        (MAMBA, ["in_proj", "x_proj"], True),
    ],
    ids=["gpt2", "falcon", "mamba"],
)
def test_an_architecture_of_another_make_is_weighed_too(
    configure: Configure, architecture: dict[str, Any], modules: list[str], by_formula: bool
) -> None:
    config = configure(architecture, lora_target_modules=modules)
    (finding,) = memory_findings(config, device=Device("a GPU", 0, 80 * GB))
    assert finding.level == "ok"
    assert ("activations by a formula" in finding.detail) is by_formula


def test_weights_take_their_width_and_quantized_ones_theirs(configure: Configure) -> None:
    _, _, model = looked_at(configure(LLAMA_2_7B))
    embeddings_and_norms = 2 * 32000 * 4096 + 65 * 4096
    linear = 6_738_415_616 - embeddings_and_norms
    assert weight_bytes(model, on_a_gpu()) == 2 * 6_738_415_616
    assert weight_bytes(model, on_a_gpu(dtype="float32")) == 4 * 6_738_415_616
    assert weight_bytes(model, on_a_gpu(bits=8)) == linear + 2 * embeddings_and_norms
    assert weight_bytes(model, on_a_gpu(bits=4)) == 0.5625 * linear + 2 * embeddings_and_norms
    assert weight_bytes(model, on_a_gpu(bits=4, nested=True)) == pytest.approx(
        (0.5 + 0.127 / 8) * linear + 2 * embeddings_and_norms
    )


def test_quantized_products_keep_what_their_kernels_do(configure: Configure) -> None:
    """In 4 bits no more than in 16, the adapter being bf16 then; in 8 bits their inputs, once each."""
    model = looked_at(configure(LLAMA_2_7B))

    def kept(**changes: Any) -> float:
        return estimate(*model, on_a_gpu(checkpointing=False, **changes))["activations"][0]

    quantized = {"autocast": None, "adapter": 2}
    assert kept(bits=4, **quantized) == pytest.approx(kept(), rel=0.01)
    # To q, k and v; to gate and up; to down. The input of o is there already: it is attention's output.
    inputs = 2 * 4 * 1024 * (4096 + 4096 + 11008)
    assert kept(bits=8, **quantized) - kept(bits=4, **quantized) == pytest.approx(32 * inputs, rel=0.01)


def test_keys_that_heads_share_may_cost_all_scores_in_float32(configure: Configure) -> None:
    alone, shared = looked_at(configure(LLAMA_2_7B)), looked_at(configure(QWEN_2_5_05B))

    def kept(model: Any, **changes: Any) -> tuple[float, float]:
        return estimate(*model, on_a_gpu(**{"checkpointing": False, "autocast": None} | changes))[
            "activations"
        ]

    low, high = kept(shared, dtype="float32")
    assert high > kept(shared, dtype="float32", attention="eager")[0] > 1.3 * low
    for least, most in (kept(alone, dtype="float32"), kept(shared)):
        assert most < 1.1 * least
    low, high = kept(shared, dtype="float16", flash=False)  # a T4
    assert high > 1.3 * low


def test_a_mixtures_experts_are_not_quantized(configure: Configure) -> None:
    _, _, model = looked_at(configure(MIXTRAL_8X7B))
    assert weight_bytes(model, on_a_gpu(bits=4)) > 2 * 45_097_156_608


def test_adapter_gradients_and_optimizer_follow_the_trained_parameters(configure: Configure) -> None:
    config, lora, model = looked_at(configure(LLAMA_2_7B))
    parts = estimate(config, lora, model, on_a_gpu())
    assert parts["adapter"] == parts["gradients"] == (4 * 19_988_480, 4 * 19_988_480)
    assert parts["optimizer"] == (8 * 19_988_480, 8 * 19_988_480)
    assert estimate(config, lora, model, on_a_gpu(paged=True))["optimizer"] == (0, 8 * 19_988_480)


def test_activations_grow_with_the_batch_and_shrink_with_checkpointing(configure: Configure) -> None:
    config, lora, model = looked_at(configure(LLAMA_2_7B))

    def activations(**changes: Any) -> float:
        return estimate(config, lora, model, on_a_gpu(**changes))["activations"][0]

    assert activations(batch=8) == pytest.approx(2 * activations(), rel=0.01)
    assert activations(checkpointing=False) > 10 * activations()
    assert activations(checkpointing=False, attention="eager") > 1.5 * activations(checkpointing=False)
    assert activations(checkpointing=False, dtype="float32") > 1.4 * activations(checkpointing=False)


def test_the_formula_for_what_cannot_be_traced_is_of_the_traced_size(configure: Configure) -> None:
    config, lora, model = looked_at(configure(LLAMA_2_7B, lora_dropout=0))
    run = on_a_gpu().run
    traced = trace(config, lora, model, run)
    least, most = by_formula(**dimensions(config), run=run)
    assert traced is not None
    assert least.kept(False) < traced.kept(False) < 1.2 * most.kept(False)


def test_a_model_that_cannot_be_traced_is_said_to_be_estimated(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabench.training.preflight.trace.trace", lambda *_: None)
    (found,) = memory_findings(configure(QWEN_2_5_05B, max_length=777), device=Device("none", 0, GB))
    assert "activations by a formula" in found.detail


def test_a_small_device_is_told_with_the_mends_that_help(configure: Configure) -> None:
    config = configure(QWEN_2_5_05B, gradient_checkpointing=False, per_device_train_batch_size=16)
    (wrong,) = memory_findings(config, device=Device("a small one", GB, 5 * GB))
    assert wrong.level == "error"
    assert "of 4.0 GB free: it does not fit; checkpointing would save" in wrong.message
    assert wrong.mend is not None
    assert wrong.mend.changes == {"gradient_checkpointing": True}
    (large,) = memory_findings(config, device=Device("a large one", 0, 1000 * GB))
    assert (large.level, large.mend) == ("ok", None)
    for part in ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead"):
        assert f"{part}: " in large.detail
    (unknown,) = memory_findings(config, device=Device("CPU", None, None))
    assert unknown.level == "ok"
    assert " free" not in unknown.message


def test_a_mend_keeps_the_effective_batch(configure: Configure) -> None:
    config = configure(QWEN_2_5_05B, per_device_train_batch_size=6, gradient_accumulation_steps=2)
    (found,) = memory_findings(config, device=Device("none", 0, GB))
    assert "batch 3 × 4 would save" in found.detail


def test_rows_shorter_than_max_length_take_less(configure: Configure) -> None:
    config = configure(QWEN_2_5_05B, max_length=2048)
    model = source_of(config).config
    assert setting_of(config, model).length == 2048
    assert setting_of(config, model, 300).length == 300
    assert setting_of(config, model, 9000).length == 2048


@pytest.mark.parametrize(
    ("capability", "dtype", "width"), [((7, 5), torch.float16, 4), ((8, 0), torch.bfloat16, 2)]
)
def test_four_bits_are_proposed_with_a_dtype_that_trl_and_the_gpu_take(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    dtype: torch.dtype,
    width: int,
) -> None:
    monkeypatch.setattr("lorabench.training.preflight.memory.read_capability", lambda: capability)
    config = configure(LLAMA_2_7B, use_cpu=False, precision="auto", dtype="auto", gradient_checkpointing=True)
    (found,) = memory_findings(config, device=Device("a small GPU", 0, GB))
    assert found.mend is not None
    assert found.mend.label == "4 bits"
    config.apply(found.mend.changes)
    assert config.problems == []
    quantization = get_quantization_config(parse(config)[2])
    assert quantization is not None
    assert quantization.bnb_4bit_compute_dtype == dtype
    assert setting_of(config, source_of(config).config).adapter == width
