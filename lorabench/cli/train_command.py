"""`lorabench train`, `watch` and `stop` as typer sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli.options import RunArgument


def train_command(
    path: RunArgument,
    detach: Annotated[
        bool, typer.Option("--detach", help="Come back once it trains, and leave it training.")
    ] = False,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--anew",
            help="Go on from the newest whole checkpoint, or start anew.",
            show_default="as the file says",
        ),
    ] = None,
    override: Annotated[
        bool, typer.Option("--override", help="Start in spite of the preflight's errors.")
    ] = False,
    accelerate: Annotated[
        Path | None,
        typer.Option(
            metavar="CONFIG",
            help="Start by accelerate launch with this configuration.",
            exists=True,
            dir_okay=False,
            show_default="as the file says",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--num-processes",
            metavar="N",
            min=1,
            help="Start N processes by accelerate launch.",
            show_default="as the file says",
        ),
    ] = None,
) -> None:
    """Train a run, and follow it.

    The training is a process of its own: it goes on when the terminal closes. Ctrl-C
    asks it to save and stop, a second one ends it at once. The exit status is 0 when
    it finished or was stopped, 1 when it failed, 2 when the preflight found errors.

    \b
    Example: lorabench new my-run; lorabench train my-run
             lorabench train my-run/run.yaml --resume
             lorabench train my-run --anew --detach; lorabench my-run
             lorabench train my-run --anew --num-processes 2
    """
    from lorabench.cli.train import Options, train

    raise typer.Exit(train(path, Options(detach, resume, override, accelerate, processes)))


def watch_command(path: RunArgument) -> None:
    """Follow a run, whoever trains it.

    Shows what it has logged, and goes on until nobody trains it. Ctrl-C ends the
    watching alone. The exit status is 0 when the run finished or was stopped, 1 when
    it failed.

    \b
    Example: lorabench train my-run --detach; lorabench watch my-run
    """
    from lorabench.cli.follow import watch

    raise typer.Exit(watch(path))


def stop_command(path: RunArgument) -> None:
    """Stop a run, whoever trains it: it saves first.

    \b
    Example: lorabench train my-run --detach; lorabench stop my-run
    """
    from lorabench.cli.follow import stop

    raise typer.Exit(stop(path))
