"""Base models: from a folder, from the cache, and said in a sentence where there is none."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoConfig

from lorabench.training.preflight.coverage import coverage_findings
from lorabench.training.preflight.memory import memory_findings
from lorabench.training.preflight.meta_model import model_findings
from lorabench.training.preflight.model_source import ModelNotFound, find_model
from lorabench.training.preflight.run import preflight
from lorabench.training.preflight.trainable import trainable_findings
from tests.training.preflight_model.architectures import QWEN_2_5_05B, model_folder
from tests.training.preflight_model.conftest import Configure


def test_a_folder_is_said_with_its_architecture(configure: Configure, samples: Path) -> None:
    (found,) = model_findings(configure(samples / "demo-model"))
    assert found.level == "ok"
    assert found.message.endswith("demo-model in its folder: LlamaForCausalLM, 6 layers.")


def test_the_cache_is_read_as_the_hub_lays_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    model_folder(repository / "snapshots" / "abc123", QWEN_2_5_05B)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = find_model("some/model")
    assert (found.place, found.config.num_hidden_layers) == ("cache", 24)


def test_offline_and_not_cached_is_a_sentence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    begin = time.perf_counter()
    with pytest.raises(ModelNotFound, match="not in the cache; HF_HUB_OFFLINE is set"):
        find_model("nobody/nothing")
    assert time.perf_counter() - begin < 1


def test_a_hub_that_does_not_answer_is_given_up_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full takes no connection and sends no refusal, as a lost network."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.perf_counter()
        with pytest.raises(ModelNotFound, match="the hub cannot be reached"):
            find_model("nobody/nothing")
        assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/such/folder", "There is no folder"),
        ("adapter", "holds an adapter"),
        ("unknown", "cannot be used"),
    ],
)
def test_what_is_no_model_is_said(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    model_folder(tmp_path / "unknown", {"model_type": "of_the_future"})
    with pytest.raises(ModelNotFound, match=words):
        find_model(str(tmp_path / name) if (tmp_path / name).exists() else name)


def test_without_a_model_one_check_says_so_and_the_others_are_silent(configure: Configure) -> None:
    config = configure(Path("nobody/nothing"))
    assert [finding.level for finding in model_findings(config)] == ["error"]
    assert coverage_findings(config) == trainable_findings(config) == memory_findings(config) == []


@pytest.mark.parametrize("trust", [True, False])
def test_code_that_comes_with_a_model_is_run_by_no_check(
    configure: Configure, samples: Path, tmp_path: Path, trust: bool
) -> None:
    folder = model_folder(tmp_path / "own", {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import x\n")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Config", null]}}')
    config = configure(folder, trust_remote_code=trust, dataset_name=str(samples / "demo-data"))
    findings = list(preflight(config, advice=True))
    (model,) = [finding for finding in findings if finding.check == "model"]
    assert (model.level, model.message) == (
        "error",
        f"{folder} comes with Python code of its own, which is not run to check a configuration.",
    )
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ImportError):  # transformers itself would run it
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()


def test_a_tokenizer_s_own_code_is_run_by_no_check(
    configure: Configure, samples: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(samples / "demo-model", folder)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = configure(folder, trust_remote_code=True, dataset_name=str(samples / "demo-data"))
    for _ in preflight(config):
        pass
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("num_hidden_layers", 10**9), ("num_local_experts", 10**7), ("n_layers", 10**400)]
)
def test_a_model_of_absurd_size_is_not_built(configure: Configure, field: str, value: int) -> None:
    (found,) = model_findings(configure(QWEN_2_5_05B | {field: value}))
    assert found.level == "error"
    assert f"cannot be used: {field} is " in found.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", "x"),
        ("num_attention_heads", 0),
        ("dtype", "nope"),
        ("hidden_act", "unheard-of"),
        ("rope_parameters", "x"),
        ("architectures", [3]),
        ("architectures", "LlamaForCausalLM"),
        ("vocab_size", -5),
        ("hidden_size", None),
    ],
)
def test_a_bad_field_is_said_of_the_model_and_no_check_fails_for_it(
    configure: Configure, samples: Path, tmp_path: Path, field: str, value: object
) -> None:
    told = json.loads((samples / "demo-model" / "config.json").read_text()) | {field: value}
    found = list(preflight(configure(model_folder(tmp_path / "bad", told)), advice=True))
    (model,) = [finding for finding in found if finding.check == "model"]
    assert model.level == "error"
    assert model.message.startswith(f"The config.json of {tmp_path / 'bad'} cannot be used: ")
    assert not [finding for finding in found if "This check failed" in finding.message]
