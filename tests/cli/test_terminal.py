"""The commands on a real terminal: a pty of a given width, and what an emulator of one shows."""

import pytest

from tests.terminal import Terminal


def on_terminal(*words, columns=80, **env):
    """Run `lorabench` on a pty; return exit status, the bytes painted, and the lines that one sees."""
    terminal = Terminal(*words, size=(columns, 200), **env)
    status = terminal.close()
    return status, terminal.painted, terminal.lines


@pytest.mark.parametrize("columns", [40, 80, 130, 200])
def test_the_table_fits_the_terminal_and_says_what_it_left_out(adapter, columns):
    status, _, lines = on_terminal("analyze", adapter, columns=columns)
    assert status == 0
    titles = next(line for line in lines if "module" in line)
    start = lines.index(titles)
    assert all("q_proj" in line for line in lines[start + 1 : start + 5])
    assert "verdict" in titles or columns == 40
    assert ("stable rank" in titles) is (columns >= 130)
    assert any(line.startswith("No room for") for line in lines) is (columns < 130)


def test_names_are_shortened_to_fit_and_the_shared_start_is_told(adapter):
    _, _, lines = on_terminal("analyze", adapter, columns=80)
    assert any("…1.self_attn.q_proj" in line or "…1.q_proj" in line for line in lines)
    assert any(line.startswith("… stands for model.layers.") for line in lines)


def test_verdicts_are_coloured_but_never_by_colour_alone(adapter):
    _, painted, lines = on_terminal("analyze", adapter)
    assert b"\x1b[31mdead" in painted
    assert any(line.endswith("dead") for line in lines)


def test_no_color_is_honoured(adapter):
    for words in (("analyze", adapter, "--plot"), ("describe", adapter)):
        _, painted, _ = on_terminal(*words, NO_COLOR="1")
        assert b"\x1b[3" not in painted
        assert b"\x1b[9" not in painted


def test_plots_are_as_wide_as_the_terminal(adapter):
    _, _, lines = on_terminal("analyze", adapter, "--plot", columns=100)
    frames = [line for line in lines if line.lstrip().startswith("┌")]
    assert len(frames) >= 3
    assert {len(line) for line in frames} == {100}


def test_a_file_written_from_a_terminal_is_plain_and_whole(adapter, tmp_path):
    target = tmp_path / "report.txt"
    assert on_terminal("analyze", adapter, "--plot", "-o", target)[0] == 0
    text = target.read_text()
    assert "\x1b" not in text
    assert text.count("model.layers.") >= 4
    assert "…" not in text.split("\n\n")[1]


def test_describe_shows_a_terminal_the_first_other_tensors_and_a_pipe_all(tmp_path, lorabench):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    from tests.spectra.made import random_pair, write_adapter

    folder = write_adapter(tmp_path, {"0.q_proj": random_pair(8, 8, 2)})
    tensors = load_file(folder / "adapter_model.safetensors")
    extra = {f"base_model.model.classifier.part{n}.weight": np.zeros((3, 5), np.float32) for n in range(30)}
    save_file(tensors | extra, folder / "adapter_model.safetensors")
    _, _, lines = on_terminal("describe", folder)
    assert any(line.startswith("30 other tensors, 1.8 kB") for line in lines)
    assert sum("3×5" in line for line in lines) == 12
    assert any("and 18 more" in line for line in lines)
    assert lorabench("describe", folder).stdout.count("3×5") == 30
