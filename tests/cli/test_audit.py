"""`lorabench audit` as a shell sees it."""

import json
import re

import pytest

from lorabench.training.config.presets import new_run
from lorabench.training.config.run_config import RunConfig

FEW = {"lora_target_modules": ["q_proj", "v_proj"], "lora_r": 4}


@pytest.fixture
def run_file(tmp_path):
    path = new_run(tmp_path / "run")
    config = RunConfig.load(path)
    config.apply(FEW)
    config.save()
    return path


def test_an_audit_says_that_all_is_well_and_leaves_the_folder_alone(lorabench, run_file):
    done = lorabench("audit", run_file, "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert "Under SGD with lr 1 all 24 tensors that moved did so by −lr·gradient: c = 1" in done.stdout
    assert "Under AdamW the factors below explain every update of 12 tensors." in done.stdout
    assert "clipping" in done.stdout
    assert "ΔW moved by" in done.stdout
    assert "✔: rounding the new weights explains it" in " ".join(done.stdout.split())
    assert re.search(r"\d\.\de-0\d ✔", done.stdout)
    assert "✘" not in done.stdout
    assert re.search(r"preconditioning +[\d.]+ +AdamW divides each number of the gradient by", done.stdout)
    assert "\x1b" not in done.stdout
    assert [path.name for path in run_file.parent.iterdir()] == ["run.yaml"]


def test_json_is_alone_on_standard_output_and_holds_every_tensor(lorabench, run_file):
    done = lorabench("audit", run_file, "--steps", "1", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["probe"]) == len(report["own"]) == 1
    assert len(report["own"][0]["tensors"]) == 24
    assert {finding["level"] for finding in report["findings"]} <= {"ok", "advice"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model_name_or_path": "/nowhere/model"}, "/nowhere/model"),
        ({"dataset_name": "/nowhere/data"}, "/nowhere/data"),
        ({"lora_target_modules": ["nothing"]}, "nothing"),
    ],
)
def test_a_run_that_cannot_be_built_is_a_sentence_and_ends_with_2(lorabench, run_file, values, sentence):
    config = RunConfig.load(run_file)
    config.apply(values)
    config.save()
    done = lorabench("audit", run_file)
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr[done.stderr.index("lorabench: ") :]
    assert sentence in told
    assert "Traceback" not in done.stderr
