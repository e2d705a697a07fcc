"""The commands as typer sees them: arguments, options and help; the work is done elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import lorabench
from lorabench.cli.options import CsvOption, JsonOption, OutputOption, PathArgument
from lorabench.cli.run_commands import audit_command, check_command, new_command
from lorabench.cli.signals import end_by_exception
from lorabench.cli.train_command import stop_command, train_command, watch_command

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Open the workbench on PATH, or look at adapters from the command line.

    \b
    lorabench PATH           open an adapter, or a folder of adapters and runs
    lorabench                open the current folder
    lorabench analyze PATH   what the update became, layer by layer
    lorabench base PATH      against the base model that it changes
    lorabench new FOLDER     begin a run: write its run.yaml
    lorabench check RUN      know before it starts whether it will work
    lorabench train RUN      train it, and follow it

    \b
    Example: lorabench sample_adapters
             lorabench analyze sample_adapters/style-clean-r16
    """,
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    end_by_exception()
    try:
        app(list(arguments), prog_name="lorabench")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lorabench {lorabench.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command("open")
def open_command(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="A folder, an adapter or a run.", show_default="this folder"),
    ] = None,
    refresh: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.1, max=60, help="Between two paintings of a run; 1 for a slow line."
        ),
    ] = 0.5,
    own_process: Annotated[
        bool, typer.Option("--own-process", help="Train in a process of its own, not in a thread of this.")
    ] = False,
    mouse: Annotated[bool, typer.Option("--mouse/--no-mouse", help="Listen to the mouse.")] = True,
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Its colours: textual-light, nord, …; ctrl+p lists them.", show_default=False
        ),
    ] = None,
) -> None:
    """Open the workbench; lorabench PATH is the same.

    What anything prints while it is open goes to a log in the folder for
    temporary files, and from a run that trains to output.log in its folder.
    TEXTUAL_THEME in the environment keeps a theme, NO_COLOR=1 takes the colours away.

    \b
    Example: lorabench open sample_adapters
             lorabench sample_adapters --theme textual-light
             lorabench sample_adapters --refresh 1 --no-mouse
    """
    from lorabench.cli.workbench import Options, open_path

    options = Options(refresh, own_process, mouse, theme)
    raise typer.Exit(open_path(None if path is None else str(path), options=options))


@app.command("describe")
def describe_command(
    path: PathArgument,
    factors: Annotated[bool, typer.Option("--factors", help="A row for A and one for B.")] = False,
    json: JsonOption = False,
    csv: CsvOption = False,
    output: OutputOption = None,
) -> None:
    """Say what is in an adapter, from its header.

    Format, base model, rank, scaling, targets, shapes, files; no weight is read.

    \b
    Example: lorabench describe sample_adapters/style-clean-r16
             lorabench describe sample_adapters/dora-r16 --factors --csv
    """
    from lorabench.cli.describe import describe
    from lorabench.cli.output import Page, emit

    emit(describe(path, Page.to(output), factors=factors, style=_style(json, csv, output)), output)


def _complete_column(incomplete: str) -> list[tuple[str, str]]:
    from lorabench.spectra.columns import COLUMNS

    return [(column.name, column.help) for column in COLUMNS if column.name.startswith(incomplete)]


@app.command("analyze")
def analyze_command(
    path: PathArgument,
    weightwatcher: Annotated[
        bool, typer.Option("--weightwatcher", help="WeightWatcher's columns and numbers (of B·A, unscaled).")
    ] = False,
    factors: Annotated[bool, typer.Option("--factors", help="A and B, each alone, in place of ΔW.")] = False,
    json: JsonOption = False,
    csv: CsvOption = False,
    output: OutputOption = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Sort by a column; -COLUMN from the largest down.",
            show_default=False,
            autocompletion=_complete_column,
        ),
    ] = "",
    filter_text: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="EXPR",
            help="Keep the layers that fit, as written above.",
            show_default=False,
        ),
    ] = "",
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the alphas and the spectra below the table.")
    ] = False,
) -> None:
    """Compute what the update became.

    For each layer: norms, ranks, alpha with its 90 % interval, and a verdict.

    \b
    Example: lorabench analyze sample_adapters/style-clean-r16
             lorabench analyze sample_adapters/dora-r16 --filter "alpha<2"
             lorabench analyze sample_adapters/dora-r16 --sort -norm --csv
             lorabench analyze sample_adapters/dora-r16 -o report.json

    \b
    Columns for --sort and --filter: layer module type shape kind r scaling norm
    sigma1 stable_rank effective_rank rank90 rank95 rank99 alpha alpha_low
    alpha_high tail ks xmin norm_a norm_b adapter verdict reason. A filter joins
    comparisons (< <= > >= = != and ~ for "contains") with and, or, not:
    alpha<2 and module~v_proj.
    """
    from lorabench.cli.analyze import Options, analyze
    from lorabench.cli.output import Page, emit

    style = _style(json, csv, output)
    if plot and style != "text":
        raise typer.BadParameter(f"plots cannot be drawn into {style}.", param_hint="--plot")
    emit(
        analyze(path, Page.to(output), Options(style, weightwatcher, factors, sort, filter_text, plot)),
        output,
    )


@app.command("base")
def base_command(
    path: PathArgument,
    base_folder: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            help="The base model's folder, or its name on the hub.",
            show_default="as it names it",
        ),
    ] = None,
    merged: Annotated[
        bool,
        typer.Option(
            "--merged/--no-merged", help="Look at W + ΔW too; without, what the cache knows is instant."
        ),
    ] = True,
    json: JsonOption = False,
    csv: CsvOption = False,
    output: OutputOption = None,
) -> None:
    """Compare an adapter with the base model that it changes.

    For each layer: alpha of W, of ΔW and of W + ΔW, the relative size of ΔW, intruder
    dimensions; and whether the alphas go together. A base that is neither a folder nor in
    the Hugging Face cache is fetched from the hub: of its weights the files that hold what
    the adapter changes (HF_HUB_OFFLINE=1 forbids it). W's numbers are kept for the next
    adapter of the same base. Ctrl-C ends it early and shows what is done.

    \b
    Example: lorabench base sample_adapters/style-clean-r16
             lorabench base sample_adapters/dora-r16 --no-merged --csv
    """
    from lorabench.cli.base import base

    style = _style(json, csv, output)
    raise typer.Exit(base(path, base_folder, merged=merged, style=style, output=output))


app.command("new")(new_command)
app.command("check")(check_command)
app.command("train")(train_command)
app.command("watch")(watch_command)
app.command("stop")(stop_command)
app.command("audit")(audit_command)


@app.command("serve-check")
def serve_check_command(path: PathArgument, json: JsonOption = False) -> None:
    """Say whether vLLM will serve an adapter, and by which command.

    The exit status is 1 when vLLM would refuse it.

    \b
    Example: lorabench serve-check sample_adapters/style-clean-r16
             lorabench serve-check sample_adapters/style-overtrained-r32 --json
    """
    from lorabench.cli.serve_check import serve_check

    raise typer.Exit(serve_check(path, json=json))


@app.command("demo")
def demo_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where the demo is, or will be."),
    ] = Path("sample_adapters"),
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Train the demo model and all sample adapters again.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the rebuild.")] = 0,
    ask: Annotated[
        str, typer.Option(metavar="QUESTION", help="Ask the demo model.", show_default=False)
    ] = "",
    adapter: Annotated[
        Path | None, typer.Option(help="Answer with this adapter.", show_default=False)
    ] = None,
) -> None:
    """Ask the demo model, or make it again.

    A rebuild trains the model and all sample adapters; that takes some minutes.

    \b
    Example: lorabench demo --ask "What is the capital of France?"
             lorabench demo --rebuild my_adapters
    """
    from lorabench.cli.demo import ask_demo, rebuild_demo

    if rebuild == bool(ask):
        raise typer.BadParameter("choose one of --ask and --rebuild.", param_hint="--ask, --rebuild")
    if rebuild:
        rebuild_demo(folder, seed)
    else:
        ask_demo(folder, adapter, ask)


def _style(json: bool, csv: bool, output: Path | None) -> str:
    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv.", param_hint="--json, --csv")
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    asked, named = "json" if json else "csv" if csv else "", suffix if suffix in ("json", "csv") else ""
    if asked and named and asked != named:
        raise typer.BadParameter(
            f"{asked} cannot be written to a .{named} file.", param_hint=f"--{asked}, -o"
        )
    return asked or named or "text"
