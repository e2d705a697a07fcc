"""Chat templates are programs of whoever made the model: one that does not end is stopped, and named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lorabench.training.preflight import slow_template
from lorabench.training.preflight.run import preflight
from tests.training.preflight_data.conftest import Configure, Rows

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
