"""What the tests on a GPU share: a model of a size that it notices, and trainings that are measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.terminal import environment
from tests.training.trainer.runs import SAMPLES, rows_file, run_file

Measured = dict[str, Any]
Trained = Callable[..., Measured]
ROWS = 64


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, whatever marks were asked for."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of TinyLlama's shape, 1.1 billion random weights in bf16, with the demo model's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        pad_token_id=0,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(SAMPLES / "demo-model" / name, folder)
    return folder


@pytest.fixture(scope="session")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of far more than a thousand tokens each."""
    told = (SAMPLES / "demo-data" / "train.jsonl").read_text(encoding="utf-8")
    rows = [{"text": told[number * 50 :][:20_000]} for number in range(ROWS)]
    return rows_file(tmp_path_factory.mktemp("rows"), rows)


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """Train a run.yaml as `run_file` writes it in a process of its own; return what `child` measured."""

    def run(*, place: str = "process", share: float = 1.0, **changes: Any) -> Measured:
        path, found = run_file(tmp_path, **changes), tmp_path / "found.json"
        words = [sys.executable, "-m", "tests.gpu.child", path, found, place, str(share)]
        done = subprocess.run(
            [str(word) for word in words],
            cwd=REPOSITORY,
            env=environment(CUBLAS_WORKSPACE_CONFIG=":4096:8"),
            capture_output=True,
            text=True,
        )
        assert found.is_file(), done.stderr[-3000:]
        measured: Measured = json.loads(found.read_text())
        return measured

    return run
