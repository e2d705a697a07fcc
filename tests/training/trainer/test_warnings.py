"""What a run warns of: what its user can do something about, and each thing once."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from lorabench.training.config.presets import new_run
from lorabench.training.config.run_config import RunConfig
from lorabench.training.trainer.train import train
from tests.training.trainer.runs import at_step, run_file, warnings_of


def test_warnings_and_what_the_libraries_log_are_events_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn() -> None:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("a python warning", UserWarning, stacklevel=1)
            logging.getLogger("transformers.trainer").warning("a library's warning")
            logging.getLogger("torch.optim").error("an error\nin two lines")
            logging.getLogger("trl").info("not this one")
            logging.getLogger("asyncio").warning("nor the screens' loop")

    at_step(monkeypatch, 1, warn)
    with pytest.warns(UserWarning, match="a python warning"):
        train(run_file(tmp_path, max_steps=1))
    texts = warnings_of(tmp_path / "run")
    for text in ("a python warning", "a library's warning", "an error in two lines"):
        assert texts.count(text) == 1
    assert not {"not this one", "nor the screens' loop"}.intersection(texts)


@pytest.mark.filterwarnings("always::FutureWarning")
def test_a_new_run_trains_without_a_warning(tmp_path: Path) -> None:
    config = RunConfig.load(new_run(tmp_path / "run"))
    config.apply({"max_steps": 2, "warmup_steps": 0})
    config.save()
    with pytest.warns(FutureWarning, match="gradient_checkpointing"):  # as it is printed in output.log
        assert train(tmp_path / "run").state == "finished"
    assert warnings_of(tmp_path / "run") == []


@pytest.mark.filterwarnings("always::FutureWarning")
def test_of_the_deprecations_those_of_the_file_s_own_fields_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn() -> None:
        warnings.warn("`lora_r` is deprecated: use `rank`", FutureWarning, stacklevel=1)
        warnings.warn("`lora_rank` is deprecated", FutureWarning, stacklevel=1)

    at_step(monkeypatch, 1, warn)
    with pytest.warns(FutureWarning, match="`lora_rank`"):
        train(run_file(tmp_path, max_steps=1))
    assert [text for text in warnings_of(tmp_path / "run") if "deprecated" in text] == [
        "`lora_r` is deprecated: use `rank`"
    ]
