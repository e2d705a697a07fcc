"""What the bench looks like while a run of its folder trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from lorabench.app import LorabenchApp
from lorabench.runs.lock import Owner
from tests.face.conftest import write_adapter
from tests.face.looking import bench_rows, detail, settled, until

TRAINER = Owner(host="node-1", pid=4242, since=1.7e9, boot="b", alive=True)


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LorabenchApp:
    """A folder with a run at step 312 of 750, its checkpoint, an adapter, and a run to come."""
    run = tmp_path / "outputs" / "style-r8"
    write_adapter(run / "checkpoint-300", layers=1)
    write_adapter(tmp_path / "outputs" / "style-r64", layers=1, r=32)
    (run / "run.yaml").write_text("lora_r: 16\nlora_target_modules: [q_proj, v_proj, w_proj, up_proj]\n")
    (tmp_path / "outputs" / "longer").mkdir()
    (tmp_path / "outputs" / "longer" / "run.yaml").write_text("lora_r: 8\n")
    state = {"global_step": 300, "max_steps": 750, "log_history": [{"step": 300, "loss": 1.25}]}
    (run / "checkpoint-300" / "trainer_state.json").write_text(json.dumps(state))
    begun = {"model": "tiny/base", "trainable": 43_008, "total": 1_355_392}
    events = [
        {"time": 0.0, "kind": "started", "total_steps": 750, **begun},
        *({"time": 2.0 * at, "kind": "log", "step": at, "loss": 3 - at / 200} for at in range(2, 313, 2)),
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    monkeypatch.setattr(
        "lorabench.runs.history.read_owner", lambda folder: TRAINER if folder.name == run.name else None
    )
    monkeypatch.chdir(tmp_path)
    app = LorabenchApp(Path("outputs"))
    app.animation_level = "none"
    return app


async def on_the_run(pilot: Pilot[None]) -> None:
    await settled(pilot)
    names = [row[0] for row in bench_rows(pilot.app)]
    await pilot.press(*["down"] * names.index("style-r8"))
    await until(pilot, lambda: "training, step 312 of 750" in detail(pilot.app))
    # The last fifty losses lie 98 steps and 196 seconds apart, and 438 steps are left.
    assert "14:36" in detail(pilot.app)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_looks(training: LorabenchApp, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    assert snap_compare(training, terminal_size=size, run_before=on_the_run)
