"""Chat templates are programs of whoever made the model: one that does not end is stopped, and named."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import jinja2
import pytest

from lorabench.errors import LorabenchError
from lorabench.training.audit.probe import audit
from lorabench.training.config.run_config import RunConfig
from lorabench.training.preflight import slow_template
from lorabench.training.preflight.run import preflight
from lorabench.training.trainer.train import train
from tests.training.preflight_data.conftest import Configure, Rows
from tests.training.trainer.runs import run_file

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("assistant_only_loss", [False, True])
def test_a_template_that_does_not_end_is_an_error_that_names_it(
    configure: Configure,
    rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assistant_only_loss: bool,
) -> None:
    monkeypatch.setattr(slow_template, "LIMIT", 1.0)
    endless = tmp_path / "endless.jinja"
    endless.write_text(LOOP + "{% generation %}{% endgeneration %}")
    config = configure(
        rows["messages"], chat_template_path=str(endless), assistant_only_loss=assistant_only_loss
    )
    begun = time.process_time()
    (refused,) = [finding for finding in preflight(config, advice=True) if finding.check == "loss"]
    assert time.process_time() - begun < 15  # all checks wait for it once
    assert refused.level == "error"
    assert refused.message == (
        f"The chat template {endless} takes longer than 1 s to render the rows that are measured. "
        "Does it come to an end?"
    )


def test_neither_a_training_in_spite_of_it_nor_an_audit_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_template, "LIMIT", 1.0)
    endless = tmp_path / "endless.jinja"
    endless.write_text(LOOP + "{% generation %}{% endgeneration %}")
    path = run_file(tmp_path, chat_template_path=str(endless))
    told = f"The chat template {endless} takes longer than 1 s to render one row. Does it come to an end?"
    outcome = train(path, override=True)
    assert (outcome.state, outcome.error) == ("failed", told)
    with pytest.raises(LorabenchError) as refused:
        audit(RunConfig.load(path))
    assert refused.value.message == told


@pytest.mark.parametrize("each", [True, False])
def test_many_short_renderings_may_take_long_together(monkeypatch: pytest.MonkeyPatch, each: bool) -> None:
    monkeypatch.setattr(slow_template, "LIMIT", 0.5)
    short = jinja2.Environment().from_string("{% for a in range(9999) %}{% endfor %}")
    until = time.process_time() + 1.5
    with contextlib.ExitStack() as stack:
        if not each:
            stack.enter_context(pytest.raises(slow_template.SlowTemplate))
        stack.enter_context(slow_template.templates_bounded(each=each))
        while time.process_time() < until:
            short.render()
