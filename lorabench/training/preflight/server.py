"""Answer the Config screen from a process of its own, so that torch never enters the workbench.

`python -m lorabench.training.preflight.server` reads one JSON object a line from standard input:

- `{"id": 1, "ask": "preflight", "text": YAML, "path": FILE or null, "advice": true}`
- `{"id": 2, "ask": "mask", "text": YAML, "path": FILE or null, "count": 20}`
- `{"id": 3, "ask": "fields"}`: those that TRL knows and lorabench's form does not

and answers on standard output, every line with the request's id and a `kind`: `begun` (with the names of
the checks), `checking`, `finding`, `row`, `fields`, `failed` (with `message` and `hint`), and `done` at the
end of each request that no newer one of its kind has replaced. It ends when its input is closed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from lorabench.errors import LorabenchError
from lorabench.training.config.run_config import RunConfig

Request = dict[str, Any]
Answer = dict[str, Any]


class Inbox:
    """The newest request of each kind; an older one that nobody has taken yet is replaced."""

    def __init__(self) -> None:
        self._waiting: dict[str, Request] = {}
        self._arrived = threading.Condition()

    def put(self, request: Request) -> None:
        """Leave a request."""
        with self._arrived:
            self._waiting[request["ask"]] = request
            self._arrived.notify()

    def take(self, *, wait: bool) -> Request | None:
        """Take a request; where there is none, wait for one or return None."""
        with self._arrived:
            while wait and not self._waiting:
                self._arrived.wait()
            return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None


def answers(request: Request) -> Iterator[Answer]:
    """Answer a request, step by step: between two answers a newer request may take its place."""
    steps = {"preflight": _preflight, "mask": _mask, "fields": _fields}[request["ask"]]
    try:
        yield from steps(request)
    except LorabenchError as error:
        yield {"kind": "failed", "message": error.message, "hint": error.hint}
    yield {"kind": "done"}


def _preflight(request: Request) -> Iterator[Answer]:
    from lorabench.training.preflight.run import checks_of, findings_of

    config = _config(request)
    checks = checks_of(config, advice=bool(request.get("advice")))
    yield {"kind": "begun", "checks": [check.name for check in checks]}
    for check in checks:
        yield {"kind": "checking", "check": check.name}
        for finding in findings_of(check, config):
            yield {"kind": "finding", **asdict(finding)}


def _mask(request: Request) -> Iterator[Answer]:
    from lorabench.training.preflight.mask import mask_rows

    for row in mask_rows(_config(request), range(request["count"])):
        yield {"kind": "row", "row": asdict(row)}


def _fields(_request: Request) -> Iterator[Answer]:
    from lorabench.training.config.fields import FIELDS
    from lorabench.training.config.trl_fields import all_fields

    rest = [asdict(field) for name, field in all_fields().items() if name not in FIELDS]
    yield {"kind": "fields", "fields": [{k: v for k, v in field.items() if k != "range"} for field in rest]}


def _config(request: Request) -> RunConfig:
    path = request.get("path")
    return RunConfig(request["text"], Path(path) if path else None)


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until they end, which ends the process at once, in the middle of a check or not."""
    inbox = Inbox()

    def read() -> None:
        for line in requests:
            inbox.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    running: dict[str, tuple[int, Iterator[Answer]]] = {}
    while True:
        request = inbox.take(wait=not running)
        if request is not None:
            running[request["ask"]] = request["id"], answers(request)
        # What a person waits for with nothing else on the screen goes first.
        ask = "mask" if "mask" in running else next(iter(running))
        number, steps = running[ask]
        answer = next(steps, None)
        if answer is None:
            del running[ask]
        else:
            replies.write(json.dumps({"id": number, **answer}, default=str) + "\n")
            replies.flush()


def main() -> None:
    """Serve on the standard streams; what the libraries print goes to standard error."""
    os.nice(5)  # the screen, and whoever types, go first
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
