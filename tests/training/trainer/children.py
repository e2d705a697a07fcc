"""Trainings in processes of their own that have the libraries at hand: forked from one that imported them.

They run the entry point itself; what a test wants to go wrong in one is done in it before it trains.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Child = Any
# CUDA cannot be used in a fork of a process that has looked for it, as bitsandbytes does when imported.
_START = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")


def start(path: Path, *options: str, prepare: Callable[..., None] | None = None, given: Any = ()) -> Child:
    """Train `path` in a child, after `prepare(*given)` was done in it."""
    _START.set_forkserver_preload(["lorabench.training.trainer.build", "lorabench.training.trainer.callback"])
    child = _START.Process(target=_train, args=(path, options, prepare, given))
    child.start()
    return child


def ended(child: Child, seconds: float = 60.0) -> int:
    """Wait for a child's end; return its exit code, negative for a signal."""
    child.join(seconds)
    assert child.exitcode is not None, "the training goes on"
    return int(child.exitcode)


def _train(path: Path, options: tuple[str, ...], prepare: Callable[..., None] | None, given: Any) -> None:
    from lorabench.training.trainer.__main__ import main

    if prepare is not None:
        prepare(*given)
    sys.exit(main([str(path), *options]))


def die_at_step(step: int) -> None:
    """Let the process be killed, as by the kernel, when this step ends."""
    _on("on_step_end", step, lambda: os.kill(os.getpid(), signal.SIGKILL))


def signal_self_at_step(step: int, *numbers: int) -> None:
    """Let the process get these signals, one after the other, when this step begins."""

    def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    _on("on_step_begin", step - 1, send)


def die_while_saving(step: int) -> None:
    """Let the process be killed when it has written half of this checkpoint's optimizer."""
    save = torch.save

    def torn(value: Any, file: Any, *rest: Any, **more: Any) -> None:
        save(value, file, *rest, **more)
        if f"checkpoint-{step}" in str(file) and str(file).endswith("optimizer.pt"):
            os.truncate(file, Path(file).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = torn


def print_at_step(step: int) -> None:
    """Let everything that can print do so, and a handler that was made before the output was moved."""
    import logging

    early = logging.StreamHandler()
    logger = logging.getLogger("early")
    logger.addHandler(early)
    logger.propagate = False
    _on("on_step_end", step, lambda: _print_all(logger))


def _print_all(logger: Any) -> None:
    import ctypes
    import logging
    import subprocess
    import warnings

    from tqdm import tqdm

    print("by print", flush=True)  # noqa: T201
    os.write(1, b"by write 1\n")
    os.write(2, b"by write 2\n")
    c = ctypes.CDLL(None)
    c.puts(b"by C")
    c.fflush(None)
    subprocess.run(["echo", "by a child"], check=True)
    logger.warning("by an early handler")
    logging.getLogger("nobody's").warning("by a logger that nobody handles")
    warnings.warn("by a warning", UserWarning, stacklevel=1)
    for _ in tqdm(range(1), desc="by tqdm"):
        pass
    print("by __stderr__", file=sys.__stderr__, flush=True)


def be_rank(rank: int, port: int, prepare: Callable[..., None] | None = None, given: Any = ()) -> None:
    """Let the process be one of two, as a launcher would start it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if prepare is not None:
        prepare(*given)


def break_at_step(step: int) -> None:
    """Let something fail when this step ends."""

    def fail() -> None:
        raise RuntimeError("this process broke")

    _on("on_step_end", step, fail)


def lose_the_loss_at_step(step: int) -> None:
    """Let the loss of this step be NaN in this process alone."""
    from lorabench.training.trainer.watched import WatchedTrainer

    compute_loss = WatchedTrainer.compute_loss

    def lost(self: Any, *arguments: Any, **options: Any) -> Any:
        loss = compute_loss(self, *arguments, **options)
        return loss * float("nan") if self.state.global_step + 1 == step else loss

    WatchedTrainer.compute_loss = lost  # type: ignore[method-assign]


def limit_files(size: int) -> None:
    """Let no file grow past this size, as a disk that is full would."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fill_at_step(disk: Path, full: int, room: int | None, temporary: Path | None = None) -> None:
    """Let nothing more fit on a disk when one step ends, until another one begins."""
    from tests.places import fill

    _on("on_step_end", full, lambda: fill(disk))
    if room is not None:
        _on("on_step_begin", room, lambda: (disk / "filler").unlink())
    tempfile.tempdir = None if temporary is None else str(temporary)


def lose_folder_at_step(folder: Path, step: int, other: Path | None = None) -> None:
    """Let somebody remove the run's folder, or give it another name, when this step ends."""
    _on("on_step_end", step, lambda: folder.rename(other) if other else shutil.rmtree(folder))


def fail_to_write_in(name: str) -> None:
    """Let no weights be written into a folder of this name."""
    import errno

    import peft.peft_model

    save = peft.peft_model.safe_save_file

    def fail(tensors: Any, path: str, **more: Any) -> None:
        if name in Path(path).parts:
            Path(path).write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path, **more)

    peft.peft_model.safe_save_file = fail


def _on(event: str, step: int, do: Callable[[], None]) -> None:
    from lorabench.training.trainer.callback import RunCallback

    original = getattr(RunCallback, event)

    def then(self: Any, args: Any, state: Any, control: Any, **more: Any) -> Any:
        if state.global_step == step:
            do()
        return original(self, args, state, control, **more)

    setattr(RunCallback, event, then)
