"""`new_run` writes a file that a person can read, and that trains."""

import json

import pytest

from lorabench.training.config.field import ConfigError
from lorabench.training.config.presets import PRESETS, new_run, preset_named
from lorabench.training.config.run_config import RunConfig


def test_the_style_preset_is_the_issues(tmp_path):
    config = RunConfig.load(new_run(tmp_path, preset_named("style"), model="org/base"))
    assert [config.get(name) for name in ("lora_r", "lora_alpha", "lora_dropout")] == [8, 16, 0.05]
    seven = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert config.get("lora_target_modules") == seven
    assert (config.get("per_device_train_batch_size"), config.get("num_train_epochs")) == (4, 3)
    assert (config.get("use_peft"), config.precision, config.get("dtype")) == (True, "auto", "auto")
    assert config.get("model_name_or_path") == "org/base"


def test_qlora_is_in_four_bits_and_all_linear_has_a_high_rank(tmp_path):
    qlora = RunConfig.load(new_run(tmp_path / "q", preset_named("qlora"), model="org/base"))
    assert (qlora.get("load_in_4bit"), qlora.get("bnb_4bit_quant_type"), qlora.get("lora_r")) == (
        True,
        "nf4",
        8,
    )
    high = RunConfig.load(new_run(tmp_path / "h", preset_named("all-linear"), model="org/base"))
    assert (high.get("lora_r"), high.get("lora_alpha")) == (64, 128)
    assert high.get("lora_target_modules") == "all-linear"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_file_is_commented_group_by_group_and_has_no_problem(preset, tmp_path):
    path = new_run(tmp_path / "a" / "b", preset)
    lines = path.read_text().splitlines()
    groups = ["# model", "# data", "# LoRA", "# optimisation", "# saving"]
    assert [line for line in lines if line in groups] == groups
    config = RunConfig.load(path)
    assert config.problems == []
    assert config.folder == tmp_path / "a" / "b"
    for name in config.values.keys() - {"env"}:
        line = config.lines[name] - 1
        assert "  # " in lines[line] or lines[line - 1].startswith("# "), name


def test_without_more_words_it_trains_the_demo(tmp_path, samples):
    config = RunConfig.load(new_run(tmp_path))
    assert config.get("model_name_or_path") == str(samples / "demo-model")
    assert config.get("dataset_name") == str(samples / "demo-data")
    assert config.get("assistant_only_loss") is True


def test_a_file_of_rows_is_named_so_that_trl_finds_it(tmp_path):
    rows = tmp_path / "my rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    config = RunConfig.load(new_run(tmp_path / "run", data=str(rows)))
    assert config.get("datasets") == [{"path": "json", "data_files": str(rows)}]
    assert config.get("dataset_name") is None
    assert config.get("assistant_only_loss") is False
    assert config.problems == []


def test_a_run_that_is_there_stays(tmp_path):
    (tmp_path / "run.yaml").write_text("lora_r: 3\n")
    with pytest.raises(ConfigError, match="is there already"):
        new_run(tmp_path)
    assert (tmp_path / "run.yaml").read_text() == "lora_r: 3\n"


@pytest.mark.parametrize("place", ["./nothing", "/no/where", "rows.jsonl"])
def test_what_is_not_there_is_said_and_nothing_is_written(place, tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        new_run(tmp_path / "run", data=place)
    assert not (tmp_path / "run").exists()


def test_a_file_of_another_kind_a_file_for_a_folder_and_an_unknown_preset_are_sentences(tmp_path):
    (tmp_path / "rows.docx").touch()
    with pytest.raises(ConfigError, match="of no kind"):
        new_run(tmp_path / "run", data=str(tmp_path / "rows.docx"))
    with pytest.raises(ConfigError, match="cannot be made"):
        new_run(tmp_path / "rows.docx" / "run")
    with pytest.raises(ConfigError, match='no preset "lora"'):
        preset_named("lora")
