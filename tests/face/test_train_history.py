"""How screen 3 reads a run's history: long ones in parts, and nothing taken for what it is not meanwhile."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from lorabench.runs.lock import take_lock
from lorabench.screens.train_watch import CHUNK_BYTES, RunWatch
from tests.face.watching import begin, log


def test_spectra_of_very_many_modules_are_read_though_their_line_is_longer_than_a_part(new: Path) -> None:
    modules = {
        f"model.layers.{layer}.mlp.experts.{expert}.down_proj": {"norm": 1.0, "sigma1": 0.5, "alpha": 3.25}
        for layer in range(60)
        for expert in range(40)
    }
    with begin(new) as writer:
        writer.write("spectra", step=1, modules=modules)
        log(writer, 2)
    assert (new / "events.jsonl").stat().st_size > 1.5 * CHUNK_BYTES
    watch_ = RunWatch(new)
    while watch_.read():
        pass
    assert watch_.record.spectra is not None
    assert len(watch_.record.spectra["modules"]) == 2_400
    assert watch_.record.step == 2


def test_a_run_is_no_training_while_the_history_of_its_end_is_still_to_be_read(new: Path) -> None:
    with begin(new, steps=2_000) as writer:
        writer.write("finished", step=2_000)
    assert (new / "events.jsonl").stat().st_size > CHUNK_BYTES
    watch_ = RunWatch(new)
    assert watch_.read()
    assert (watch_.record.state, watch_.activity, watch_.going) == ("training", "waiting", False)
    while watch_.read():
        pass
    assert (watch_.activity, watch_.going) == ("finished", False)


def test_a_run_that_is_trained_is_a_training_while_its_history_is_still_to_be_read(new: Path) -> None:
    with take_lock(new):
        begin(new, steps=2_000).close()
        watch_ = RunWatch(new)
        assert watch_.read()
        assert (watch_.activity, watch_.going) == ("training", True)


def test_a_long_history_is_read_in_parts(new: Path) -> None:
    begin(new, total=40_000).close()
    lines = [json.dumps({"time": n, "kind": "log", "step": n, "loss": 1.0 + 1 / n}) for n in range(1, 40_001)]
    with (new / "events.jsonl").open("a") as file:
        file.write("\n".join(lines) + "\n")
    watch_ = RunWatch(new)
    seen = [watch_.events]
    while watch_.read():
        seen.append(watch_.events)
    parts = [after - before for before, after in pairwise(seen)]
    assert max(parts) * 50 < CHUNK_BYTES  # a line has 50 bytes or more
    assert len(parts) == -(-(new / "events.jsonl").stat().st_size // CHUNK_BYTES)
    assert watch_.record.step == 40_000
    assert len(watch_.record.series["loss"]) <= 4096
