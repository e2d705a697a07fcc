"""A painting is as high as what is painted on it."""

from __future__ import annotations

from rich.text import Text
from textual.app import App, ComposeResult

from lorabench.widgets.painting import Painting


class Painted(App[None]):
    CSS = "Painting { height: auto; }"

    def compose(self) -> ComposeResult:
        yield Painting()


async def test_it_becomes_lower_also_when_a_layout_has_overtaken_its_request() -> None:
    async with Painted().run_test() as pilot:
        painting = pilot.app.query_one(Painting)
        painting.paint([Text("seven")] * 7)
        pilot.app.screen._refresh_layout()
        painting.paint([Text("four")] * 4)
        await pilot.pause()
        painting.paint([Text("four")] * 4)
        await pilot.pause()
        assert painting.size.height == 4
