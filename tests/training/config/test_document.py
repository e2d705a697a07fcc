"""A document is read as TRL reads it, and what is not changed stays as it was, to the letter."""

import difflib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lorabench.training.config.document import Document, change, read
from lorabench.training.config.edit import REMOVED, on_one_line
from lorabench.training.config.field import ConfigError

BY_HAND = """\
# A run of mine: do not touch
---
model_name_or_path: org/base   # the 0.5 B one
"dataset_name": 'my data'
learning_rate: 2e-4            # as in the paper
weight_decay: 1.0e-03
eval_strategy: no
save_steps: 1_000

# --- LoRA ---
lora_r: 8
lora_target_modules:
  - q_proj   # first
  # keys are not needed
  - v_proj
model_init_kwargs: {use_cache: false}
my_own_note: >-
  kept by nobody
  but me
run_name: a very long name that goes on and on, well beyond the eighty columns where YAML likes to break
# the end
"""


def changed(text, changes) -> Document:
    return change(read(text), {(name,): value for name, value in changes.items()})


def changed_lines(before: str, after: str) -> list[str]:
    return [
        line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith(("+", "-"))
    ]


def test_one_changed_field_is_one_changed_line():
    after = changed(BY_HAND, {"lora_r": 16}).text
    assert changed_lines(BY_HAND, after) == ["- lora_r: 8", "+ lora_r: 16"]


def test_a_new_field_goes_below_and_a_removed_one_leaves_the_rest():
    grown = changed(BY_HAND, {"seed": 7}).text
    assert changed_lines(BY_HAND, grown) == ["+ seed: 7"]
    shrunk = changed(BY_HAND, {"save_steps": REMOVED}).text
    assert changed_lines(BY_HAND, shrunk) == ["- save_steps: 1_000"]


def test_a_renamed_field_keeps_its_place_and_its_comment():
    before = "lora_r: 8\nmax_seq_length: 512  # tokens\n# then\nseed: 1\n"
    after = changed(before, {"max_length": 512, "max_seq_length": REMOVED}).text
    names = [line.split(":")[0] for line in after.splitlines()]
    assert names == ["lora_r", "max_length", "# then", "seed"]
    assert "# tokens" in after.splitlines()[1]


@pytest.mark.parametrize("offset", ["", "  ", "    "])
def test_lists_keep_their_indentation(offset):
    before = f"lora_target_modules:\n{offset}- q_proj\n{offset}- v_proj\nseed: 1\n"
    after = changed(before, {"seed": 2}).text
    assert changed_lines(before, after) == ["- seed: 1", "+ seed: 2"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_stay(ending):
    before = f"\ufefflora_r: 8{ending}seed: 1{ending}"
    after = changed(before, {"seed": 2})
    assert after.text == f"\ufefflora_r: 8{ending}seed: 2{ending}"
    assert after.values == {"lora_r": 8, "seed": 2}


@pytest.mark.parametrize("text", ["", "# only a comment", "# only a comment\n", "---\n# nothing\n"])
def test_an_empty_file_takes_its_first_field(text):
    document = read(text)
    assert not document.broken
    assert "empty" in document.problems[0].message
    after = changed(text, {"lora_r": 8})
    assert after.values == {"lora_r": 8}
    assert after.text.startswith(text)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(value=SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(), SCALARS, max_size=3))
def test_trl_reads_back_every_value_that_is_written(value):
    after = changed("a: 1  # one\nb: 2\n", {"b": value})
    assert yaml.safe_load(after.text) == {"a": 1, "b": value}
    assert after.text.startswith("a: 1  # one\n")


@pytest.mark.parametrize(
    "value", ["no", "on", "1e5", "08", "null", "~", "2024-01-01", "a: b", "# x", "", " x", "é", "*", "1:30"]
)
def test_texts_that_yaml_would_take_for_something_else_are_quoted(value):
    after = changed("a: 1\n", {"b": value, "c": [value], "d": {value: value}})
    assert yaml.safe_load(after.text) == {"a": 1, "b": value, "c": [value], "d": {value: value}}


def test_an_anchor_that_others_need_is_refused_rather_than_lost():
    text = "a: &mine [1, 2]\nb: *mine\nc: 1\n"
    assert changed(text, {"c": 2}).text == text.replace("c: 1", "c: 2")
    for name in ("a", "b"):
        with pytest.raises(ConfigError, match="Change its text instead"):
            changed(text, {name: [3]})


NESTED = """\
seed: 1
env:          # of mine
  A: b   # keep

  LORABENCH:
    # mine too
    lora:
      bias: none  # no bias
      rank_pattern:
        q_proj: 16  # half
  # below
# far below
lora_r: 8
"""


@pytest.mark.parametrize(
    ("path", "value", "difference"),
    [
        ("env A", "c", ["-   A: b   # keep", "+   A: c   # keep"]),
        ("env B", 1, ["+   B: 1"]),
        ("env LORABENCH precision", "auto", ["+     precision: auto"]),
        ("env LORABENCH lora bias", "all", ["-       bias: none  # no bias", "+       bias: all  # no bias"]),
        (
            "env LORABENCH lora rank_pattern",
            {"o_proj": 4},
            ["-       rank_pattern:", "+       rank_pattern: {o_proj: 4}", "-         q_proj: 16  # half"],
        ),
        ("env LORABENCH lora bias", REMOVED, ["-       bias: none  # no bias"]),
        (
            "env LORABENCH",
            REMOVED,
            [
                "-   LORABENCH:",
                "-     # mine too",
                "-     lora:",
                "-       bias: none  # no bias",
                "-       rank_pattern:",
                "-         q_proj: 16  # half",
            ],
        ),
        ("other key", [1], ["+ other: {key: [1]}"]),
        ("lora_r", {"a": "b\nc"}, ["- lora_r: 8", '+ lora_r: {a: "b\\nc"}']),
    ],
)
def test_a_nested_change_is_made_where_it_stands(path, value, difference):
    after = change(read(NESTED), {tuple(path.split()): value}).text
    assert changed_lines(NESTED, after) == difference


def test_braces_take_changes_too():
    text = "env: {A: b, LORABENCH: {precision: auto}}  # mine\n"
    after = change(read(text), {("env", "LORABENCH", "lora", "bias"): "all"}).text
    assert after == "env: {A: b, LORABENCH: {precision: auto, lora: {bias: all}}}  # mine\n"
    assert change(read(after), {("env", "LORABENCH", "lora", "bias"): REMOVED}).text == text
    assert change(read(text), {("env", "A"): REMOVED}).values == {"env": {"LORABENCH": {"precision": "auto"}}}
    assert changed('{"lora_r": 8, "seed": 1}', {"lora_r": 4}).values == {"lora_r": 4, "seed": 1}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("lora_r: 8\nseed: 1\nlora_r: 16\n", 3, "lora_r stands twice, in lines 1 and 3"),
        ("env:\n  LORABENCH:\n    lora: {bias: none, bias: all}\n", 3, "bias stands twice"),
        ("lora_r: 8\n\tseed: 1\n", 2, "Line 2, column 1: a tab"),
        ("lora_r: 8\n seed: 1\n", 2, "Line 2, column 6: a colon out of place"),
        ("bf16: no\nlora_target_modules: [q_proj\nseed: 1\n", 2, "Line 2, column 22: this [ has no ]"),
        ("env: {A: 1\nseed: 1\n", 1, "this { has no }"),
        ("lora_r: 8\nseed 1\n", 2, "Line 2, column 1: a line without a colon"),
        ("run_name: 'it\nseed: 1\n", 1, "Line 1, column 11: this quote is not closed"),
        ("run_name: 'it's'\n", 1, "Line 1, column 15: this does not go on from what stands above"),
        ("run_name: @home\n", 1, "must stand in quotes"),
        ("lora_r: 8\nseed: \x00\n", 2, "Line 2, column 7: a character that YAML does not allow, U+0000"),
        ("- lora_r\n- 8\n", 1, "holds no fields"),
        ("just text", 1, "holds no fields"),
        ("lora_r: 8\n---\nlora_r: 16\n", 2, "second document"),
        ("lora_r: !!python/name:os.system\n", 1, "must stand in quotes"),
        ("a: *nobody\n", 1, "must stand in quotes"),
        ("8: lora_r\n", None, "key 8 is not text"),
        ("day: 2024-99-99\n", 1, "Line 1: this value cannot be read: month must be in 1..12"),
        ("lora_r: 8\nseed: !!int\n", 2, 'Line 2: "" is not what its tag !!int says.'),
        ('run_name: "\\Uffffffff"\n', None, "A value cannot be read"),
        ("bf16: !!bool maybe\n", 1, '"maybe" is not what its tag !!bool says.'),
        ("seed: 1\nlora_r: " + "1:" * 200 + "0.5\n", 2, "Line 2: a number of hundreds of digits."),
        ("seed: 0x" + "f" * 300 + "\n", 1, "Line 1: a number of hundreds of digits."),
        ("? 0x" + "f" * 5000 + "\n: 3\n", 1, "Line 1: a number of hundreds of digits."),
        ("env: {A: [-" + "1:" * 3000 + "1]}\n", 1, "Line 1: a number of hundreds of digits."),
        ("env: {A: [!!timestamp soon]}\n", 1, '"soon" is not what its tag !!timestamp says.'),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_nothing_is_lost(text, line, words):
    document = read(text)
    assert document.broken
    assert document.text == text
    assert words in document.problems[0].message
    assert document.problems[0].line == line
    with pytest.raises(ConfigError, match="Mend its text first"):
        changed(text, {"seed": 2})


def test_every_double_key_is_listed():
    problems = read("a: 1\nb: 2\na: 3\nb: 4\n").problems
    assert [problem.line for problem in problems] == [3, 4]


def test_a_bomb_of_aliases_and_a_tower_of_brackets_do_not_hang_it():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    for text in (bomb, "a: &a [*a]\n"):
        assert "written out, would have no end" in read(text).problems[0].message
        assert read(text).broken
    tower = read("a: " + "[" * 3000 + "]" * 3000)
    assert "nested too deeply" in tower.problems[0].message


LISTED = """\
lora_target_modules:  # where
  # attention
  - q_proj   # first
  - k_proj
  # values, they say, matter
  - v_proj   # third
  # feed-forward
  - up_proj
# then
seed: 1
"""


@pytest.mark.parametrize(
    ("value", "difference"),
    [
        (["q_proj", "v_proj", "up_proj"], ["-   - k_proj"]),
        (["q_proj", "k_proj", "o_proj", "v_proj", "up_proj", "down_proj"],
         ["+   - o_proj", "+   - down_proj"]),
        (["k_proj"], ["-   - q_proj   # first", "-   - v_proj   # third", "-   - up_proj"]),
        (["up_proj", "q_proj"], ["+   - up_proj", "-   - k_proj", "-   - v_proj   # third", "-   - up_proj"]),
        (["q_proj", "k", "v_proj", "up_proj"], ["-   - k_proj", "+   - k"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_items_that_stay_in_a_list_keep_their_comments(value, difference, ending):
    after = changed(LISTED.replace("\n", ending), {"lora_target_modules": value})
    assert after.values == {"lora_target_modules": value, "seed": 1}
    assert changed_lines(LISTED, after.text.replace("\r\n", "\n")) == difference
    assert after.text.count("\r\n") == (after.text.count("\n") if ending == "\r\n" else 0)


def test_a_list_of_which_nothing_stays_or_whose_items_share_a_line_is_written_anew():
    assert changed("a:\n- b  # c\n- d\n", {"a": ["e"]}).text == "a: [e]\n"
    assert changed("a:\n- b  # c\n", {"a": []}).text == "a: []\n"
    assert changed("a:\n- - b\n  - c\n- - d\n", {"a": [["d"]]}).values == {"a": [["d"]]}
    assert changed("a:\n- b\n- c", {"a": ["b", "c", "d"]}).text == "a:\n- b\n- c\n- d\n"


def test_an_entry_of_a_list_of_mappings_stays_as_it_is_when_another_comes():
    text = "datasets:\n- path: json  # mine\n  data_files: a.jsonl\nseed: 1\n"
    entries = [{"path": "json", "data_files": "a.jsonl"}, {"path": "csv", "data_files": "b.csv"}]
    after = changed(text, {"datasets": entries})
    assert after.values["datasets"] == entries
    assert changed_lines(text, after.text) == ["+ - {path: csv, data_files: b.csv}"]


def test_entries_that_stay_in_a_mapping_keep_their_comments():
    path = ("env", "LORABENCH", "lora", "rank_pattern")
    after = change(read(NESTED), {path: {"q_proj": 16, "o_proj": 4}}).text
    assert changed_lines(NESTED, after) == ["+         o_proj: 4"]


@given(
    before=st.lists(SCALARS, min_size=1, max_size=5),
    after=st.lists(SCALARS, max_size=5),
    kept=st.integers(0, 4),
)
def test_any_list_becomes_any_other(before, after, kept):
    text = (
        "a:\n" + "".join(f"  - {on_one_line(item)}  # c{at}\n" for at, item in enumerate(before)) + "b: 1\n"
    )
    value = before[:kept] + after
    done = changed(text, {"a": value})
    assert yaml.safe_load(done.text) == {"a": value, "b": 1}
    assert done.text.endswith("b: 1\n")
