"""`lorabench train` with real trainings of the demo model."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import psutil
import pytest

from lorabench.adapters.open import open_adapter
from lorabench.cli.watch import end_at_once
from lorabench.runs.events import EVENTS_FILE
from lorabench.runs.lock import read_owner
from lorabench.spectra.moment import spectra_over
from lorabench.training.trainer.launch import launch
from tests.cli.test_train import wait_until
from tests.conftest import REPOSITORY
from tests.terminal import PATIENCE, Terminal

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
    for sign in ("preflight", " parameters ("):  # each with its own patience: importing takes long
        terminal.wait_for(sign)
    terminal.wait_until(lambda: re.search(r"training ━.* \d+/60  loss", terminal.shown), "a step")
    terminal.type("\x03")
    assert terminal.close() == 0, terminal.shown
    (stopped,) = events(run, "stopped")
    step = stopped["step"]
    assert 0 < step < 60
    assert (run / f"checkpoint-{step}" / "trainer_state.json").is_file()
    assert "--resume" in terminal.shown
    done = lorabench("train", run, "--resume")
    assert done.returncode == 0, done.stdout
    assert f"from step {step} on, 60 steps" in done.stdout
    assert "Finished 60 steps" in done.stdout
    assert [event["step"] for event in events(run, "log")] == list(range(1, 61))
    assert len(open_adapter(run).layers) == 12
    assert [event["step"] for event in spectra_over(run)] == [step, 60]
    begun, ended = events(run, "started")[-1]["time"], events(run, "finished")[0]["time"]
    looks = [event["seconds"] for event in events(run, "spectra") if event["time"] > begun]
    assert sum(looks) < 0.02 * (ended - begun)


def test_q_in_the_workbench_stops_a_process_of_its_own_that_trains_elsewhere(tmp_path):
    run, folder = tmp_path / "out", tmp_path / "configured"
    folder.mkdir()
    text = CONFIG.format(samples=REPOSITORY / "sample_adapters", folder=run).replace("60", "5000")
    (folder / "run.yaml").write_text(text)
    terminal = Terminal(folder.parent, "--own-process", size=(120, 36))
    terminal.wait_for("configured")
    terminal.type("t")
    wait_until(lambda: (run / EVENTS_FILE).exists() and events(run, "log"), 4 * PATIENCE)
    terminal.type("q")
    terminal.wait_for("out is training")
    terminal.type("\r")
    assert terminal.close() == 0
    wait_until(lambda: events(run, "stopped"), PATIENCE)


def test_ending_at_once_ends_all_processes_of_accelerate(run):
    process = launch(run, processes=2)
    wait_until(lambda: (run / EVENTS_FILE).exists() and events(run, "log"), 4 * PATIENCE)
    everyone = psutil.Process(process.pid).children(recursive=True)
    assert len([each for each in everyone if "lorabench.training.trainer" in each.cmdline()]) == 2
    end_at_once(process)
    assert process.returncode == -signal.SIGKILL
    assert not psutil.wait_procs(everyone, timeout=PATIENCE)[1]
    assert events(run, "started")[0]["processes"] == 2
    assert read_owner(run).alive is False
