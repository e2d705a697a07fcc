"""`lorabench train` with real trainings of the demo model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lorabench.adapters.open import open_adapter
from lorabench.runs.events import EVENTS_FILE
from lorabench.spectra.moment import spectra_over
from tests.conftest import REPOSITORY
from tests.terminal import Terminal

CONFIG = """
model_name_or_path: {samples}/demo-model
dataset_name: {samples}/demo-data
assistant_only_loss: true
use_peft: true
lora_r: 4
lora_target_modules: [q_proj, v_proj]
per_device_train_batch_size: 2
max_length: 128
max_steps: 60
learning_rate: 0.002
logging_steps: 1
save_steps: 500
bf16: false
gradient_checkpointing: false
report_to: none
output_dir: {folder}
"""


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of 60 short steps."""
    (tmp_path / "run.yaml").write_text(CONFIG.format(samples=REPOSITORY / "sample_adapters", folder=tmp_path))
    return tmp_path


def events(run: Path, kind: str) -> list[dict[str, object]]:
    """The run's events of one kind."""
    lines = map(json.loads, (run / EVENTS_FILE).read_text().splitlines())
    return [event for event in lines if event["kind"] == kind]


def test_ctrl_c_saves_a_checkpoint_from_which_resume_goes_on_to_the_end(run, lorabench):
    terminal = Terminal("train", run)
    terminal.wait_until(lambda: re.search(r"training ━.* \d+/60  loss", terminal.shown), "a step")
    terminal.type("\x03")
    assert terminal.close() == 0, terminal.shown
    (stopped,) = events(run, "stopped")
    step = stopped["step"]
    assert 0 < step < 60
    assert (run / f"checkpoint-{step}" / "trainer_state.json").is_file()
    done = lorabench("train", run, "--resume")
    assert done.returncode == 0, done.stdout
    assert f"from step {step} on, 60 steps" in done.stdout
    assert "Finished 60 steps" in done.stdout
    assert [event["step"] for event in events(run, "log")] == list(range(1, 61))
    assert len(open_adapter(run).layers) == 12
    told = {event["step"]: event["modules"] for event in events(run, "spectra")}
    saved = {event["step"]: event["modules"] for event in spectra_over(run)}
    assert saved.keys() == {step, 60}
    for same in told.keys() & saved.keys():
        assert told[same] == saved[same]


def test_two_processes_train_one_run_and_the_first_writes(run, lorabench):
    done = lorabench("train", run, "--num-processes", "2")
    assert done.returncode == 0, done.stdout + (run / "output.log").read_text()
    (started,) = events(run, "started")
    assert started["processes"] == 2
    assert [event["step"] for event in events(run, "log")] == list(range(1, 61))
    assert len(open_adapter(run).layers) == 12
