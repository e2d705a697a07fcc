"""The loss mask: rows as the trainer will see them, the tokens that it learns from marked."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from lorabench.text import visible

ROWS = 20
TRAINED = "bold underline"
LEGEND = "⟦underlined⟧ trained on · ←/→ row · b token borders · esc closes"


class MaskDialog(ModalScreen[None]):
    """Rows of tokens as they come in; trained spans stand underlined in ⟦ ⟧, masked tokens dim."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,m", "dismiss", "close", id="mask.close"),
        Binding("right,l,n", "walk(1)", "next row", id="mask.next"),
        Binding("left,h,p", "walk(-1)", "row before", id="mask.before"),
        Binding("b", "borders", "token borders", id="mask.borders"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.at = 0
        self.borders = False
        self.complete = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog mask") as dialog:
            dialog.border_title = "loss mask"
            dialog.border_subtitle = LEGEND
            yield Static("the rows are being prepared as the trainer would …", id="mask-facts")
            with VerticalScroll(id="mask-scroll"):
                yield Static(id="mask-row")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def hear(self, answer: dict[str, Any]) -> None:
        """Take what the preflight's process answers: rows, a failure, the end."""
        if answer["kind"] == "row":
            self.rows.append(answer["row"])
        elif answer["kind"] == "failed":
            self.complain(f"{answer['message']} {answer['hint']}".strip())
            return
        elif answer["kind"] == "done":
            self.complete = True
        self.draw()

    def complain(self, problem: str) -> None:
        """Say why there are no rows."""
        self.query_one("#mask-facts", Static).update(Text(f"✘ {visible(problem)}"))

    def draw(self) -> None:
        """Write the row that is looked at and, below it, as many of the next as there is room for."""
        if not self.rows:
            return
        room = self.query_one(VerticalScroll).size
        text = self._tokens_of(self.at)
        for at in range(self.at + 1, len(self.rows)):
            if _height(text, room.width) >= room.height:
                break
            text.append("\n\n").append(self._facts_of(at), "bold").append("\n\n")
            text.append_text(self._tokens_of(at))
        self.query_one("#mask-facts", Static).update(Text(self._facts_of(self.at), "bold"))
        self.query_one("#mask-row", Static).update(text)

    def on_resize(self) -> None:
        self.draw()

    def _facts_of(self, at: int) -> str:
        row = self.rows[at]
        count, trained = len(row["tokens"]), sum(learns for _, learns in row["tokens"])
        share = f": {100 * trained / count:.0f} %" if count else ""
        facts = [
            f"row {row['number']:,} ({at + 1} of {len(self.rows)}{'' if self.complete else ' …'})",
            f"{trained:,} of {count:,} tokens trained{share}",
        ]
        if row["cut"]:
            facts.append(f"▲ {row['cut']:,} more cut by max_length")
        if row["dropped"]:
            facts.append("✘ nothing to learn: TRL leaves this row out")
        return "   ".join(facts)

    def _tokens_of(self, at: int) -> Text:
        tokens = [(token, trained) for token, trained in self.rows[at]["tokens"]]
        return mask_text(tokens, borders=self.borders)

    def action_walk(self, by: int) -> None:
        """Go to the row before or after."""
        if 0 <= self.at + by < len(self.rows):
            self.at += by
            self.draw()
            self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_borders(self) -> None:
        """Show where one token ends and the next begins, or only the text."""
        self.borders = not self.borders
        self.draw()


def _height(text: Text, width: int) -> int:
    return sum(1 + cell_len(line) // max(1, width) for line in text.plain.split("\n"))


def mask_text(tokens: list[tuple[str, bool]], *, borders: bool) -> Text:
    """Write tokens one after another: those trained on underlined, each span of them in ⟦ ⟧, others dim."""
    text = Text()
    for at, (token, learns) in enumerate(tokens):
        before = at > 0 and tokens[at - 1][1]
        after = at + 1 < len(tokens) and tokens[at + 1][1]
        if learns and not before:
            text.append("⟦", style="bold")
        elif borders and at:
            text.append("│", style="dim")
        lines = token.split("\n")
        text.append("⏎\n".join(visible(line) for line in lines), style=TRAINED if learns else "dim")
        if learns and not after:
            text.append("⟧", style="bold")
    return text
