"""`lorabench train` with a trainer that needs no torch: it says what one says, and does what it is asked.

Run as a command it is `lorabench`, only that trainings are started with this file. LORABENCH_DOUBLE tells the
trainer, in a word, how to behave.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lorabench.runs.events import EventWriter
from lorabench.runs.lock import take_lock
from lorabench.runs.requests import clear_requests, stop_requested

STEPS = 40


def launch(path: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Stand in for `training.trainer.launch.launch`."""
    command = [sys.executable, __file__, "--train", str(path.parent), json.dumps(options, default=str)]
    with (path.parent / "output.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def train(folder: Path, options: str) -> None:
    """Tell of a training of 40 steps; of one that is to be interrupted, stay at step 10 until it is."""
    manner = os.environ.get("LORABENCH_DOUBLE", "")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if manner == "silent":
        print("something of C said \x1b[31mno", flush=True)  # noqa: T201
        os._exit(3)
    with take_lock(folder), EventWriter(folder) as events:
        events.write("stage", stage="preflight")
        events.write("warning", text=f"started with {options}", source="double")
        if manner == "refused":
            finding = {"check": "coverage", "level": "error", "message": "\x1b[2JNothing matches q_projj."}
            other = {"check": "data", "level": "error", "message": "No rows.", "detail": "Write some."}
            ending = {"reason": "preflight", "error": f"{finding['message']} (and 1 more)"}
            finding["detail"] = ending["hint"] = "Did you mean q_proj?"
            events.write("failed", **ending, findings=[finding, other])
            return
        events.write("started", total_steps=STEPS, trainable=5, total=100, device={"name": "CPU, 2 cores"})
        _step_by_step(folder, events, manner)
        clear_requests(folder)


def _step_by_step(folder: Path, events: EventWriter, manner: str) -> None:
    for step in range(1, STEPS + 1):
        events.write("log", step=step, loss=10 / step, epoch=step / STEPS)
        if manner == "out of memory" and step == 5:
            events.write("failed", step=5, reason="out of memory", error="No room.", hint="Lower max_length.")
            return
        deadline = time.monotonic() + 60  # of a test that failed nothing is to stay behind
        while (
            time.monotonic() < deadline
            and step == 10
            and manner in ("stays", "deaf")
            and not (folder / "go").exists()
        ):
            if manner == "stays" and stop_requested(folder):
                events.write("checkpoint", step=step, path=str(folder / "checkpoint-10"))
                events.write("stopped", reason="asked to stop at step 10", step=step)
                return
            time.sleep(0.02)
    events.write("eval", step=STEPS, eval_loss=0.25)
    events.write("finished", step=STEPS, path=str(folder), train_loss=1.0)


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(Path(sys.argv[2]), sys.argv[3])
        sys.exit(0)
    import lorabench.training.trainer.launch
    from lorabench.__main__ import main

    lorabench.training.trainer.launch.launch = launch
    sys.exit(main())
