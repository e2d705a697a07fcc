"""A preflight's process that needs no torch: it answers by the protocol, with findings that tests know.

What it finds hangs on the text that it is asked about, so that tests see an edit arrive:
`lora_r: 7` has a mend, `crash` ends the process, `wait` leaves the checks open, `stuck` never
comes out of the first one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from typing import Any

CHECKS = ["config", "coverage", "trainable", "data", "memory"]
TOKENS = ["<|user|>", "Say", " [red]hi[/foo]", "\n", "<|assistant|>", "Aye", "!", "<|end|>"]
ROWS = [
    {"number": 3, "tokens": [(token, at > 4) for at, token in enumerate(TOKENS)], "cut": 2, "dropped": False},
    {"number": 4, "tokens": [(token, False) for token in TOKENS], "cut": 0, "dropped": True},
]
FIELDS = [
    {
        "name": "neftune_noise_alpha",
        "kinds": ["float"],
        "default": None,
        "help": "noise on the embeddings",
        "owner": "SFTConfig",
        "choices": [],
        "items": "str",
        "optional": True,
    }
]


def findings(text: str) -> list[dict[str, Any]]:
    """The findings on a configuration."""
    r = re.search(r"lora_r: (\S+)", text)
    rank = r[1] if r else "16"
    odd = rank == "7"
    return [
        finding("config", "ok", "every field has a value that it can have"),
        finding("coverage", "ok", "q_proj matches 4 modules (layers 0–3)"),
        {
            **finding("coverage", "error", "q_projj matches nothing", "It was looked for in 28 modules."),
            "field": "lora_target_modules",
        },
        finding("trainable", "ok", f"r = {rank}: 61,440 of 3,100,000 = 1.98 %"),
        finding(
            "data",
            "warning" if odd else "ok",
            "r = 7 is no usual rank"
            if odd
            else "1,000 rows, messages; tokens p50 31, p95 64, max 90; 0 rows cut",
            mend={"label": "set lora_r to 8", "changes": {"lora_r": 8}} if odd else None,
        ),
        finding("memory", "advice", "between 0.4 and 0.9 GB of the 25 GB at hand"),
    ]


def finding(check: str, level: str, message: str, detail: str = "", mend: object = None) -> dict[str, Any]:
    """A finding as it is sent."""
    return {"check": check, "level": level, "message": message, "detail": detail, "mend": mend}


def answer(number: int, **fields: object) -> None:
    """Send one line."""
    print(json.dumps({"id": number, **fields}), flush=True)  # noqa: T201


def main() -> None:
    """Answer until the input is closed."""
    for line in sys.stdin:
        request = json.loads(line)
        number, text = request["id"], request.get("text", "")
        if "crash" in text:
            sys.stderr.write("MemoryError: as if\n")
            sys.stderr.flush()
            os._exit(1)
        if request["ask"] == "mask":
            for row in ROWS:
                answer(number, kind="row", row=row)
        elif request["ask"] == "fields":
            answer(number, kind="fields", fields=FIELDS)
        else:
            answer(number, kind="begun", checks=CHECKS)
            for check in CHECKS:
                answer(number, kind="checking", check=check)
                if "stuck" in text:
                    threading.Event().wait()
                if "wait" in text and check == "data":
                    break
                for found in findings(text):
                    if found["check"] == check:
                        answer(number, kind="finding", **found)
            else:
                answer(number, kind="done")
            continue
        answer(number, kind="done")


if __name__ == "__main__":
    main()
