"""`lorabench check`, `new` and `serve-check` as a shell sees them."""

import json

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def checked(lorabench):
    """What `lorabench check` says of a sample's own run."""
    return lorabench("check", "sample_adapters/style-checkpoints-r8/run.yaml", cwd=REPOSITORY)


def test_a_run_that_works_ends_with_0_and_says_what_will_happen(checked):
    assert checked.returncode == 0, checked.stderr
    assert "✔ ok       trainable  43,008 of 1,355,392 = 3.1731 %." in checked.stdout
    assert "240 steps" in checked.stdout
    assert "0 errors" in checked.stdout.splitlines()[-1]
    assert "\x1b" not in checked.stdout


def test_an_error_ends_with_1_and_json_is_alone_on_standard_output(lorabench, tmp_path):
    text = (REPOSITORY / "sample_adapters/style-checkpoints-r8/run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(text.replace("- q_proj", "- q_projj").replace("0.006", "2e-05"))
    done = lorabench("check", tmp_path / "run.yaml", "--advice", "--json", cwd=REPOSITORY)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    errors = [finding for finding in document["findings"] if finding["level"] == "error"]
    assert [error["check"] for error in errors] == ["coverage"]
    assert errors[0]["mend"]["changes"] == {"lora_target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    assert any(finding["check"] == "advice" for finding in document["findings"])


@pytest.mark.parametrize("content", [None, b"\x00\xff"])
def test_what_cannot_be_read_is_a_sentence_and_ends_with_2(lorabench, tmp_path, content):
    path = tmp_path / "run.yaml"
    if content:
        path.write_bytes(content)
    done = lorabench("check", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lorabench: ")
    assert "Traceback" not in done.stderr


def test_yaml_that_is_broken_is_an_error_with_its_line(lorabench, tmp_path):
    (tmp_path / "run.yaml").write_text("lora_r: 8\nlora_alpha: [16\n")
    done = lorabench("check", tmp_path / "run.yaml")
    assert done.returncode == 2
    assert "Line 3" in done.stderr or "Line 2" in done.stderr


def test_new_writes_a_run_and_says_how_to_go_on(lorabench, tmp_path):
    done = lorabench("new", tmp_path / "mine", "--preset", "all-linear")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "mine" / "run.yaml"
    assert f"lorabench check {path}" in done.stdout
    assert "lora_r: 64" in path.read_text()
    again = lorabench("new", tmp_path / "mine")
    assert again.returncode == 2
    assert "there already" in again.stderr


def test_new_lists_the_fields_and_wants_a_folder_otherwise(lorabench):
    assert "lora_target_modules" in lorabench("new", "--fields").stdout
    assert lorabench("new").returncode == 2


def test_serve_check_says_the_command_and_ends_with_0(lorabench, samples):
    done = lorabench("serve-check", samples / "style-checkpoints-r8")
    assert done.returncode == 0
    assert "--max-lora-rank 8" in done.stdout


def test_every_problem_of_a_broken_file_is_listed(lorabench, tmp_path):
    (tmp_path / "run.yaml").write_text("lora_r: 8\nlora_r: 9\nseed: 1\nseed: 2\n")
    done = lorabench("check", tmp_path / "run.yaml")
    assert done.returncode == 2
    assert "lora_r" in done.stderr
    assert "seed" in done.stderr
