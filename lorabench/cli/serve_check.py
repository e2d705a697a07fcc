"""`lorabench serve-check`: will vLLM serve this adapter, and by which command? No torch here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lorabench.cli.adapter import adapter_at
from lorabench.cli.output import Page, emit
from lorabench.spectra.report import dump_json
from lorabench.training.preflight.serving import serve_findings


def serve_check(path: Path, *, json: bool) -> int:
    """Print what vLLM needs and refuses, and the command to copy; return 1 where it refuses.

    The command line has one argument, ADAPTER, and one option, --json.

    Raises:
        AdapterError: nothing there that can be opened as an adapter.
    """
    found = serve_findings(adapter_at(path))
    if json:
        emit(dump_json({"adapter": str(path), "findings": [asdict(finding) for finding in found]}), None)
    else:
        page = Page.to(None)
        page.pairs((finding.level, finding.message) for finding in found)
        for finding in found:
            if finding.detail:
                page.line()
                page.line(finding.detail)
        emit(page.text(), None)
    return 1 if any(finding.level == "error" for finding in found) else 0
