"""How commands write: progress on a terminal alone, files in one step, tables that fit."""

import os
import pty
import select
from types import SimpleNamespace

import pytest

from lorabench.cli import output
from lorabench.cli.output import Field, Page, with_progress, write_file
from lorabench.errors import LorabenchError


@pytest.fixture
def terminal(monkeypatch):
    """Standard error is a terminal and all work counts as long; gives what reads the terminal."""
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w")
    monkeypatch.setattr(output, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(output, "LONG_WORK", -1)
    monkeypatch.setenv("TERM", "xterm-256color")

    def read():
        print("<end>", file=stream, flush=True)  # a terminal hands over what was written in pieces, and later
        shown = ""
        while "<end>" not in shown:
            assert select.select([ours], [], [], 30)[0]
            shown += os.read(ours, 65536).decode()
        return shown.removesuffix("<end>\r\n")

    yield read
    stream.close()
    os.close(ours)


def test_progress_counts_on_a_terminal_and_leaves_the_cursor_shown(terminal):
    assert list(with_progress(range(5), 5, "analyzing")) == [0, 1, 2, 3, 4]
    shown = terminal()
    assert "analyzing" in shown
    assert "5/5" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_progress_that_is_interrupted_leaves_the_cursor_shown(terminal):
    items = with_progress(range(5), 5, "analyzing")
    assert [next(items), next(items)] == [0, 1]
    items.close()
    shown = terminal()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_short_work_shows_no_progress(terminal, monkeypatch):
    monkeypatch.setattr(output, "LONG_WORK", 1e9)
    assert list(with_progress(range(5), 5, "analyzing")) == [0, 1, 2, 3, 4]
    assert terminal() == ""


def test_a_pipe_gets_no_progress(capsys, monkeypatch):
    monkeypatch.setattr(output, "LONG_WORK", -1)
    assert list(with_progress("abc", 3, "analyzing")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_file_is_replaced_in_one_step_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "report.txt"
    target.write_text("old")
    write_file(target, "new")
    assert target.read_text() == "new"
    with pytest.raises(UnicodeEncodeError):
        write_file(target, "half \ud800")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_a_link_keeps_pointing_at_its_file(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    write_file(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_folder_cannot_be_written_as_a_file(tmp_path):
    with pytest.raises(LorabenchError, match="cannot be written"):
        write_file(tmp_path, "text")


def table(width, **keep):
    names = ["model.layers.0.self_attn.q_proj", "model.layers.10.self_attn.q_proj"]
    fields = [Field("module", names, elastic=True)]
    fields += [Field(name, ["1.00", "2.00"], right=True, keep=place) for name, place in keep.items()]
    page = Page(width=width)
    page.table(fields)
    return page.text().splitlines()


def test_a_table_with_room_is_whole():
    assert table(60, a=1, b=2) == [
        "module                               a     b",
        "model.layers.0.self_attn.q_proj   1.00  1.00",
        "model.layers.10.self_attn.q_proj  2.00  2.00",
    ]


def test_a_narrow_table_drops_the_shared_start_first():
    assert table(40, a=1, b=2) == [
        "module                   a     b",
        "…0.self_attn.q_proj   1.00  1.00",
        "…10.self_attn.q_proj  2.00  2.00",
        "… stands for model.layers.",
    ]


def test_a_narrower_one_leaves_out_the_column_that_matters_least():
    assert table(28, a=1, b=2) == [
        "module                   b",
        "…0.self_attn.q_proj   1.00",
        "…10.self_attn.q_proj  2.00",
        "… stands for model.layers.",
        "No room for a: widen the terminal, or write --csv.",
    ]


def test_the_narrowest_cuts_the_names():
    lines = table(16, a=1, b=2)
    assert lines[0] == "module"
    assert lines[1].startswith("…0.self")
    assert lines[1].endswith("_proj")
    assert max(map(len, lines[:3])) <= 16


def test_wide_characters_count_twice():
    page = Page(width=60)
    page.table([Field("module", ["层.q", "ab.q"]), Field("r", ["8", "8"])])
    assert page.text().splitlines() == ["module  r", "层.q    8", "ab.q    8"]


def test_foreign_text_is_never_markup():
    page = Page(width=60)
    page.line("[red]x[/nothing]")
    page.pairs([("name", "[bold]y")])
    page.table([Field("module", ["[/z]"])])
    assert page.text().splitlines() == ["[red]x[/nothing]", "name  [bold]y", "module", "[/z]"]
