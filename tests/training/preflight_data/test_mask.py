"""The loss findings say what is trained on, and what TRL would refuse, ignore or drop."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.mask import mask_findings, mask_rows, token_texts
from lorabench.training.preflight.measure import measure
from tests.training.preflight_data.conftest import Configure, Row, Rows, conversation, turn
from tests.training.preflight_data.test_against_trainer import real_trainer

NO_MARKERS = "{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %}"
NO_STOP = (
    "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}"
)


def loss(config: RunConfig) -> list[Finding]:
    return list(mask_findings(config))


def template(tmp_path: Path, text: str) -> str:
    file = tmp_path / "template.jinja"
    file.write_text(text)
    return str(file)


def test_the_demo_run_trains_on_the_answers(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples.parent)
    config = RunConfig.load(samples / "style-checkpoints-r8" / "run.yaml")

    (found,) = loss(config)

    assert (found.level, found.message) == (
        "ok",
        "assistant tokens only: 52 % of tokens trained; 0 rows with none",
    )


def test_a_row_shows_the_answer_and_its_end_as_trained(configure: Configure) -> None:
    config = configure([conversation("Hi\tthere", "Ahoy! ☠")], assistant_only_loss=True)

    (row,) = mask_rows(config, range(20))

    assert (row.number, row.cut, row.dropped) == (1, 0, False)
    masked = "".join(text for text, trained in row.tokens if not trained)
    assert masked == "<|im_start|>user\nHi␉there<|im_end|>\n<|im_start|>assistant\n\n"
    trained = [text for text, trained in row.tokens if trained]
    assert (trained[0], trained[-1]) == ("Ahoy", "<|im_end|>")
    assert json.loads(json.dumps(asdict(row)))["tokens"][0] == ["<|im_start|>", False]


def test_messages_train_on_every_token_and_the_mend_is_to_mask_the_questions(
    configure: Configure, rows: Rows
) -> None:
    config = configure(rows["messages"])

    (found,) = loss(config)

    assert found.message == "all tokens: 100 % of tokens trained; 0 rows with none"
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert loss(config)[0].message.startswith("assistant tokens only: ")


def test_a_template_without_generation_tags_is_an_error_under_assistant_only_loss(
    configure: Configure, rows: Rows, tmp_path: Path
) -> None:
    config = configure(
        rows["messages"], assistant_only_loss=True, chat_template_path=template(tmp_path, NO_MARKERS)
    )
    with pytest.raises(ValueError, match="not training-compatible") as real:
        real_trainer(config)

    (found,) = loss(config)

    assert found.level == "error"
    assert found.message == f"TRL refuses: {real.value}"
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert loss(config)[0].level == "ok"


def test_a_template_that_trl_knows_is_said_to_be_replaced(
    configure: Configure, rows: Rows, tmp_path: Path
) -> None:
    from trl.chat_template_utils import qwen2_5_chat_template

    known = template(tmp_path, qwen2_5_chat_template)

    (found,) = loss(configure(rows["messages"], assistant_only_loss=True, chat_template_path=known))

    assert found.level == "ok"
    assert "TRL replaces the chat template by its own" in found.detail


def test_a_template_that_never_trains_the_end_of_a_turn_is_warned_of(
    configure: Configure, rows: Rows, tmp_path: Path
) -> None:
    config = configure(
        rows["messages"], assistant_only_loss=True, chat_template_path=template(tmp_path, NO_STOP)
    )

    warning = loss(config)[1]

    assert warning.level == "warning"
    assert "the model may not learn to stop" in warning.message


def test_assistant_only_loss_on_text_is_refused_as_by_trl(configure: Configure, rows: Rows) -> None:
    config = configure(rows["text"], assistant_only_loss=True)
    with pytest.raises(ValueError, match="not conversational") as real:
        real_trainer(config)

    assert [(found.level, found.message) for found in loss(config)] == [
        ("error", f"TRL refuses: {real.value}")
    ]


def test_completion_only_loss_on_text_is_said_to_do_nothing(configure: Configure, rows: Rows) -> None:
    ignored, share = loss(configure(rows["text"], completion_only_loss=True))

    assert ignored.level == "warning"
    assert ignored.message.startswith("completion_only_loss does nothing: rows of text have no completion")
    assert share.message == "all tokens: 100 % of tokens trained; 0 rows with none"


def test_messages_without_a_chat_template_are_refused_as_by_trl(
    configure: Configure, rows: Rows, shared_data: Path
) -> None:
    config = configure(rows["messages"], model_name_or_path=str(shared_data / "models" / "stories260K"))
    with pytest.raises(ValueError, match="chat_template"):
        real_trainer(config)

    (found,) = loss(config)

    assert found.level == "error"
    assert "tokenizer.chat_template is not set" in found.message
    assert found.detail.startswith("A base model often has none: set chat_template_path")
    assert "row " not in found.message.partition(":")[2][:6]


def parts(text: str) -> list[Row]:
    return [{"type": "text", "text": text}]


MIXED = [conversation("Q", "A"), conversation(parts("Q"), "A"), conversation(parts("Q"), parts("A"))]
BOTH = (
    "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %};{% endfor %}"
)


def test_texts_and_lists_of_parts_in_one_column_are_trained_on_where_the_template_takes_both(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure(MIXED, chat_template_path=template(tmp_path, BOTH))
    ours = [[token for token, _ in row.tokens] for row in mask_rows(config, range(3))]
    trainer = real_trainer(config)
    assert ours == [token_texts(trainer.processing_class, row["input_ids"]) for row in trainer.train_dataset]
    assert "".join(ours[0]) == "".join(ours[1]) == "".join(ours[2])
    assert [finding.level for finding in loss(config)] == ["ok"]


def test_lists_of_parts_that_the_template_does_not_take_are_refused_as_by_trl(configure: Configure) -> None:
    config = configure(MIXED)
    with pytest.raises(TypeError, match="can only concatenate list"):
        real_trainer(config)
    (found,) = loss(config)
    assert found.message == 'TRL refuses: row 2: TypeError: can only concatenate list (not "str") to list'
    assert found.detail.startswith("The content of row 2 is a list of parts. This chat template takes text")


def test_lists_of_parts_that_the_template_spells_out_are_an_error(
    configure: Configure, tmp_path: Path
) -> None:
    spelled = template(tmp_path, "{% for m in messages %}{{ m.content | trim }};{% endfor %}")
    config = configure(MIXED, chat_template_path=spelled)
    real = real_trainer(config)
    assert "{'type': 'text'" in real.processing_class.decode(real.train_dataset[1]["input_ids"])
    _share, error = loss(config)
    assert (error.level, error.message) == (
        "error",
        "The template spells the parts of a content out, as in row 2: [{'type': 'text', …",
    )


def test_what_only_some_rows_have_is_null_elsewhere_as_for_the_trainer(
    configure: Configure, tmp_path: Path
) -> None:
    """Tool calls of unlike arguments stay as they are; a column that the first row lacks is there."""
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": {"x": 1}}}]}
    other = {"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": {"y": "z"}}}]}
    rows = [
        conversation("Q", "A"),
        {"messages": [turn("user", "Q"), called], "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"messages": [turn("user", "Q"), other]},
    ]
    writes = "{{ tools | length if tools else 0 }}{% for m in messages %}{{ m | tojson }}{% endfor %}"
    config = configure(rows, chat_template_path=template(tmp_path, writes))
    ours = [[token for token, _ in row.tokens] for row in mask_rows(config, range(3))]
    trainer = real_trainer(config)
    assert ours == [token_texts(trainer.processing_class, row["input_ids"]) for row in trainer.train_dataset]
    assert '{"x": 1}' in "".join(ours[1])


def test_the_first_row_that_trl_refuses_is_named(configure: Configure, rows: Rows, tmp_path: Path) -> None:
    strict = template(
        tmp_path,
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
        "{{ m.content }}{% endfor %}",
    )
    odd = {"messages": [turn("user", "Q"), turn("tool", "T"), turn("assistant", "A")]}
    config = configure([*rows["messages"][:13], odd, *rows["messages"][13:], odd], chat_template_path=strict)

    (found,) = loss(config)

    assert found.level == "error"
    assert found.message == "TRL refuses: row 14: TemplateError: no tools here"


def test_rows_without_a_trained_token_are_an_error_and_named(configure: Configure) -> None:
    long: Row = {"prompt": "What is two plus three?\n" * 4, "completion": "Five."}
    config = configure([{"prompt": "Q", "completion": "A"}, long], max_length=12)
    assert len(real_trainer(config).train_dataset) == 1

    (untrained,) = loss(config)

    assert untrained.level == "error"
    assert untrained.message == "completion tokens only: 67 % of tokens trained; 1 of 2 rows with none: row 2"
    assert untrained.detail == "TRL drops them without a word."
    assert mask_rows(config, range(1, 2))[0].dropped
    assert untrained.mend is not None
    config.apply(untrained.mend.changes)
    assert measure(config).untrained == ()


def test_a_prompt_that_runs_into_its_completion_is_warned_of_each_time(configure: Configure) -> None:
    config = configure([{"prompt": "What is two plus three? ", "completion": "Five."}])

    for learning_rate in (1e-4, 2e-4):
        config.apply({"learning_rate": learning_rate, "max_length": round(learning_rate * 1e6)})
        warnings = [found.message for found in loss(config) if found.level == "warning"]
        assert [warning[:54] for warning in warnings] == [
            "TRL warns: The tokenized prompt is not a prefix of the"
        ]


def test_nothing_left_to_train_is_an_error(configure: Configure, rows: Rows) -> None:
    config = configure(rows["messages"], assistant_only_loss=True, max_length=4)

    (found,) = loss(config)

    assert found.level == "error"
    assert found.message.startswith(
        "assistant tokens only: 0 % of tokens trained; 40 of 40 rows with none: rows 1, 2, 3, "
    )


def test_padding_free_batches_without_packing_are_refused_and_mended(
    configure: Configure, rows: Rows
) -> None:
    config = configure(rows["text"], padding_free=True)

    (found,) = loss(config)

    assert found.level == "error"
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert loss(config)[0].level == "ok"


def test_a_preparation_leaves_no_output_folder(configure: Configure, rows: Rows, tmp_path: Path) -> None:
    config = configure(rows["text"])

    loss(config)

    assert not (tmp_path / "out").exists()


def test_where_no_data_are_the_loss_check_leaves_the_word_to_the_data_check(configure: Configure) -> None:
    (found,) = loss(configure(dataset_name="/no/such/folder"))

    assert (found.level, found.message) == ("warning", "what is trained on cannot be said yet")


@pytest.mark.parametrize("place", ["gone.jinja", "no/such-model"])
def test_a_chat_template_that_is_not_there_is_said_without_a_search_on_the_hub(
    configure: Configure, rows: Rows, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("lorabench.training.preflight.model_source._hub_answers", lambda _: False)
    (found,) = loss(configure(rows["messages"], chat_template_path=place))
    assert found.level == "error"
    assert "chat_template_path" in found.message
    assert place in found.message
