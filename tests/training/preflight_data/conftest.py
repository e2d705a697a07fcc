"""Small data of every format that TRL trains on, and configurations that use them with the demo model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorabench.training.config.run_config import RunConfig

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Configure = Callable[..., RunConfig]


def write_jsonl(folder: Path, rows: Sequence[Any], name: str = "train.jsonl") -> Path:
    """Write rows into a folder that `dataset_name` can name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def turn(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


def conversation(*contents: Any) -> Row:
    """A conversation in which the user begins and the two take turns."""
    return {"messages": [turn(("user", "assistant")[at % 2], text) for at, text in enumerate(contents)]}


@pytest.fixture(scope="session")
def demo_rows(samples: Path) -> list[Row]:
    """The first forty conversations of the demo's data, one to three questions each."""
    lines = (samples / "demo-data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:40]]


@pytest.fixture(scope="session")
def rows(demo_rows: list[Row]) -> Rows:
    """The same forty conversations in each format."""
    messages = [row["messages"] for row in demo_rows]
    return {
        "messages": demo_rows,
        "chat-pairs": [{"prompt": turns[:-1], "completion": turns[-1:]} for turns in messages],
        "text-pairs": [
            {"prompt": turns[0]["content"] + "\n", "completion": turns[1]["content"]} for turns in messages
        ],
        "text": [{"text": " ".join(turn["content"] for turn in turns)} for turns in messages],
    }


@pytest.fixture
def configure(samples: Path, tmp_path: Path) -> Configure:
    """Make a configuration of the demo model, with a folder of these rows where rows are given."""

    def make(rows: Sequence[Any] | None = None, **fields: Any) -> RunConfig:
        if rows is not None:
            fields.setdefault("dataset_name", str(write_jsonl(tmp_path / "data", rows)))
        fields.setdefault("model_name_or_path", str(samples / "demo-model"))
        return RunConfig.of({"output_dir": str(tmp_path / "out"), "use_cpu": True, "bf16": False, **fields})

    return make
