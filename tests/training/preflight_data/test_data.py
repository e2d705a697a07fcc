"""The data findings say what there is, what is wrong with it, and what max_length takes away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight import data_scan
from lorabench.training.preflight.data import data_findings, train_row_count
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.measure import measure
from tests.training.preflight_data.conftest import Configure, Row, Rows, conversation, turn, write_jsonl


def said(config: RunConfig) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in data_findings(config)]


def finding(config: RunConfig, words: str) -> Finding:
    (found,) = [finding for finding in data_findings(config) if words in finding.message]
    return found


def test_the_demo_run_is_fine(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples.parent)
    config = RunConfig.load(samples / "style-checkpoints-r8" / "run.yaml")

    assert said(config) == [
        ("ok", "1,000 rows, messages"),
        ("ok", "tokens p50 37 p95 102 max 127; none is cut at 256"),
    ]
    assert train_row_count(config) == 1000


def test_rows_that_stop_trl_are_errors_with_their_numbers(configure: Configure, demo_rows: list[Row]) -> None:
    rows = [*demo_rows[:3], {"messages": [{"content": "no role"}, turn("assistant", "A")]}, {"messages": []}]
    rows += [{"messages": [{"content": "no role"}, turn("assistant", "B")]}]

    levels = said(configure(rows))

    assert levels[0] == ("ok", "6 rows, messages")
    assert ("error", "2 rows have a message without a role: rows 4, 6") in levels
    assert ("error", "1 row has an empty list of messages: row 5") in levels
    assert levels[-1][1].startswith("tokens p50 ")


def test_rows_that_train_on_something_else_are_warnings(configure: Configure, demo_rows: list[Row]) -> None:
    rows = [*demo_rows[:2], conversation("Q", ""), conversation("only a question"), demo_rows[0]]

    levels = said(configure(rows))

    assert ("warning", "1 row has an empty answer: row 3") in levels
    assert ("warning", "1 row has no assistant turn: row 4") in levels
    assert ("warning", "1 row repeats an earlier one exactly: row 5") in levels


def test_a_row_without_an_answer_is_an_error_where_only_answers_are_trained(
    configure: Configure, demo_rows: list[Row]
) -> None:
    config = configure([demo_rows[0], conversation("only a question")], assistant_only_loss=True)

    assert finding(config, "no assistant turn").level == "error"


def test_a_broken_line_is_an_error_with_its_number(tmp_path: Path, configure: Configure) -> None:
    folder = write_jsonl(tmp_path / "broken", [{"text": "a"}])
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "b"\n{"text": \n')

    found = finding(configure(dataset_name=str(folder)), "line")

    assert found.level == "error"
    assert found.message == "train.jsonl, line 2: Expecting ',' delimiter at column 13. (and 1 more)"
    assert found.detail.startswith("train.jsonl, line 3: ")


def test_columns_that_trl_cannot_use_are_an_error_and_one_text_column_a_mend(configure: Configure) -> None:
    config = configure([{"story": "Once upon a time", "id": 1}])

    found = finding(config, "columns")

    assert (found.level, found.message) == ("error", "the columns story, id are not what TRL trains on")
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert said(config)[0] == ("ok", "1 row, text")


def test_prompts_without_completions_are_an_error(configure: Configure) -> None:
    found = finding(configure([{"prompt": "Q", "chosen": "A", "rejected": "B"}]), "prompts")

    assert found.level == "error"
    assert found.message == "there are prompts, but no completion: the columns are prompt, chosen, rejected"


def test_a_cut_says_how_many_answers_it_costs(configure: Configure) -> None:
    rows = [
        conversation("What is 2 plus 3?", "Ahoy! 5."),
        conversation("What is 2 plus 3?", "Ahoy! It be five, and never six, by the seven seas."),
        conversation("What is 2 plus 3? " * 6, "Ahoy! 5."),
    ]
    config = configure(rows, max_length=30)

    found = finding(config, "tokens p50")

    assert measure(config).cut == (2, 3)
    assert (measure(config).lost, measure(config).shortened) == ((3,), (2,))
    assert found.level == "warning"
    assert found.message.endswith("; 2 rows cut at 30: the last answer is lost in 1, cut in 1")
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert finding(config, "tokens p50").level == "ok"


@pytest.mark.parametrize("kind", ["messages", "chat-pairs"])
@pytest.mark.parametrize("assistant_only", [True, False])
def test_lost_answers_do_not_depend_on_what_is_trained(
    configure: Configure, rows: Rows, kind: str, assistant_only: bool
) -> None:
    measured = measure(configure(rows[kind], assistant_only_loss=assistant_only, max_length=40))

    # The last answer begins where the prompt and "<|im_start|>assistant\n" end.
    starts = {
        number: length for number, length in last_answer_starts(rows["messages"]).items() if length >= 40
    }
    assert set(measured.lost) == set(starts)
    assert 0 < len(measured.lost) < len(measured.cut)


def last_answer_starts(rows: list[Row]) -> dict[int, int]:
    from transformers import AutoTokenizer

    samples = Path(__file__).parents[3] / "sample_adapters"
    tokenizer = AutoTokenizer.from_pretrained(samples / "demo-model")
    return {
        number: len(
            tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, return_dict=False)
        )
        for number, row in enumerate(rows, 1)
    }


def test_rows_that_trl_drops_are_not_counted(configure: Configure, rows: Rows) -> None:
    config = configure(rows["text-pairs"], max_length=12)

    from tests.training.preflight_data.test_against_trainer import real_trainer

    assert train_row_count(config) == len(real_trainer(config).train_dataset) < 40


def test_large_data_are_sampled_and_it_says_so(
    configure: Configure, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_scan, "SCANNED_BYTES", 1000)
    config = configure(rows["text"] * 5)

    first, *_, last = data_findings(config)

    size = sum(len(json.dumps(row)) + 1 for row in rows["text"] * 5)
    stride = -(-size // 1000)
    assert first.message == "200 rows, text"
    looked_at = -(-200 // stride)
    assert first.detail == f"The data are large: one row in {stride}, {looked_at} in all, was looked at."
    assert last.detail == f"Measured on {looked_at} rows, evenly spaced over the 200."
    assert list(measure(config).lengths) == list(range(1, 201, stride))


def test_the_rows_of_an_evaluation_are_looked_at_too(
    configure: Configure, tmp_path: Path, rows: Rows
) -> None:
    folder = write_jsonl(tmp_path / "both", rows["text"])
    write_jsonl(folder, [{"text": "fine"}, {"text": 3}], "test.jsonl")

    levels = said(configure(dataset_name=str(folder), eval_strategy="epoch"))

    assert ("error", "test: 1 row holds a number as text, not a text: row 2") in levels


def test_a_mixture_that_holds_rows_out_counts_what_is_left(
    configure: Configure, tmp_path: Path, rows: Rows
) -> None:
    folder = write_jsonl(tmp_path / "one", rows["text"])
    config = configure(datasets=[{"path": str(folder)}], test_split_size=0.33, dataset_name=None)

    from trl import DatasetMixtureConfig, get_dataset

    mixture = DatasetMixtureConfig(datasets=[{"path": str(folder)}], test_split_size=0.33)
    assert train_row_count(config) == len(get_dataset(mixture)["train"]) == 26


def test_a_model_without_a_tokenizer_leaves_the_rest_standing(configure: Configure, rows: Rows) -> None:
    levels = said(configure(rows["text"], model_name_or_path="/no/such/model"))

    assert levels[0] == ("ok", "40 rows, text")
    assert levels[1][0] == "warning"
    assert levels[1][1].startswith("the rows could not be measured: ")


def test_a_second_look_at_the_same_data_costs_nothing_and_a_change_is_seen(
    configure: Configure, rows: Rows, tmp_path: Path
) -> None:
    config = configure(rows["text"])
    first = measure(config)
    assert measure(configure(rows=None, dataset_name=config.get("dataset_name"), learning_rate=1.0)) is first

    write_jsonl(tmp_path / "data", rows["text"][:7])

    assert len(measure(config).lengths) == 7


def test_foreign_text_is_made_visible(configure: Configure) -> None:
    found: list[Any] = said(configure([{"\x1b[2J": "x", "b\x07": 1}]))

    assert found[0][1] == "the columns ␛[2J, b␇ are not what TRL trains on"


def test_alpacas_columns_and_sharegpts_roles_come_with_what_to_write(configure: Configure) -> None:
    alpaca = [{"instruction": "Say", "input": "", "output": "A"}]
    (found,) = list(data_findings(configure(alpaca)))
    assert found.detail.endswith("Alpaca's: write instruction and input as prompt, output as completion.")
    shared = [{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}]
    details = [each.detail for each in data_findings(configure(shared)) if "unknown role" in each.message]
    assert len(details) == 2
    assert all("write user for human, assistant for gpt" in detail for detail in details)


def test_a_test_split_of_another_name_is_what_the_mend_evaluates_on(
    configure: Configure, rows: Rows, tmp_path: Path
) -> None:
    config = configure(rows["messages"], eval_strategy="steps")
    write_jsonl(tmp_path / "data", rows["messages"][:3], "validation.jsonl")
    (error,) = [found for found in data_findings(config) if found.level == "error"]
    assert error.mend is not None
    assert error.mend.changes == {"dataset_test_split": "validation"}
    config.apply(error.mend.changes)
    assert [found.level for found in data_findings(config)] == ["ok", "ok"]
