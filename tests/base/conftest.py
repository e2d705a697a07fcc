"""A cache of its own for each test, and adapters of the shared base models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorabench.adapters.base_model import open_base
from lorabench.adapters.open import open_adapter
from lorabench.spectra.base_analysis import BaseAnalysis

Compare = Callable[..., BaseAnalysis]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this test's results are kept in."""
    monkeypatch.setenv("LORABENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "base"


@pytest.fixture
def compare() -> Compare:
    """Compare an adapter with its base model, all of it."""

    def run(path: Path, base: Path | None = None) -> BaseAnalysis:
        adapter = open_adapter(path)
        analysis = BaseAnalysis(adapter, open_base(adapter, base))
        analysis.look_up()
        list(analysis.compute())
        return analysis

    return run


@pytest.fixture(scope="session")
def stories_adapter(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA trained for a few steps on stories260K: its linear layers, its embedding and its tied head."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("stories") / "adapter"
    base = shared_data / "models" / "stories260K"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    config = LoraConfig(r=16, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    tokens = torch.randint(0, 512, (4, 64))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.02)
    for _ in range(8):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder
