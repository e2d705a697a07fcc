"""Regular expressions that PEFT would try for years: refused within seconds, wherever they stand."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from lorabench.runs.events import EVENTS_FILE
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.coverage import coverage_findings
from lorabench.training.preflight.run import preflight
from lorabench.training.trainer.build import BuildError, build
from lorabench.training.trainer.train import train
from tests.fuzz.bounds import LONG
from tests.training.preflight_model.conftest import Configure

ENDLESS = "(.+)+X"
OWN = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""
PLACES: dict[str, dict[str, Any]] = {
    "lora_target_modules": {"lora_target_modules": [ENDLESS]},
    "exclude_modules": {"exclude_modules": ENDLESS},
    "rank_pattern": {"rank_pattern": {ENDLESS: 4}},
    "alpha_pattern": {"alpha_pattern": {"q_proj": 2, ENDLESS: 4}},
    "lora_modules_to_save": {"lora_modules_to_save": [ENDLESS]},
    "layers_pattern": {"layers_to_transform": [0], "layers_pattern": [ENDLESS]},
}


@pytest.mark.parametrize("field", PLACES if LONG else ["exclude_modules", "rank_pattern"])
def test_an_endless_expression_is_an_error_that_names_it(
    configure: Configure, samples: Path, field: str
) -> None:
    begun = time.monotonic()
    (found,) = coverage_findings(configure(samples / "demo-model", **PLACES[field]))
    assert time.monotonic() - begun < 20  # the second, and building the model on a busy machine
    assert found.level == "error"
    assert found.message == f"{field}: {ENDLESS} takes longer than 2 s to match with this model's modules."


def test_one_that_is_no_expression_is_named_too(configure: Configure, samples: Path) -> None:
    (found,) = coverage_findings(configure(samples / "demo-model", rank_pattern={"(": 4}))
    assert found.message.startswith("rank_pattern: ( is no regular expression that can be matched (")


def test_one_that_asks_for_memory_is_refused(configure: Configure, samples: Path) -> None:
    nested = "(" * 20_000 + ")" * 20_000
    (found,) = coverage_findings(configure(samples / "demo-model", exclude_modules=nested))
    assert found.message.startswith("exclude_modules: (((")


def test_names_of_hundreds_of_modules_are_no_expressions_to_be_tried(
    configure: Configure, samples: Path
) -> None:
    ranks = {f"layers.{layer}.self_attn.q_proj": 4 for layer in range(600)}
    found = coverage_findings(configure(samples / "demo-model", rank_pattern=ranks))
    assert not [finding for finding in found if finding.level == "error"]


def test_the_whole_preflight_waits_for_it_once(configure: Configure, samples: Path) -> None:
    config = configure(samples / "demo-model", rank_pattern={f"{ENDLESS}once": 4})
    begun = time.monotonic()
    findings = list(preflight(config, advice=True))
    assert [finding.check for finding in findings if "takes longer" in finding.message] == ["coverage"]
    assert time.monotonic() - begun < 60


def test_no_training_begins_not_even_against_the_preflight(
    configure: Configure, samples: Path, tmp_path: Path
) -> None:
    config = configure(
        samples / "demo-model", dataset_name=str(samples / "demo-data"), **PLACES["rank_pattern"]
    )
    with pytest.raises(BuildError, match="takes longer than 2 s"):
        build(config)
    config.save(tmp_path / "run.yaml")
    outcome = train(tmp_path / "run.yaml", override=True)
    assert outcome.state == "failed"
    assert "takes longer than 2 s" in outcome.error
    last = json.loads((tmp_path / "out" / EVENTS_FILE).read_text().splitlines()[-1])
    assert last["kind"] == "failed"
    assert RunConfig.load(tmp_path / "run.yaml").text == config.text


@pytest.mark.parametrize("works", [True, False])
def test_nor_on_a_model_with_code_of_its_own(
    configure: Configure, samples: Path, tmp_path: Path, works: bool
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(samples / "demo-model", folder)
    told = json.loads((folder / "config.json").read_text())
    told |= {"model_type": "own", "architectures": ["OwnModel"]}
    told["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "own.py").write_text(OWN if works else "raise LookupError('elsewhere')\n")
    fields = {"dataset_name": str(samples / "demo-data"), "trust_remote_code": True}
    why = "takes longer than 2 s" if works else "cannot be tried first"
    with pytest.raises(BuildError, match=why):
        build(configure(folder, lora_target_modules=ENDLESS, **fields))
    sane = configure(folder, lora_target_modules=r".*\.(q|v)_proj", **fields)
    if works:
        names = [name for name, _ in build(sane).model.named_parameters()]
        assert sum(name.endswith("q_proj.lora_A.default.weight") for name in names) == 6
