"""The commands as a shell sees them: exit status, standard output, standard error."""

import csv
import io
import json
import os
import signal
import subprocess

import pytest
from safetensors.numpy import load_file, save_file

from lorabench.cli import COMMANDS
from lorabench.spectra.columns import COLUMNS
from tests.cli.conftest import COMMAND, environment
from tests.spectra.made import random_pair

ESCAPE = "\x1b"


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_describe_says_what_is_in_the_adapter_in_plain_text(lorabench, adapter):
    done = lorabench("describe", adapter)
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    facts = dict(line.split(maxsplit=1) for line in done.stdout.split("\n\n")[0].splitlines())
    assert facts["format"] == "PEFT LoRA"
    assert facts["base"] == "org/base-1B"
    assert (facts["r"], facts["lora_alpha"], facts["scaling"]) == ("8", "16", "2")
    assert facts["targets"] == "q_proj"
    assert facts["layers"] == f"4, with {4 * 8 * (24 + 32):,} parameters in A and B"
    assert facts["files"].startswith("adapter_model.safetensors (")
    assert done.stdout.count("model.layers.") == 4
    assert "…" not in done.stdout


def test_a_row_says_which_of_several_adapters_it_is_of(lorabench, adapter, tmp_path):
    a, b = random_pair(16, 16, 8)
    state = {
        f"layers.0.q_proj.lora_{part}.{name}.weight": factor
        for name in ("default", "style")
        for part, factor in (("A", a), ("B", b))
    }
    save_file(state, tmp_path / "two.safetensors")
    two = tmp_path / "two.safetensors"
    for command in ("describe", "analyze"):
        assert [row["adapter"] for row in rows(lorabench(command, two, "--csv").stdout)] == [
            "default",
            "style",
        ]
        layers = json.loads(lorabench(command, two, "--json").stdout)["layers"]
        assert [layer["adapter"] for layer in layers] == ["default", "style"]
    for words in (["describe"], ["describe", "--factors"], ["analyze"], ["analyze", "--weightwatcher"]):
        several = lorabench(*words, two).stdout.split("\n\n")[1].splitlines()
        assert several[0].split()[:3] == ["layer", "module", "adapter"]
        assert {line.split()[2] for line in several if "q_proj" in line} == {"default", "style"}
        alone = lorabench(*words, adapter).stdout.split("\n\n")[1].splitlines()
        assert "adapter" not in alone[0]
    style = lorabench("analyze", two, "--csv", "--filter", "adapter=style").stdout
    assert [row["adapter"] for row in rows(style)] == ["style"]


@pytest.fixture
def halves(adapter, tmp_path):
    """The adapter without the B of layer 0 and the A of layer 1."""
    state = load_file(adapter / "adapter_model.safetensors")
    lost = ("layers.0.self_attn.q_proj.lora_B.weight", "layers.1.self_attn.q_proj.lora_A.weight")
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(lost)}
    save_file(kept, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    return tmp_path


def test_a_layer_that_lacks_a_factor_is_in_every_table_as_unreadable(lorabench, halves):
    table = rows(lorabench("analyze", halves, "--csv").stdout)
    first, second = ((row["shape"], row["r"], row["verdict"], row["reason"]) for row in table[:2])
    assert first == ("0×32", "8", "unreadable", "B is missing: the layer has only its A.")
    assert second == ("24×0", "8", "unreadable", "A is missing: the layer has only its B.")
    parity = rows(lorabench("analyze", halves, "--weightwatcher", "--csv").stdout)
    assert [(row["status"], row["M"], row["Q"]) for row in parity[:2]] == [("failed", "0", "")] * 2
    factors = rows(lorabench("describe", halves, "--factors", "--csv").stdout)
    assert [row["parameters"] for row in factors[:4]] == ["256", "0", "0", "192"]
    for words in (["describe"], ["analyze"], ["analyze", "--factors", "--plot"]):
        done = lorabench(*words, halves)
        assert (done.returncode, done.stderr) == (0, "")
        assert "B is missing: the layer has only its A." in done.stdout
    facts = lorabench("describe", halves).stdout.split("\n\n")[0]
    assert "none" not in facts


def test_describe_computes_no_spectrum(lorabench, adapter):
    done = lorabench("describe", adapter, "--csv")
    table = rows(done.stdout)
    assert [row["module"] for row in table] == [f"model.layers.{n}.self_attn.q_proj" for n in range(4)]
    assert table[0] == table[0] | {"r": "8", "shape": "24×32", "scaling": "2.0", "parameters": "448"}
    assert not {"alpha", "norm", "verdict"} & set(table[0])


def test_describe_factors_names_each_tensor(lorabench, adapter):
    table = rows(lorabench("describe", adapter, "--factors", "--csv").stdout)
    assert [(row["factor"], row["shape"]) for row in table[:2]] == [("A", "8×32"), ("B", "24×8")]
    assert table[0]["tensor"] == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def test_describe_json_is_alone_on_standard_output(lorabench, adapter):
    described = json.loads(lorabench("describe", adapter, "--json").stdout)
    assert list(described) == ["adapter", "layers", "other_tensors"]
    assert described["adapter"]["format"] == "PEFT"
    assert len(described["layers"]) == 4


def test_analyze_prints_every_layer_whole_when_piped(lorabench, adapter):
    done = lorabench("analyze", adapter)
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    assert "…" not in done.stdout
    for number in range(4):
        assert f"model.layers.{number}.self_attn.q_proj" in done.stdout
    assert "1 dead" in done.stdout
    assert "1 unreadable" in done.stdout
    assert "lora_B.weight holds 1 NaN" in done.stdout


def test_analyze_csv_and_json_hold_the_same_numbers(lorabench, adapter):
    table = rows(lorabench("analyze", adapter, "--csv").stdout)
    layers = json.loads(lorabench("analyze", adapter, "--json").stdout)["layers"]
    assert list(table[0]) == [column.name for column in COLUMNS]
    for row, layer in zip(table, layers, strict=True):
        assert row["verdict"] == layer["verdict"]
        assert (float(row["norm"]) if row["norm"] else None) == layer["norm"]
    assert float(table[1]["norm"]) == pytest.approx(3 * float(table[0]["norm"]))


def test_analyze_sorts_and_filters(lorabench, adapter):
    done = lorabench("analyze", adapter, "--csv", "--sort", "-norm", "--filter", "norm>0 or verdict=dead")
    assert [row["layer"] for row in rows(done.stdout)] == ["1", "0", "2"]
    page = lorabench("analyze", adapter, "--filter", "verdict=dead").stdout
    assert "1 of 4 rows fit" in page
    assert "layers.0" not in page
    none = lorabench("analyze", adapter, "--filter", "layer>100")
    assert none.returncode == 0
    assert "No layer fits the filter." in none.stdout


def test_analyze_weightwatcher_writes_its_columns(lorabench, adapter):
    table = rows(lorabench("analyze", adapter, "--weightwatcher", "--csv").stdout)
    assert list(table[0])[:4] == ["layer_id", "name", "D", "M"]
    assert [row["status"] for row in table] == ["success", "success", "failed", "failed"]
    assert [row["layer_id"] for row in table] == ["0", "2", "4", "6"]
    large = lorabench("analyze", adapter, "--weightwatcher", "--csv", "--filter", "sv_max>5 and layer=1")
    assert [row["layer_id"] for row in rows(large.stdout)] == ["2"]
    page = lorabench("analyze", adapter, "--weightwatcher").stdout
    assert "num_pl_spikes" in page
    assert "2 over-trained" in page


def test_analyze_factors_gives_a_row_to_each(lorabench, adapter):
    table = rows(lorabench("analyze", adapter, "--factors", "--csv").stdout)
    assert [row["part"] for row in table] == ["A", "B"] * 4
    assert [table[0]["shape"], table[1]["shape"]] == ["8×32", "24×8"]
    assert float(table[0]["norm"]) == pytest.approx(8**0.5)  # the rows of A are orthonormal
    both = lorabench("analyze", adapter, "--factors", "--weightwatcher", "--filter", "layer=0").stdout
    assert [line.split()[2] for line in both.splitlines() if "q_proj" in line] == ["A", "B"]
    page = lorabench("analyze", adapter, "--factors").stdout
    assert "A alone" in page
    assert "B alone" in page


def test_plots_are_printed_without_colour_when_piped(lorabench, adapter):
    done = lorabench("analyze", adapter, "--plot")
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    for title in ("α of 2 layers", "α by depth", "‖ΔW‖ by depth", "singular values", "tail: α", "energy: 90"):
        assert title in done.stdout
    assert max(map(len, done.stdout.split("α of 2 layers")[1].splitlines())) <= 80


def test_output_goes_to_a_file_in_the_format_of_its_name(lorabench, adapter, tmp_path):
    for name, first in (("report.json", "{"), ("report.csv", "layer,module"), ("report.txt", "adapter ")):
        done = lorabench("analyze", adapter, "-o", tmp_path / name)
        assert (done.returncode, done.stdout) == (0, "")
        assert (tmp_path / name).read_text().startswith(first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.csv", "report.json", "report.txt"]
    lorabench("analyze", adapter, "--csv", "-o", tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text().startswith("layer,module")


def test_a_file_that_cannot_be_written_is_named(lorabench, adapter, tmp_path):
    done = lorabench("describe", adapter, "-o", tmp_path / "nowhere" / "report.csv")
    assert done.returncode == 2
    assert "nowhere/report.csv cannot be written: No such file or directory." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["describ"], "Did you mean lorabench describe?"),
        (["zzz"], "“zzz” is neither a command nor a path."),
        (["./nothing"], "There is nothing at ./nothing."),
        (["open", "nothing"], "There is nothing at nothing."),
        (["nothing.safetensors"], "There is nothing at nothing.safetensors."),
        (["analyze", "/nothing/here"], "/nothing/here"),
        (["describe", "/nothing/here"], "/nothing/here"),
        (["analyze"], "Missing argument"),
        (["analyze", ".", "--sort", "nrom"], "Did you mean norm?"),
        (["analyze", ".", "--filter", "alpha<"], "ends too early at character 7"),
        (["analyze", ".", "--json", "--csv"], "choose one of --json and --csv"),
        (["analyze", ".", "--json", "-o", "x.csv"], "--json, -o: json cannot be written to a .csv file."),
        (["describe", ".", "--csv", "-o", "x.JSON"], "--csv, -o: csv cannot be written to a .json file."),
        (["analyze", ".", "--json", "--plot"], "plots cannot be drawn into json"),
        (["analyze", ".", "--nonsense"], "No such option"),
        (["demo"], "choose one of --ask and --rebuild"),
        ([], "The workbench needs a terminal"),
        (["."], "The workbench needs a terminal"),
    ],
)
def test_what_a_user_can_mend_is_a_sentence_and_exit_status_2(lorabench, tmp_path, words, says):
    done = lorabench(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_an_adapter_is_said_to_be_one(lorabench, tmp_path):
    done = lorabench("analyze", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lorabench: ")
    assert "Traceback" not in done.stderr


def test_a_hostile_path_reaches_the_terminal_harmless(lorabench):
    done = lorabench("analyze", "/nothing/\x1b]0;owned\x07")
    assert done.returncode == 2
    assert ESCAPE not in done.stderr


@pytest.mark.parametrize("style", [[], ["--csv"], ["--json"]])
@pytest.mark.parametrize(
    "words", [["describe"], ["describe", "--factors"], ["analyze"], ["analyze", "--weightwatcher"]]
)
def test_a_hostile_tensor_name_reaches_the_terminal_harmless(lorabench, tmp_path, words, style):
    module = "layers.0.\x1b]0;owned\x07\x9b2J\x7f\u202eq"
    a, b = random_pair(16, 16, 8)
    save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, tmp_path / "x.safetensors")
    done = lorabench(*words, *style, tmp_path / "x.safetensors")
    assert done.returncode == 0
    assert done.stdout.replace("\n", "").isprintable()
    assert "owned" in done.stdout


def test_every_command_has_help_with_an_example(lorabench):
    main = lorabench("--help")
    for command in COMMANDS:
        assert f"\n  {command} " in main.stdout
        done = lorabench(command, "--help")
        assert done.returncode == 0
        assert f"lorabench {command} " in done.stdout.partition("Example: ")[2]
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_version_is_the_packages(lorabench):
    import lorabench as package

    assert lorabench("--version").stdout == f"lorabench {package.__version__}\n"


def test_the_shell_completes_commands_and_columns(lorabench):
    def complete(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return lorabench(_LORABENCH_COMPLETE="complete_bash", **words).stdout.split()

    assert complete("lorabench ") == sorted(COMMANDS, key=COMMANDS.index)
    assert complete("lorabench des") == ["describe"]
    assert complete("lorabench analyze --sort stable") == ["stable_rank"]


def test_a_reader_that_stops_early_ends_the_command_quietly(adapter):
    """As `lorabench describe … | head -1` does, with more output than a pipe holds."""
    command = subprocess.Popen(
        [*COMMAND, "analyze", str(adapter), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait(60) == 0


def test_ctrl_c_ends_with_130_and_without_a_traceback(adapter, tmp_path):
    """The command waits for a writer on a pipe with an adapter's name until it is interrupted."""
    folder = tmp_path / "slow"
    folder.mkdir()
    os.mkfifo(folder / "adapter_config.json")
    (folder / "adapter_model.safetensors").symlink_to(adapter / "adapter_model.safetensors")
    command = subprocess.Popen(
        [*COMMAND, "describe", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    # Opening the pipe to write returns when the command has opened it to read.
    with (folder / "adapter_config.json").open("w"):
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
    assert b"Traceback" not in command.stderr.read()


@pytest.mark.parametrize("words", [["--help"], ["describe"], ["analyze"], ["analyze", "--plot"]])
def test_torch_is_never_imported(lorabench, adapter, words):
    path = [] if "--help" in words else [adapter]
    done = lorabench(*words, *path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "lorabench" in imported
    assert not imported & {"torch", "transformers", "peft", "trl", "pandas", "textual"}
