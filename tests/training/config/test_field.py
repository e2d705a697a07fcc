"""A field says what it may be, reads values as TRL's parser does, and offers what was plainly meant."""

import pytest

from lorabench.training.config.field import Field, Range
from lorabench.training.config.fields import FIELDS


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("lora_r", 8, 8),
        ("lora_r", "8", 8),
        ("learning_rate", "2e-4", 2e-4),
        ("learning_rate", 1, 1),
        ("max_length", None, None),
        ("max_length", "none", None),
        ("packing", "yes", True),
        ("packing", 0, False),
        ("lora_target_modules", ["q_proj"], ["q_proj"]),
        ("lora_target_modules", "all-linear", "all-linear"),
        ("layers_to_transform", 3, 3),
        ("layers_to_transform", [0, 1], [0, 1]),
        ("init_lora_weights", True, True),
        ("init_lora_weights", "pissa_niter_16", "pissa_niter_16"),
        ("report_to", ["wandb"], ["wandb"]),
        ("eval_strategy", "no", "no"),
    ],
)
def test_values_are_read_as_trl_reads_them(name, value, read):
    parsed = FIELDS[name].parse(value)
    assert parsed == read
    assert type(parsed) is type(read)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lora_r", 0, "lora_r is 0, and must be a whole number, at least 1."),
        ("lora_r", True, "lora_r is true, and must be a whole number, at least 1."),
        ("lora_r", [8], "lora_r is [8], and must be a whole number, at least 1."),
        ("lora_r", None, "lora_r is empty; leave it out for 16."),
        ("lora_dropout", 1, "lora_dropout is 1, and must be a number, at least 0 and below 1."),
        ("learning_rate", float("nan"), "learning_rate is nan, and must be a number, above 0."),
        ("learning_rate", "fast", 'learning_rate is "fast", and must be a number, above 0.'),
        ("dtype", "fp8", 'dtype is "fp8", and must be one of auto, bfloat16, float16, float32, or null.'),
        ("packing", "perhaps", 'packing is "perhaps", and must be true or false.'),
        ("lora_target_modules", [1], "lora_target_modules holds 1, and must be a list of names, or null."),
        ("rank_pattern", 8, "rank_pattern is 8, and must be a mapping, or null."),
        ("output_dir", 42, "output_dir is 42, and must be text, or null."),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_allowed(name, value, said):
    problem = FIELDS[name].problem(value, 3)
    assert problem is not None
    assert (problem.message, problem.line, problem.allowed) == (said, 3, FIELDS[name].allowed)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("eval_strategy", False, "no"),
        ("save_strategy", False, "no"),
        ("lora_r", 8.0, 8),
        ("output_dir", 42, "42"),
        ("lora_r", 8.5, None),
        ("lora_r", -8.0, None),
        ("lora_r", 10**400, None),
        ("lora_r", "9" * 400, None),
        ("packing", "perhaps", None),
        ("packing", "flase", False),
        ("gradient_checkpointing", "Ture", True),
        ("lr_scheduler_type", "cosin", "cosine"),
        ("dtype", "bfloat", "bfloat16"),
        ("init_lora_weights", "guassian", "gaussian"),
        ("bias", "something", None),
    ],
)
def test_what_was_plainly_meant_is_offered(name, value, meant):
    problem = FIELDS[name].problem(value)
    assert problem is not None
    assert (problem.mend and problem.mend.changes) == (None if meant is None else {name: meant})


def test_a_value_cannot_command_the_terminal_nor_fill_it():
    shown = FIELDS["lora_r"].problem("\x1b[31m" + "x" * 10_000)
    assert shown is not None
    assert "\x1b" not in shown.message
    assert len(shown.message) < 200
    nested: list[object] = []
    for _ in range(60):
        nested = [nested, nested]
    shown = FIELDS["lora_r"].problem(nested)
    assert shown is not None
    assert len(shown.message) < 300


def test_every_default_is_a_value_that_its_field_allows():
    for field in FIELDS.values():
        assert field.problem(field.default) is None, field.name


def test_a_range_reads_as_a_sentence():
    assert str(Range(least=0, below=1)) == "at least 0 and below 1"
    assert (
        Field("x", ("int",), 1, "", range=Range(above=0, most=9)).allowed
        == "a whole number, at most 9 and above 0"
    )
