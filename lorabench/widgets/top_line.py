"""The line at the top of every screen: where you are, what is open, and what it runs on."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from lorabench.files import real
from lorabench.runs.device import Device
from lorabench.text import human_bytes, shorten, visible

TABS = (
    ("bench", "1", "Bench"),
    ("config", "2", "Config"),
    ("train", "3", "Train"),
    ("layers", "4", "Layers"),
    ("spectra", "5", "Spectra"),
    ("base", "6", "Base"),
)
# The tabs, each with a blank at either side, and the place's own two blanks; the program's name beside them.
TAKEN = sum(len(f" {key} {title} ") for _, key, title in TABS) + 2
BRAND = len(" lorabench ")
NARROW = 100
_MAKERS = {"NVIDIA", "GeForce", "Tesla", "Quadro"}
_KINDS = {"Ti", "SUPER"}


class TopLine(Horizontal):
    """Screens to switch to, the folder, the open adapter, and the device with its memory."""

    DEFAULT_CSS = """
    TopLine { dock: top; height: 1; background: $panel; }
    TopLine Static { width: auto; padding: 0 1; }
    TopLine .tab { padding: 0 1; }
    TopLine .tab.-here { background: $primary; color: $text; text-style: bold; }
    TopLine .tab:hover { background: $boost; }
    TopLine #place { width: 1fr; text-align: right; color: $text-muted; }
    TopLine #running { color: $text-success; text-style: bold; padding: 0 1 0 0; }
    """

    def __init__(self, here: str) -> None:
        super().__init__()
        self.here = here
        self.device = self.short = ""
        self.running = ""

    def compose(self) -> ComposeResult:
        yield Static(Text("lorabench", style="bold"), id="brand")
        for mode, key, title in TABS:
            yield Tab(mode, f"{key} {title}", here=mode == self.here)
        yield Static(id="place")
        yield Static(id="running")

    def show(self, folder: Path, opened: str, device: Device | None, running: str = "") -> None:
        """Write the folder, the open adapter's name, the device, and the run that goes on."""
        self.folder, self.opened, self.running = folder, opened, running
        if device is not None:
            self.device, self.short = device_text(device), short_name(device.name)
        self.paint()

    def paint(self) -> None:
        """Fit the run that goes on, then folder and adapter, then the device into what the tabs leave."""
        brand = self.query_one("#brand")
        brand.display = self.size.width >= NARROW  # which program this is, one knows; not so which folder
        room = max(10, self.size.width - TAKEN - BRAND * brand.display)
        running = shorten(f"● {visible(self.running)}", room - 1) if self.running else ""
        going_on = self.query_one("#running", Static)
        going_on.display = bool(running)
        going_on.update(Text(running, no_wrap=True))
        room -= len(running) + bool(running)
        device = self.device if room > 60 else self.short
        opened = f" ▸ {visible(self.opened)}" if self.opened else ""
        names, left = f"{home_path(self.folder)}{opened}", room - len(device) - 3
        if len(names) > left and left < 20:  # one name says more than what is left of a path
            names = visible(self.opened or self.folder.name or real(self.folder).name)
        shown = f"{shorten(names, left)}  {device}".rstrip() if room > 10 else ""
        self.query_one("#place", Static).update(Text(shown, no_wrap=True))

    def on_resize(self) -> None:
        if hasattr(self, "folder"):
            self.paint()


class Tab(Static):
    """A screen's number and name; a click switches to it."""

    def __init__(self, mode: str, label: str, *, here: bool) -> None:
        super().__init__(Text(label), classes="tab -here" if here else "tab")
        self.mode = mode

    async def on_click(self) -> None:
        await self.run_action(f"app.show('{self.mode}')")


def device_text(device: Device) -> str:
    """Return `NVIDIA H100 41.0/80.0 GB`, or the name alone where the memory is unknown."""
    if device.used is None or device.total is None:
        return visible(device.name)
    return f"{visible(device.name)} {device.used / 1e9:.1f}/{human_bytes(device.total)}"


def short_name(device: str) -> str:
    """Return `H100` of `NVIDIA H100 80GB HBM3`, `RTX 4090` of `NVIDIA GeForce RTX 4090`, `CPU` of a CPU's."""
    words = [word for word in visible(device).partition(",")[0].split() if word not in _MAKERS]
    number = next((at for at, word in enumerate(words) if any(map(str.isdigit, word))), len(words))
    kind = [word for word in words[number + 1 : number + 3] if word in _KINDS]
    return " ".join([*words[: number + 1], *kind])


def home_path(path: Path) -> str:
    """Return the path as a person writes it, with ~ for the home folder, control characters visible.

    `.` and `..`, which name nothing, stand for the folders that they are.
    """
    home = Path.home()
    if path.name in ("", ".."):
        path = real(path)
    if path != home and path.is_relative_to(home):
        return visible(f"~/{path.relative_to(home)}")
    return visible(path)
