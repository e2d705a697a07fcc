"""Serving: what vLLM needs and refuses, for configurations and for finished adapters."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabench.adapters.open import open_adapter
from lorabench.training.preflight.serving import max_lora_rank, serve_findings, serving_findings
from tests.base.made import write_adapter
from tests.training.preflight_model.conftest import Configure


@pytest.mark.parametrize(
    ("ranks", "needed"),
    [([1], 1), ([2], 8), ([8], 8), ([9, 4], 16), ([64, 65], 128), ([257], 320), ([512], 512), ([513], None)],
)
def test_the_smallest_allowed_rank_holds_all(ranks: list[int], needed: int | None) -> None:
    assert max_lora_rank(ranks) == needed


def test_a_configuration_gets_its_rank_and_the_command_to_copy(configure: Configure, tmp_path: Path) -> None:
    config = configure(tmp_path / "no such", lora_r=12, model_name_or_path="org/a model")
    (found,) = serving_findings(config)
    assert (found.level, found.message) == ("ok", "vLLM serves it, with --max-lora-rank 16.")
    assert shlex.split(found.detail) == [
        "vllm",
        "serve",
        "org/a model",
        "--enable-lora",
        "--max-lora-rank",
        "16",
        "--lora-modules",
        f"out={config.folder}",
    ]


def test_a_rank_pattern_counts_and_its_scaling_is_told(configure: Configure, samples: Path) -> None:
    config = configure(samples / "demo-model", rank_pattern={"o_proj": 40})
    scaled, needed = serving_findings(config)
    assert scaled.level == "warning"
    assert scaled.message == "vLLM scales all modules by 2, and so wrongly: o_proj (trained with 0.4)."
    assert needed.message == "vLLM serves it, with --max-lora-rank 64."
    config.apply({"alpha_pattern": {"o_proj": 80}})
    assert [finding.level for finding in serving_findings(config)] == ["ok"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"lora_modules_to_save": ["lm_head"]}, "modules_to_save (lm_head)"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "began as olora"),
    ],
)
def test_what_vllm_refuses_is_a_warning_whose_mend_mends_it(
    configure: Configure, samples: Path, fields: dict[str, Any], word: str
) -> None:
    config = configure(samples / "demo-model", **fields)
    (found,) = serving_findings(config)
    assert found.level == "warning"
    assert word in found.message
    assert "Without that vLLM needs --max-lora-rank 8." in found.detail.splitlines()
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert [finding.level for finding in serving_findings(config)] == ["ok"]


@pytest.mark.parametrize("begin", [True, False, "gaussian", "eva", "orthogonal"])
def test_initialisations_that_leave_the_base_alone_are_fine(
    configure: Configure, samples: Path, begin: bool | str
) -> None:
    config = configure(samples / "demo-model", init_lora_weights=begin)
    assert [finding.level for finding in serving_findings(config)] == ["ok"]


def test_a_rank_beyond_all_is_told(configure: Configure, samples: Path) -> None:
    (found,) = serving_findings(configure(samples / "demo-model", lora_r=600))
    assert found.message == "r = 600 is more than vLLM serves: its largest --max-lora-rank is 512."


def test_finished_adapters_are_served_or_refused(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples.parent)
    (fine,) = serve_findings(open_adapter(samples / "style-clean-r16"))
    assert fine.message == "vLLM serves it, with --max-lora-rank 16."
    words = shlex.split(fine.detail)
    assert words[2] == str(samples / "demo-model")
    assert words[-1] == f"style-clean-r16={samples / 'style-clean-r16'}"
    (dora,) = serve_findings(open_adapter(samples / "dora-r16"))
    assert (dora.level, dora.message) == ("error", "vLLM refuses DoRA.")
    needed, way_out = dora.detail.splitlines()
    assert needed == "Without that vLLM needs --max-lora-rank 16."
    assert "merge_and_unload" in way_out
    scaled, needed = serve_findings(open_adapter(samples / "rslora-rank-pattern"))
    assert "o_proj (trained with 1.41421)" in scaled.message
    assert needed.message == "vLLM serves it, with --max-lora-rank 64."


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"r": 0}, "r is 0 in adapter_config.json: vLLM divides lora_alpha by r."),
        ({"r": "16"}, 'r is "16" in adapter_config.json: vLLM divides lora_alpha by r.'),
        ({"r": None}, "r is null in adapter_config.json: vLLM divides lora_alpha by r."),
        ({"lora_alpha": "32"}, 'lora_alpha is "32" in adapter_config.json: vLLM divides lora_alpha by r.'),
        ({"r": 4}, "The configuration says r = 4, the tensors have r = 8."),
        ({"rank_pattern": {"q_proj": 4}}, "The configuration says r = 4, the tensors have r = 8."),
    ],
)
def test_a_rank_or_alpha_that_vllm_cannot_scale_by_is_an_error(
    tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    modules = {f"model.layers.{n}.self_attn.q_proj": (48, 32) for n in range(3)}
    adapter = write_adapter(tmp_path / "adapter", modules, "org/base", **changed)
    (refused, *others) = serve_findings(open_adapter(adapter))
    assert refused.level == "error"
    assert refused.message.endswith(sentence)
    assert all("vLLM serves it" not in finding.message for finding in others)
    served = write_adapter(tmp_path / "served", modules, "org/base", rank_pattern={"q_proj": 8}, r=8)
    (fine,) = serve_findings(open_adapter(served))
    assert fine.message == "vLLM serves it, with --max-lora-rank 8."


def test_an_adapter_of_another_format_or_without_its_base_is_told(samples: Path) -> None:
    adapter = open_adapter(samples / "style-clean-r16")
    (foreign,) = serve_findings(replace(adapter, format="kohya"))
    assert foreign.level == "error"
    nameless = {name: value for name, value in adapter.config.items() if "base_model" not in name}
    warning, needed = serve_findings(replace(adapter, config=nameless))
    assert warning.level == "warning"
    assert " BASE_MODEL " in needed.detail


def test_the_command_says_it_without_torch(samples: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lorabench.cli.serve_check import serve_check; "
        "code = serve_check(Path(sys.argv[1]), json=sys.argv[2] == '1'); "
        "assert not {'torch', 'peft', 'transformers', 'trl'} & sys.modules.keys(); sys.exit(code)"
    )

    def say(name: str, json_too: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, str(samples / name), json_too]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    fine = say("style-clean-r16", "0")
    assert fine.returncode == 0
    assert "vllm serve" in fine.stdout.splitlines()[-1]
    refused = say("dora-r16", "1")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["findings"][0]["level"] == "error"
