"""run.yaml made to harm: bombs of aliases, depth, tabs, and values of any type in every field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lorabench.screens.listing import list_folder
from lorabench.text import visible
from lorabench.training.config.field import ConfigError
from lorabench.training.config.fields import FIELDS
from lorabench.training.config.run_config import RunConfig
from tests.fuzz.bounds import examples, sentence_or
from tests.fuzz.test_adapter_files import JUNK

NAMES = [name for name in FIELDS if name != "precision"]
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
TEXTS = {
    "a bomb": BOMB + "lora_target_modules: *a29\n",
    "a bomb of mappings": BOMB.replace("[", "{k: [").replace("]", "]}") + "lora_r: *a29\n",
    "a bomb of long texts": f"a: &a {'x' * 90_000}\nenv: {{A: [{'*a, ' * 1_500}]}}\n",
    "merged bombs": "a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*a, *a, *a]}}\n" for n in range(999)),
    "an alias that holds itself": "lora_target_modules: &a [*a]\nenv: &e {LORABENCH: *e}\n",
    "deep lists": "lora_r: " + "[" * 50_000,
    "deep closed lists": "lora_r: " + "[" * 5_000 + "]" * 5_000,
    "deep mappings": "\n".join(" " * depth + "a:" for depth in range(1_000)),
    "deep question marks": "? " * 20_000,
    "tabs": "lora_r:\t8\n\tlora_alpha: 16\n",
    "two documents": "lora_r: 8\n---\nlora_r: 9\n",
    "a python object": "lora_r: !!python/object/apply:os.system ['touch /tmp/x']\n",
    "a binary": "lora_r: !!binary |\n  AAAA\n",
    "a set": "lora_target_modules: !!set {a, b}\n",
    "dates and bases": "lora_r: 2024-01-01\nseed: 190:20:30\nlora_alpha: 0x_\nmax_steps: 1_000\n",
    "a long number": "lora_r: " + "9" * 5_000,
    "control characters": 'output_dir: "\\e[2J\\0\\u202e[red]"\n"\\e[31m": 1\nmodel_name_or_path: "\\x9b"\n',
    "long": "model_name_or_path: " + "x" * 99_000,
    "many keys": "\n".join(f"k{n}: {n}" for n in range(9_000)),
    "a wide list": "lora_target_modules: [" + "a," * 40_000 + "]",
}


def told(path: Path) -> str:
    """Read a configuration as its screen and the bench do, change a field, and say what is wrong with it."""
    config = RunConfig.load(path)
    said = [problem.message for problem in config.problems]
    said += [repr(config.get(name)) for name in NAMES]
    said += [str(config.folder), config.precision, str(config.stop_on_nan)]
    try:
        config.set("lora_r", 16)
    except ConfigError as error:
        said.append(str(error))
    rows = [f"{row.name} {row.rank} {row.targets!r}" for row in list_folder(path.parent)]
    # What a field holds is the user's own; messages must be safe as they are.
    return "\n".join([*said[: len(config.problems)], *map(visible, said[len(config.problems) :]), *rows])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_that_asks_for_too_much(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    sentence_or(lambda: told(tmp_path / "run.yaml"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configured")


VALUES = st.one_of(JUNK, st.integers(-(2**70), 2**70), st.text(max_size=20))


@given(values=st.dictionaries(st.sampled_from([*NAMES, "env"]), VALUES, max_size=5), extra=JUNK)
@examples(100, 5_000)
def test_any_value_in_any_field(place: Path, values: dict, extra: object) -> None:
    path = place / "run.yaml"
    ours = {"env": {"LORABENCH": {"lora": extra, "precision": extra}}} if "env" not in values else {}
    path.write_text(yaml.safe_dump(values | ours))
    sentence_or(lambda: told(path))


SOUND = (
    "# a run\nmodel_name_or_path: demo-model\nlora_r: 8\nlora_target_modules: [q_proj, v_proj]\n"
    "env:\n  LORABENCH:\n    precision: auto\n    lora: {rank_pattern: {o_proj: 16}}\nlearning_rate: 2e-4\n"
)
PIECES = st.sampled_from(
    [*"\t\n:-?[]{}&*!|>'\"%@`#,", "<<: ", "&a ", "*a", "--- ", "!!int ", "\x85", "\u2028", "\ufeff", "\r"]
)


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SOUND)), PIECES | st.text(max_size=3), st.integers(0, 9)), max_size=4
    )
)
@examples(150, 8_000)
def test_a_sound_file_with_pieces_put_in_and_taken_out(
    place: Path, edits: list[tuple[int, str, int]]
) -> None:
    text = SOUND
    for at, piece, gone in edits:
        text = text[:at] + piece + text[at + gone :]
    path = place / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    sentence_or(lambda: told(path))
