"""RunConfig: values by name, changes that keep the rest, files that are never half written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorabench.training.config.field import ConfigError
from lorabench.training.config.run_config import RunConfig

TEXT = """\
# mine
use_peft: true
lora_r: 8  # rank
unknown_to_all: 1
env:
  CUDA_VISIBLE_DEVICES: 0  # the first
  LORABENCH:
    lora:
      rank_pattern: {q_proj: 16}
output_dir: out
"""


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT)
    return path


def test_a_field_is_the_files_or_trls_default(path):
    config = RunConfig.load(path)
    assert config.get("lora_r") == 8
    assert config.get("lora_alpha") == 32
    assert config.get("learning_rate") == 2e-5
    assert config.get("rank_pattern") == {"q_proj": 16}
    assert config.get("bias") == "none"
    assert config.lora_extra == {"rank_pattern": {"q_proj": 16}}
    assert config.folder == Path.cwd() / "out"


def test_a_wrong_value_is_marked_and_the_default_stands_in():
    config = RunConfig("lora_r: many\n")
    assert config.get("lora_r") == 16
    assert [(problem.name, problem.line) for problem in config.problems] == [("lora_r", 1)]


def test_a_sample_run_has_no_problem(samples):
    config = RunConfig.load(samples / "style-checkpoints-r8" / "run.yaml")
    assert config.problems == []
    assert config.get("lora_target_modules") == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert config.get("per_device_train_batch_size") == 16
    assert config.precision == "fp32"


def test_saving_without_a_change_writes_the_same_bytes(path):
    RunConfig.load(path).save()
    assert path.read_text() == TEXT


def test_a_save_keeps_comments_order_and_unknown_keys(path):
    config = RunConfig.load(path)
    config.set("lora_r", 32)
    assert config.changed
    config.save()
    assert not config.changed
    assert path.read_text() == TEXT.replace("lora_r: 8", "lora_r: 32")


def test_peft_fields_are_set_by_name_under_our_key(path):
    config = RunConfig.load(path)
    config.apply({"alpha_pattern": {"q_proj": 4}, "rank_pattern": None, "layers_to_transform": [0]})
    assert config.lora_extra == {"alpha_pattern": {"q_proj": 4}, "layers_to_transform": [0]}
    assert config.values["env"]["CUDA_VISIBLE_DEVICES"] == 0
    config.apply({"alpha_pattern": None, "layers_to_transform": None})
    assert config.values["env"] == {"CUDA_VISIBLE_DEVICES": 0}
    assert config.problems == []


def test_none_removes_a_field_unless_null_says_something_else():
    config = RunConfig("max_steps: 4\nmax_length: 512\nsave_total_limit: 3\nfoo: 1\n")
    config.apply({"save_total_limit": None, "max_length": None, "foo": None})
    assert config.values == {"max_steps": 4, "max_length": None}
    assert config.get("max_length") is None


def test_a_lora_field_among_trls_is_moved_by_its_mend():
    config = RunConfig("lora_r: 8\nrank_pattern: {q_proj: 16}\nlayer_replication: [[0, 2]]\n")
    for problem in config.problems:
        assert "belongs under env: LORABENCH:" in problem.message
        config.apply(problem.mend.changes)
    assert config.problems == []
    assert config.lora_extra == {"rank_pattern": {"q_proj": 16}, "layer_replication": [[0, 2]]}
    assert set(config.values) == {"lora_r", "env"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('env: {"A=B": 1}\n', 'env: "A=B" is no name of an environment variable.'),
        ('env: {"": 1}\n', 'env: "" is no name of an environment variable.'),
        ('env: {"A\\0": 1}\n', 'env: "A␀" is no name of an environment variable.'),
        ('env: {A: "b\\0"}\n', 'env: "A" holds ␀, which no variable may hold.'),
        ('env: {A: "\\ud800"}\n', 'env: "A" holds \\u{d800}, which no variable may hold.'),
        (
            'output_dir: "a\\0b"\n',
            "output_dir holds ␀, which no text here may hold, and must be text, or null.",
        ),
        (
            'lora_target_modules: [q, "\\0"]\n',
            "lora_target_modules holds ␀, which no text here may hold, and must be a list of names, or null.",
        ),
    ],
)
def test_what_no_system_could_be_given_is_said(text: str, said: str) -> None:
    config = RunConfig(text)
    assert [problem.message for problem in config.problems] == [said]
    assert config.folder.name == "trainer_output"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bf16: true\nfp16: true\n", "fp16"),
        ("load_in_4bit: true\nload_in_8bit: true\n", "load_in_8bit"),
        ("env: 3\n", "env"),
        ("env: {LORABENCH: auto}\n", "env"),
        ("env: {LORABENCH: {1: 2, a: 3}}\n", "env"),
        ("env: {LORABENCH: {rank_pattern: {q: 1}}}\n", "env"),
        ("env: {LORABENCH: {precision: fp8}}\n", "precision"),
        ("env: {LORABENCH: {lora: {bias: some}}}\n", "bias"),
    ],
)
def test_what_cannot_stand_together_or_there_is_said(text, name):
    problems = RunConfig(text).problems
    assert [problem.name for problem in problems] == [name]
    for mend in filter(None, (problem.mend for problem in problems)):
        config = RunConfig(text)
        config.apply(mend.changes)
        assert config.problems == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("env: 3\n", "env:, which holds 3"),
        ("env: [A]\n", "env:, which holds \\['A'\\]"),
        ("env: {LORABENCH: auto}\n", 'env: LORABENCH:, which holds "auto"'),
        ("env: {LORABENCH: {lora: 8}}\n", "env: LORABENCH: lora:, which holds 8"),
    ],
)
def test_what_stands_where_a_mapping_should_is_not_written_over(text, where):
    config = RunConfig(text)
    with pytest.raises(ConfigError, match=f"bias belongs under {where}."):
        config.set("bias", "all")
    assert config.text == text
    config.set("lora_r", 4)
    assert config.text == f"{text}lora_r: 4\n"


def test_a_field_is_unset_wherever_it_stands(path):
    config = RunConfig.load(path)
    for name in ("rank_pattern", "lora_r", "output_dir"):
        config.unset(name)
        assert not config.has(name)
    assert config.get("lora_r") == 16
    assert config.values["env"] == {"CUDA_VISIBLE_DEVICES": 0}
    config.apply({"max_length": None, "activation_checkpointing": False, "precision": "fp16"})
    for name in ("max_length", "gradient_checkpointing", "precision"):
        config.unset(name)
    assert config.get("max_length") == 1024
    assert config.get("gradient_checkpointing") is True
    assert set(config.values) == {"use_peft", "unknown_to_all", "env"}
    config.unset("seed")
    assert not config.problems


def test_checkpointing_has_two_names_and_one_value():
    assert RunConfig("lora_r: 8\n").get("gradient_checkpointing") is True
    assert RunConfig("gradient_checkpointing: false\n").get("gradient_checkpointing") is False
    config = RunConfig("activation_checkpointing: false\n")
    assert config.get("gradient_checkpointing") is False
    config.set("gradient_checkpointing", True)
    assert config.values == {"activation_checkpointing": True}
    assert config.get("gradient_checkpointing") is True


def test_a_broken_file_opens_with_its_errors_and_is_not_saved(path):
    path.write_text("lora_r: 8\nlora_r: 16\n")
    config = RunConfig.load(path)
    assert config.broken
    assert config.text == "lora_r: 8\nlora_r: 16\n"
    assert "stands twice" in config.problems[0].message
    for attempt in (lambda: config.set("seed", 1), config.save):
        with pytest.raises(ConfigError):
            attempt()
    config.replace_text("lora_r: 16\n")
    config.save()
    assert path.read_text() == "lora_r: 16\n"


def test_what_another_program_wrote_meanwhile_is_not_overwritten(path):
    config = RunConfig.load(path)
    path.write_text("lora_r: 64\n")
    config.set("lora_r", 4)
    with pytest.raises(ConfigError, match="changed by another program"):
        config.save()
    assert path.read_text() == "lora_r: 64\n"
    config.save(path.with_name("mine.yaml"))
    assert RunConfig.load(path.with_name("mine.yaml")).get("lora_r") == 4


def test_a_save_keeps_permissions_and_follows_a_link(path, tmp_path):
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    config = RunConfig.load(link)
    config.set("lora_r", 2)
    config.save()
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert RunConfig.load(path).get("lora_r") == 2


def test_a_save_that_fails_leaves_the_old_file_and_no_other(path, monkeypatch):
    config = RunConfig.load(path)
    config.set("lora_r", 2)

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        config.save()
    assert path.read_text() == TEXT
    assert [file.name for file in path.parent.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"lora_r: 8\xff\n", "no text"),
        (b"lora_r: 8\n\0", "NUL"),
        (b"# " + b"x" * 100_000, "larger than 100.0 kB"),
    ],
)
def test_what_is_no_text_is_refused_with_a_sentence(path, content, words):
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        RunConfig.load(path)


def test_a_missing_file_and_a_folder_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        RunConfig.load(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        RunConfig.load(tmp_path)


def test_reading_checking_and_changing_needs_no_torch():
    code = (
        "import sys\n"
        "from lorabench.training.config.run_config import RunConfig\n"
        "config = RunConfig('lora_r: 0\\nmax_seq_length: 3\\nuse_peft: true\\n')\n"
        "assert len(config.problems) == 2\n"
        "config.set('lora_r', 8)\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("capability", "dtype"), [(None, "bfloat16"), ((7, 0), "float16"), ((9, 0), "bfloat16")]
)
def test_four_bits_and_dtype_auto_clash_and_are_mended_for_the_gpu(monkeypatch, capability, dtype):
    monkeypatch.setattr("lorabench.training.config.problems.read_capability", lambda: capability)
    config = RunConfig("dtype: auto\nload_in_4bit: true\n")
    (problem,) = config.problems
    assert (problem.name, problem.line) == ("dtype", 1)
    assert problem.mend is not None
    config.apply(problem.mend.changes)
    assert config.values["dtype"] == dtype
    assert config.problems == []
    assert RunConfig("dtype: auto\nload_in_8bit: true\n").problems == []
