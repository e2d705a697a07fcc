"""A small application, run as a script on a pty, around which everything prints that can."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

from textual.app import ComposeResult
from textual.widgets import Static

from lorabench.terminal.app import TerminalApp
from lorabench.terminal.terminal import Terminal

SOURCES = (
    "os.write-1",
    "os.write-2",
    "puts",
    "child-1",
    "child-2",
    "print",
    "stderr",
    "__stdout__",
    "__stderr__",
    "early-stream",
    "early-handler",
    "late-handler",
    "warning",
    "tqdm",
    "thread",
    "name-\udcff-of-a-file",
)

EARLY_STREAM = sys.stderr
EARLY = logging.getLogger("early")
EARLY.addHandler(logging.StreamHandler())


def make_noise(when: str) -> None:
    """Print from every source: the source and when."""
    from tqdm import tqdm

    texts = {source: f"NOISE {source} {when}\n" for source in SOURCES}
    os.write(1, texts["os.write-1"].encode())
    os.write(2, texts["os.write-2"].encode())
    c = ctypes.CDLL(None)
    c.puts(texts["puts"].strip().encode())
    c.fflush(None)
    subprocess.run(["echo", texts["child-1"].strip()], check=True)
    subprocess.run(["sh", "-c", 'echo "$0" >&2', texts["child-2"].strip()], check=True)
    print(texts["print"], end="")  # noqa: T201
    sys.stderr.write(texts["stderr"])
    assert sys.__stdout__ is not None
    sys.__stdout__.write(texts["__stdout__"])
    assert sys.__stderr__ is not None
    sys.__stderr__.write(texts["__stderr__"])
    EARLY_STREAM.write(texts["early-stream"])
    EARLY.warning(texts["early-handler"].strip())
    late = logging.getLogger(f"late {when}")
    late.addHandler(logging.StreamHandler())
    late.warning(texts["late-handler"].strip())
    warnings.warn(texts["warning"].strip(), stacklevel=1)
    for _ in tqdm(range(2), desc=texts["tqdm"].strip()):
        pass
    thread = threading.Thread(target=print, args=[texts["thread"].strip()])
    thread.start()
    thread.join()
    print(texts["name-\udcff-of-a-file"], end="")  # noqa: T201
    faulthandler.enable()  # raises where standard error has no fd


class NoisyApp(TerminalApp):
    """Makes noise on two keys: into the private log, and into a file that is named."""

    terminal: Terminal

    def __init__(self, terminal: Terminal, output: Path) -> None:
        super().__init__(terminal)
        self.output = output

    def compose(self) -> ComposeResult:
        yield Static(f"log {self.terminal.log.name}", markup=False)
        yield Static(id="said")

    def on_key(self, event: object) -> None:
        key = getattr(event, "key", "")
        if key == "n":
            make_noise("private")
        elif key == "o":
            self.terminal.log_to(self.output)
            make_noise("output")
            self.terminal.log_here()
            print("BACK")  # noqa: T201
        elif key == "q":
            self.exit()
        self.query_one("#said", Static).update(f"did {key}")


if __name__ == "__main__":
    own = Terminal()
    make_noise("before")
    NoisyApp(own, Path(sys.argv[1])).run()
    make_noise("after")
    own.give_back()
