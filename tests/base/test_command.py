"""`lorabench base` as a user runs it: table, JSON, CSV, exit codes, and no torch."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.base.made import weight, write_adapter, write_base
from tests.terminal import COMMAND, environment

Run = Callable[..., subprocess.CompletedProcess[str]]
MODULES = {f"model.layers.{n}.self_attn.q_proj": (48, 32) for n in range(5)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", {f"{m}.weight": weight(48, 32, n) for n, m in enumerate(MODULES)})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `lorabench base` with these words, its output piped."""

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "base", *map(str, words)]
        kept = environment(LORABENCH_CACHE=str(tmp_path / "cache"), HF_HUB_OFFLINE="1")
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=kept, timeout=120)

    return call


def test_the_demo_adapter_has_its_table_and_its_correlations(samples: Path, run: Run) -> None:
    done = run(samples / "style-clean-r16")
    assert (done.returncode, done.stderr) == (0, "")
    assert "model.layers.0.mlp.down_proj" in done.stdout
    assert re.search(r"0\.mlp\.down_proj +128×384 +11\.07 \[3\.71, 17\.14\]", done.stdout)
    assert re.search(r"both decided, 11 +Pearson \+0\.18 \[-0\.38, 0\.64\]", done.stdout)
    assert re.search(r"all layers, 42 +Pearson \+0\.28 \[0\.02, 0\.50\]", done.stdout)
    assert run(samples / "style-clean-r16").stdout == done.stdout


def test_a_cache_that_cannot_be_written_costs_the_next_time_and_is_told(
    tmp_path: Path, base: Path, run: Run
) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    done = run(write_adapter(tmp_path / "adapter", MODULES, base))
    assert done.returncode == 0
    assert "not kept for the next time" in done.stderr
    assert "Not a directory" in done.stderr or "File exists" in done.stderr


def test_json_and_csv_hold_every_number(tmp_path: Path, base: Path, run: Run) -> None:
    modules = {**MODULES, "model.layers.9.self_attn.q_proj": (48, 32)}
    adapter = write_adapter(tmp_path / "adapter", modules, base)
    told = json.loads(run(adapter, "--json").stdout)
    assert told["base"] == str(base)
    assert told["correlation"]["over_all"]["layers"] == 5
    assert [problem["module"] for problem in told["problems"]] == ["model.layers.9.self_attn.q_proj"]
    rows = list(csv.DictReader(io.StringIO(run(adapter, "--csv").stdout)))
    assert len(rows) == 6
    for row, layer in zip(rows, told["layers"], strict=True):
        assert set(row) == set(layer)
        for name, value in layer.items():
            assert row[name] == ("" if value is None else str(value))
    first = told["layers"][0]
    singular_values = np.linalg.svd(weight(48, 32, 0).astype(float), compute_uv=False)
    assert first["base_norm"] == pytest.approx(np.linalg.norm(singular_values))
    assert first["base_stable_rank"] == pytest.approx((singular_values**2).sum() / singular_values[0] ** 2)
    assert told["layers"][5]["base_alpha"] is None


def test_a_scaling_that_is_not_known_is_told_above_the_table_and_in_json(
    tmp_path: Path, base: Path, run: Run
) -> None:
    adapter = write_adapter(tmp_path / "adapter", MODULES, base, r=0)
    done = run(adapter)
    assert done.returncode == 0
    told = done.stdout.index("r is 0, which is no use. The scaling is unknown and counts as 1.")
    assert told < done.stdout.index("‖ΔW‖/‖W‖")
    assert done.stdout.count("norms are those of B·A") == 1
    findings = json.loads(run(adapter, "--json").stdout)["findings"]
    assert findings[0]["level"] == "warning"
    assert findings[0]["message"].startswith("r is 0")
    assert [finding["module"] for finding in findings] == ["", *MODULES]
    sound = write_adapter(tmp_path / "sound", MODULES, base)
    assert json.loads(run(sound, "--json").stdout)["findings"] == []


def test_a_weight_under_another_prefix_is_noted(tmp_path: Path, run: Run) -> None:
    module = "layers.0.self_attn.q_proj"
    base = write_base(tmp_path / "base", {f"vision_tower.{module}.weight": weight(48, 32)})
    adapter = write_adapter(tmp_path / "adapter", {f"model.{module}": (48, 32)}, base)
    (layer,) = json.loads(run(adapter, "--json").stdout)["layers"]
    assert layer["note"] == "prefix vision_tower, the adapter's none"
    shown = run(adapter).stdout
    assert "Base tensors that are named otherwise than the adapter's modules" in shown
    assert re.search(r"1 layer +prefix vision_tower, the adapter's none", shown)


def test_the_output_goes_to_a_file_whose_ending_chooses_the_format(
    tmp_path: Path, base: Path, run: Run
) -> None:
    adapter = write_adapter(tmp_path / "adapter", MODULES, base)
    assert run(adapter, "-o", "out.json").stdout == ""
    assert len(json.loads((tmp_path / "out.json").read_text())["layers"]) == 5


def test_without_w_plus_delta_the_base_alone_is_computed(tmp_path: Path, base: Path, run: Run) -> None:
    adapter = write_adapter(tmp_path / "adapter", MODULES, base)
    (first, *_) = json.loads(run(adapter, "--no-merged", "--json").stdout)["layers"]
    assert first["merged_alpha"] is first["intruders"] is first["place"] is None
    assert first["base_alpha"] > 1
    assert 0 < first["share"] < 1


def test_a_base_that_is_not_there_is_a_sentence_and_2(tmp_path: Path, run: Run) -> None:
    adapter = write_adapter(tmp_path / "adapter", MODULES, "org/base")
    done = run(adapter)
    assert done.returncode == 2
    assert done.stderr == (
        "lorabench: The base model org/base is no folder and not in the cache; HF_HUB_OFFLINE is set.\n"
        "Name its folder: --base in a command, b on the Base screen.\n"
    )
    done = run(adapter, "--base", "nowhere/at/all")
    assert done.returncode == 2
    assert "The base model nowhere/at/all is not there." in done.stderr


def test_another_base_is_named_by_an_option(tmp_path: Path, base: Path, run: Run) -> None:
    adapter = write_adapter(tmp_path / "adapter", MODULES, "org/base")
    assert run(adapter, "--base", base).returncode == 0
    assert run(adapter, "--base", "base").returncode == 0


def test_names_in_the_base_cannot_command_a_terminal(tmp_path: Path, run: Run) -> None:
    module = "layers.0.\x1b[31mq_proj"
    base = write_base(tmp_path / "base", {f"{module}.weight": weight(9, 12)})
    done = run(write_adapter(tmp_path / "adapter", {module: (16, 12)}, base))
    assert "\x1b" not in done.stdout
    assert "␛[31mq_proj.weight is 9×12 where ΔW is 16×12" in done.stdout


def test_no_torch_is_loaded(tmp_path: Path, base: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", MODULES, base)
    code = (
        "import sys; from lorabench.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'peft', 'textual'} & set(sys.modules); sys.exit(code)"
    )
    kept = environment(LORABENCH_CACHE=str(tmp_path / "cache"))
    subprocess.run([sys.executable, "-c", code, "base", str(adapter)], check=True, env=kept, timeout=60)


def test_ctrl_c_shows_and_keeps_what_is_done(tmp_path: Path) -> None:
    modules = {f"layers.{n}.q_proj": (900, 900) for n in range(40)}
    base = write_base(tmp_path / "base", {f"{m}.weight": weight(900, 900, n) for n, m in enumerate(modules)})
    adapter = write_adapter(tmp_path / "adapter", modules, base)
    kept = environment(LORABENCH_CACHE=str(tmp_path / "cache"), TERM="xterm-256color")
    parent, child = pty.openpty()
    command = [*COMMAND, "base", str(adapter)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=child, env=kept, text=True)
    os.close(child)
    shown = b""
    while b"layers.1.q_proj" not in shown:  # the bar names the layer that is done
        shown += os.read(parent, 4096)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    os.close(parent)
    assert process.returncode == 130
    assert "%" in shown.decode(errors="replace")
    assert "layers.0.q_proj" in output
    entries = list((tmp_path / "cache").rglob("*.merged"))
    assert 2 <= len(entries) < 40
