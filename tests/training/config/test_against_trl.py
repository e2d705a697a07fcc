"""What is declared here is what TRL and PEFT declare, and what is written here is what their parser reads."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lorabench.training.config.fields import FIELDS, LORA_EXTRA
from lorabench.training.config.old_names import GONE, RENAMED, is_old_name
from lorabench.training.config.presets import PRESETS, new_run
from lorabench.training.config.run_config import RunConfig
from lorabench.training.config.trl_check import trl_problems
from lorabench.training.config.trl_fields import all_fields, owners, read_fields

ELSEWHERE = {"num_processes", "precision"}
"""The one that accelerate declares, and the one that is ours."""


@pytest.fixture(scope="module")
def theirs():
    """Every field as its owner declares it, by owner and name."""
    return {
        (owner, field.name): field for owner, cls in owners().items() for field in read_fields(owner, cls)
    }


def test_names_types_defaults_and_choices_are_theirs(theirs):
    for field in FIELDS.values():
        if field.name in ELSEWHERE:
            continue
        other = theirs[field.owner, field.name]
        assert (set(field.kinds), field.optional) == (set(other.kinds), other.optional), field.name
        assert field.default == other.default, field.name
        assert type(field.default) is type(other.default), field.name
        if field.name == "optim":
            assert field.default in other.choices
        elif field.name == "init_lora_weights":
            assert set(field.choices) - {"pissa_niter_…"} == set(other.choices) - {
                "pissa_niter_[number of iters]"
            }
        else:
            assert set(field.choices) == set(other.choices), field.name
        assert field.items == other.items, field.name


def test_every_field_of_theirs_can_be_found_by_name():
    ours = all_fields()
    for owner, cls in owners().items():
        if owner != "LoraConfig":
            assert {field.name for field in dataclasses.fields(cls) if field.init} <= ours.keys()
    assert len([field for field in ours.values() if field.owner == "SFTConfig"]) == 135
    assert ours["adam_beta2"].default == 0.999
    assert ours["adam_beta2"].help
    assert ours["hub_strategy"].choices == ("end", "every_save", "checkpoint", "all_checkpoints")


def test_the_lora_fields_under_our_key_are_those_that_trl_lacks(theirs):
    assert {name for owner, name in theirs if owner == "LoraConfig"} == LORA_EXTRA


def test_old_names_are_gone_and_new_ones_are_there():
    for name in [*RENAMED, *GONE]:
        assert name not in all_fields(), name
    for name in RENAMED.values():
        assert name in all_fields(), name
    assert is_old_name("max_seq_length")


OLD = """\
max_seq_length: 512
evaluation_strategy: steps
warmup_ratio: 0.1
no_cuda: true
overwrite_output_dir: true
save_safetensors: true
logging_dir: logs
group_by_length: true
lora_rank: 4
target_modules: [q_proj]
"""


def test_an_old_file_is_mended_name_by_name(tmp_path, trl_reads):
    config = RunConfig(OLD)
    problems = config.problems
    assert [problem.line for problem in problems] == list(range(1, 11))
    assert [problem.name for problem in trl_problems(config)] == []
    for problem in problems:
        config.apply(problem.mend.changes)
    assert config.problems == trl_problems(config) == []
    config.save(tmp_path / "run.yaml")
    (_, sft, model, _), left = trl_reads(tmp_path / "run.yaml")
    assert left == []
    assert (sft.max_length, sft.eval_strategy, sft.warmup_steps, sft.use_cpu) == (512, "steps", 0.1, True)
    assert (sft.train_sampling_strategy, model.lora_r) == ("group_by_length", 4)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_trls_parser_reads_every_preset_as_we_do(preset, tmp_path, trl_reads):
    path = new_run(tmp_path / "run", preset)
    config = RunConfig.load(path)
    assert config.problems == trl_problems(config) == []
    (script, sft, model, mixture), left = trl_reads(path)
    assert left == []
    for part in (script, sft, model, mixture):
        for field in dataclasses.fields(part):
            if field.name in config.values.keys() - {"report_to"}:  # whose "none" becomes []
                assert getattr(part, field.name) == config.get(field.name), field.name
    assert os.environ["LORABENCH"] == "{'precision': 'auto'}"


def test_trls_parser_takes_our_key_and_leaves_a_top_level_one_for_accelerate(tmp_path, trl_reads):
    config = RunConfig.of({"bf16": False, "rank_pattern": {"q_proj": 4}, "precision": "auto"})
    config.save(tmp_path / "run.yaml")
    assert trl_reads(tmp_path / "run.yaml")[1] == []
    (tmp_path / "top.yaml").write_text("bf16: false\nrank_pattern: {q_proj: 4}\nnum_machines: 1\n")
    assert trl_reads(tmp_path / "top.yaml")[1] == ["--rank_pattern", "{'q_proj': 4}", "--num_machines", "1"]
    problems = RunConfig.load(tmp_path / "top.yaml")
    assert [problem.name for problem in problems.problems] == ["rank_pattern"]
    assert trl_problems(problems) == []


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("lorra_r: 8\n", "lorra_r", "did you mean lora_r?"),
        ("base: 8\n", "base", "is no field of TRL's, and `trl sft` refuses it."),
        ("rank_patern: {q_proj: 4}\n", "rank_patern",
         "did you mean rank_pattern, which belongs under env: LORABENCH: lora:?"),
        ("zzz: 8\n", "zzz", "is no field of TRL's, and `trl sft` refuses it."),
        ("adam_beta1: x\n", "adam_beta1", "must be a number"),
        ("ddp_backend: carrier-pigeon\n", "ddp_backend", "must be one of nccl"),
        ("load_best_model_at_end: true\neval_strategy: steps\nsave_strategy: epoch\n",
         "load_best_model_at_end",
         "requires the save and eval strategy to match"),
        ("dataloader_prefetch_factor: 2\n", "dataloader_prefetch_factor", "--dataloader_num_workers > 0"),
        ("datasets: [{pth: a}]\n", "datasets", "pth"),
        ("env: {LORABENCH: {lora: {r: 8}}}\n", "r", "no field of PEFT's LoraConfig that can be set here"),
        ("env: {LORABENCH: {lora: {layer_replication: 8}}}\n", "layer_replication", "must be a list"),
        ("use_peft: true\nenv: {LORABENCH: {lora: {layers_to_transform: [1]}}}\nlora_target_modules: q\n",
         "layers_to_transform", "target_modules"),
    ],
)  # fmt: skip
def test_their_dataclasses_have_the_last_word(text, name, words):
    config = RunConfig(text)
    assert config.problems == []
    problems = trl_problems(config)
    assert [problem.name for problem in problems] == [name]
    assert words in problems[0].message
    if problems[0].mend:
        config.apply(problems[0].mend.changes)
        assert trl_problems(config) == []


def test_asking_them_changes_nothing_in_the_configuration():
    config = RunConfig("datasets:\n- path: json\n  data_files: a.jsonl\n")
    assert trl_problems(config) == []
    assert config.values == {"datasets": [{"path": "json", "data_files": "a.jsonl"}]}


def test_peft_gets_what_trl_gives_it_and_the_fields_that_trl_lacks(samples):
    from trl import ModelConfig, get_peft_config

    config = RunConfig.load(samples / "style-checkpoints-r8" / "run.yaml")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    model = ModelConfig(
        use_peft=True, lora_r=8, lora_alpha=16, lora_dropout=0.05, lora_target_modules=targets
    )
    assert config.peft_config() == get_peft_config(model)
    config.apply({"rank_pattern": {"q_proj": 2}, "layers_to_transform": [1], "bias": "lora_only"})
    lora = config.peft_config()
    assert (lora.r, lora.rank_pattern, lora.layers_to_transform) == (8, {"q_proj": 2}, [1])
    assert (lora.bias, lora.target_modules) == ("lora_only", set(targets))
    config.set("use_peft", False)
    assert config.peft_config() is None


def test_trl_sft_trains_a_new_run_as_it_is(tmp_path):
    config = RunConfig.load(new_run(tmp_path / "run"))
    config.apply({"max_steps": 1, "rank_pattern": {"q_proj": 4}})
    config.save()
    trl = shutil.which("trl", path=str(Path(sys.executable).parent))
    assert trl, "trl's command stands beside this Python"
    done = subprocess.run(
        [trl, "sft", "--config", config.path], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "run" / "checkpoint-1").is_dir()
