"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PathArgument = Annotated[
    Path, typer.Argument(metavar="PATH", help="An adapter's folder, or its weights file.", show_default=False)
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run.yaml, or the folder that it is in.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Write CSV.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Write to this file; .json and .csv choose the format.", show_default=False
    ),
]
