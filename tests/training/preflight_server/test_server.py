"""The preflight's process as the workbench meets it: lines of JSON in, lines of JSON out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lorabench.training.preflight import run, server
from lorabench.training.preflight.finding import Finding, Mend
from tests.conftest import REPOSITORY

DEMO = """\
model_name_or_path: sample_adapters/demo-model
dataset_name: sample_adapters/demo-data
use_peft: true
lora_r: 4
lora_target_modules: [q_proj, v_projj]
assistant_only_loss: true
use_cpu: true
max_length: 64
"""


class Child:
    """The process, and a conversation with it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lorabench.training.preflight.server"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def hear(self, number: int) -> list[dict[str, Any]]:
        """Read until this request is done."""
        assert self.process.stdout is not None
        answers = []
        for line in self.process.stdout:
            answers.append(json.loads(line))
            if answers[-1] == {"id": number, "kind": "done"}:
                return answers
        raise AssertionError("the process has ended")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.process.kill()
    made.process.wait()


def test_findings_come_check_by_check_with_the_id_and_nothing_else_is_on_the_line(child: Child) -> None:
    child.ask(id=1, ask="preflight", text=DEMO, path=None, advice=True)
    answers = child.hear(1)
    assert {answer["id"] for answer in answers} == {1}
    names = answers[0]["checks"]
    assert answers[0]["kind"] == "begun"
    assert names[0] == "config"
    assert names[-1] == "advice"
    assert [answer["check"] for answer in answers if answer["kind"] == "checking"] == names
    found = [answer for answer in answers if answer["kind"] == "finding"]
    mistyped = next(f for f in found if f["check"] == "coverage" and f["level"] == "error")
    assert "v_projj" in mistyped["message"]
    assert mistyped["mend"]["changes"] == {"lora_target_modules": ["q_proj", "v_proj"]}
    assert not any("failed with" in f["message"] for f in found)


def test_rows_come_with_their_mask(child: Child) -> None:
    child.ask(id=2, ask="mask", text=DEMO, path=None, count=3)
    rows = [answer["row"] for answer in child.hear(2) if answer["kind"] == "row"]
    assert len(rows) == 3
    trained = [text for text, learns in rows[0]["tokens"] if learns]
    masked = [text for text, learns in rows[0]["tokens"] if not learns]
    assert "Ahoy" in "".join(trained)
    assert "What is the child of a pig called" in "".join(masked)


def test_fields_are_those_that_the_form_lacks(child: Child) -> None:
    from lorabench.training.config.field import Field
    from lorabench.training.config.fields import FIELDS

    child.ask(id=3, ask="fields")
    fields = next(answer["fields"] for answer in child.hear(3) if answer["kind"] == "fields")
    names = {Field(**field).name for field in fields}
    assert "neftune_noise_alpha" in names
    assert not names & FIELDS.keys()


def test_a_newer_request_takes_the_place_of_the_older_one(child: Child) -> None:
    child.ask(id=4, ask="preflight", text=DEMO, path=None)
    child.ask(id=5, ask="preflight", text=DEMO.replace("v_projj", "v_proj"), path=None)
    answers = child.hear(5)
    assert {"id": 4, "kind": "done"} not in answers
    assert not any(answer["id"] == 4 for answer in answers[answers.index(first_of(answers, 5)) :])


def first_of(answers: list[dict[str, Any]], number: int) -> dict[str, Any]:
    return next(answer for answer in answers if answer["id"] == number)


def test_text_that_is_no_yaml_is_a_finding(child: Child) -> None:
    child.ask(id=6, ask="preflight", text="lora_r: [8", path=None)
    errors = [a for a in child.hear(6) if a["kind"] == "finding" and a["level"] == "error"]
    assert any("Line 1" in error["message"] for error in errors)


def test_rows_that_cannot_be_had_are_said_with_a_hint(child: Child) -> None:
    child.ask(id=7, ask="mask", text="model_name_or_path: no/where\n", path=None, count=1)
    assert [answer["kind"] for answer in child.hear(7)] == ["failed", "done"]


def test_it_ends_when_its_input_is_closed_in_the_middle_of_a_check() -> None:
    child = Child()
    child.ask(id=1, ask="preflight", text=DEMO, path=None)
    assert child.process.stdout is not None
    child.process.stdout.readline()
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(timeout=20) == 0


def test_a_check_that_fails_is_an_error_that_names_the_exception_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(_config: object) -> Iterator[Finding]:
        yield Finding("first", "ok", "so far")
        raise ZeroDivisionError("as if")

    def works(_config: object) -> list[Finding]:
        return [Finding("second", "warning", "still here", mend=Mend("do", {"lora_r": 8}))]

    monkeypatch.setattr(run, "CHECKS", (run.Check("first", breaks), run.Check("second", works)))
    found = list(run.preflight(run.RunConfig("lora_r: 8\n")))
    assert [(f.check, f.level) for f in found] == [("first", "ok"), ("first", "error"), ("second", "warning")]
    assert found[1].message == "This check failed with ZeroDivisionError: as if"


def test_between_two_checks_a_newer_request_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    newer_is_there = threading.Event()
    made = []

    def first(config: run.RunConfig) -> list[Finding]:
        made.append(config.get("lora_r"))
        newer_is_there.wait(10)
        return []

    monkeypatch.setattr(run, "CHECKS", (run.Check("first", first), run.Check("second", first)))
    read_end, write_end = os.pipe()
    replies = io.StringIO()
    ended = threading.Event()

    def end(_status: int) -> None:
        ended.set()
        threading.Event().wait()

    monkeypatch.setattr(server.os, "_exit", end)
    requests = os.fdopen(write_end, "w")
    threading.Thread(target=server.serve, args=(os.fdopen(read_end), replies), daemon=True).start()
    for number in (1, 2):
        print(json.dumps({"id": number, "ask": "preflight", "text": f"lora_r: {number}\n"}), file=requests)
        requests.flush()
    requests.close()
    assert ended.wait(10)
    newer_is_there.set()
    while '"done"' not in replies.getvalue():
        threading.Event().wait(0.01)
    assert made in ([1, 2, 2], [2, 2])
