"""The keys of the Train screen, and which of them the line at the bottom has a place for."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from lorabench.files import is_file
from lorabench.runs.history import ADAPTER_FILE
from lorabench.screens.train_watch import RunWatch

TRAIN_KEYS: list[BindingType] = [
    # The most wanted first: where the line of keys is short, the last give way.
    Binding("T", "train_anyway", "train anyway", id="train.anyway", tooltip="in spite of errors"),
    Binding("x", "stop", "stop", id="train.stop", tooltip="save and stop at the next step; asks first"),
    Binding("t", "train", "train", id="train.train", tooltip="train this run, or go on"),
    Binding("enter", "open", "layers", id="train.open", tooltip="open the run's adapter"),
    Binding("k", "checkpoint", "checkpoint", id="train.checkpoint", tooltip="save a checkpoint now"),
    Binding("space", "freeze", "freeze", id="train.freeze", tooltip="freeze the view; again goes on"),
    Binding("slash", "filter", "search", key_display="/", id="train.search", tooltip="search the log"),
    Binding("p", "panel", "panel", id="train.panel", tooltip="one panel alone, or all"),
    Binding("w", "warnings", "warnings", id="train.warnings", tooltip="all warnings"),
    Binding("d", "app.detach", "detach", id="train.detach", tooltip="quit; the run trains on"),
    Binding("o", "behind", "other loss", id="train.behind", tooltip="another run's loss behind this one's"),
    Binding("l", "log_axis", "log axis", id="train.log_axis", tooltip="logarithmic loss"),
    Binding("a", "audit", "audit", id="train.audit", tooltip="audit some steps' updates"),
    Binding("y", "copy", "copy", id="train.copy", tooltip="copy the error, or the path"),
    Binding("2", "config", "Config", show=False, id="train.config", tooltip="the configuration of this run"),
    Binding("escape", "unfilter", "no search", show=False, id="train.unfilter"),
]


def adapter_is_saved(watch: RunWatch) -> bool:
    """Say whether the run has saved its adapter."""
    return is_file(watch.folder / ADAPTER_FILE)


def idle_keys(watch: RunWatch | None) -> frozenset[str]:
    """Return the actions that would do nothing for this run as it is now but say so."""
    if watch is None:
        return frozenset(key.action for key in TRAIN_KEYS if isinstance(key, Binding))
    going = watch.going
    useful = {
        "stop": going,
        "checkpoint": going,
        "freeze": going,
        "app.detach": going,
        "train": not going,
        "train_anyway": bool(watch.record.findings),
        "open": not going and adapter_is_saved(watch),
        "warnings": watch.record.warning_count > 0,
        "behind": watch.record.loss is not None,
        "log_axis": watch.record.loss is not None,
    }
    return frozenset(action for action, does in useful.items() if not does)
