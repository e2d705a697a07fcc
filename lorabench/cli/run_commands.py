"""The commands of a run before it trains, as typer sees them: new, check, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli.options import JsonOption, RunArgument


def new_command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="The run's folder.", show_default=False)
    ] = None,
    preset: Annotated[str, typer.Option(help="What to begin with: style, qlora, all-linear.")] = "style",
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The base model: a folder or a hub name.", show_default="demo"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A folder or a hub name (dataset_name), or a single file (datasets).",
            show_default="demo",
        ),
    ] = None,
    fields: Annotated[bool, typer.Option("--fields", help="List the fields that it can have.")] = False,
) -> None:
    """Write the run.yaml of a new run, in TRL's own format.

    As it is written it trains the demo model on the demo data.

    \b
    Example: lorabench new my-run
             lorabench new my-qlora-run --preset qlora --model Qwen/Qwen2.5-7B
             lorabench new --fields
    """
    from lorabench.cli.new import list_fields, new
    from lorabench.cli.output import Page, emit

    if fields == (folder is not None):
        raise typer.BadParameter("name a folder, or ask for --fields.", param_hint="FOLDER")
    emit(list_fields(Page.to(None)) if folder is None else new(folder, preset, model, data), None)


def check_command(
    path: RunArgument,
    advice: Annotated[bool, typer.Option("--advice", help="Add advice, each with its source.")] = False,
    json: JsonOption = False,
) -> None:
    """Say whether a configuration will train, before it starts.

    Modules that match, trainable share, steps, data, loss mask, memory, resuming,
    serving. The exit status is 1 when a finding is an error.

    \b
    Example: lorabench new my-run; lorabench check my-run
             lorabench check my-run/run.yaml --advice --json
    """
    from lorabench.cli.check import check

    raise typer.Exit(check(path, advice=advice, json=json))


def audit_command(
    path: RunArgument,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimizer steps of each kind.")] = 3,
    every_tensor: Annotated[bool, typer.Option("--all", help="List every tensor.")] = False,
    json: JsonOption = False,
) -> None:
    """Say whether the weights change by what was asked for.

    Builds the run as configured and takes a few steps, under plain SGD and under its
    own optimizer; nothing is saved. Compares parameters before and after each step
    with the gradient that the optimizer used. The exit status is 1 when a finding is
    an error.

    \b
    Example: lorabench new my-run; lorabench audit my-run
             lorabench audit my-run/run.yaml --steps 5 --json
    """
    from lorabench.cli.audit import audit

    raise typer.Exit(audit(path, steps=steps, every_tensor=every_tensor, json=json))
