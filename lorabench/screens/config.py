"""Screen 2: edit a run's configuration, and know before it starts whether it will work."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import ContentSwitcher, OptionList, Static, TextArea

from lorabench.errors import LorabenchError
from lorabench.screens.add_field import AddFieldDialog
from lorabench.screens.audit import AuditDialog
from lorabench.screens.file_screen import FileScreen
from lorabench.screens.mask import ROWS, MaskDialog
from lorabench.screens.preflight_client import Answered, Crashed, PreflightClient
from lorabench.text import visible
from lorabench.widgets.field_form import FieldForm
from lorabench.widgets.filter_line import FilterLine
from lorabench.widgets.finding_list import FindingList
from lorabench.widgets.yaml_area import YamlArea

NOTHING_OPEN = (
    "No configuration is open. On the Bench (1), 2 on a run opens its run.yaml, and n makes a new run."
)

NEED_FILE = frozenset({"write", "train", "audit", "mask", "yaml", "add", "undo", "filter"})


class ConfigScreen(FileScreen):
    """A form, or the YAML itself, and the preflight beside it."""

    mode = "config"
    HELP = """
First the configuration, in TRL's own names; an empty field stands for its default, shown dim. Beside it, or
below where the terminal is narrow, the preflight: what would happen if this ran. It follows as you type;
a path or a name on the hub when you leave its line.

- `✔` is as it should be, `▲` a warning, `✘` an error that would stop the run, `·` advice; `…` is still to be
  computed, and an old line is dim until it is known anew.
- `enter` on a field edits it, `space` takes its next choice; `enter` on a finding that ends in `⏎` applies
  its mend, and `u` takes the last change back.
- The lines at the bottom explain the field or the finding under the cursor.

`/` shows only the fields whose name contains what you type; `enter` keeps that, `esc` shows all again.

`e` shows the YAML: comments, the order of keys and keys that lorabench does not know stay as they are.
`m` shows the rows as the trainer will see them, with the tokens that it learns from. `a` takes a few steps
and says whether the change applied to the weights is the one asked for; `+` adds any other field of TRL.

A file that another program writes is read again by itself; where something is not saved here, `ctrl+s` asks
which of the two to keep.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "write", "save", id="config.write", tooltip="save it", priority=True),
        Binding("tab,shift+tab", "panel", "panel", show=False, id="config.panel", tooltip="form or findings"),
        Binding("t", "train", "train", id="config.train", tooltip="save the configuration and train it"),
        Binding("m", "mask", "loss mask", id="config.mask", tooltip="rows as the trainer will see them"),
        Binding("e", "yaml", "YAML", id="config.yaml", tooltip="edit the YAML itself; esc comes back"),
        Binding(
            "slash", "filter", "filter", key_display="/", id="config.filter", tooltip="part of a field's name"
        ),
        Binding("escape", "unfilter", "no filter", show=False, id="config.unfilter"),
        Binding("a", "audit", "audit", id="config.audit", tooltip="audit some steps' updates"),
        Binding("plus", "add", "add field", id="config.add", tooltip="any other field of TRL"),
        Binding("u", "undo", "undo", id="config.undo", tooltip="take the last change back"),
        Binding("y", "copy", "copy", id="config.copy", tooltip="copy this finding"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.client = PreflightClient(self)
        self.mask: MaskDialog | None = None
        self.refused: str | None = None  # the text that could not become a form when it was last tried

    def body(self) -> ComposeResult:
        yield FilterLine("part of a field's name")
        with Horizontal(id="config"):
            with ContentSwitcher(initial="form", id="left"):
                yield FieldForm(id="form")
                yield YamlArea(id="yaml")
            findings = FindingList("findings", detailed=True)
            findings.border_title = "preflight"
            yield findings
        with VerticalScroll(id="explain") as explain:
            explain.can_focus = False
            yield Static(NOTHING_OPEN)

    async def on_unmount(self) -> None:
        await self.client.end()

    def on_descendant_focus(self) -> None:
        # A rule for :focus-within would style every field anew at every step.
        self.query_one("#left").set_class(not self.query_one(FindingList).has_focus, "-here")
        self.show_explanation()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        nothing = self.workbench.config_file is None
        self.set_class(nothing, "-nothing")
        self.idle = NEED_FILE | {"copy", "edit"} if nothing else frozenset()
        if self.workbench.config_file is not self.file:
            self.begin()
        elif self.file is not None:
            self.show_file()  # it may have been saved meanwhile

    def begin(self) -> None:
        """Show the file that the application has opened."""
        self.file = self.workbench.config_file
        findings = self.query_one(FindingList)
        findings.forget()
        findings.begin(["config"])  # the first of the checks; the child may have to start
        self.conflict, self.part = False, ""
        self.query_one(FilterLine).action_clear()
        self.build()
        self.query_one(ContentSwitcher).current = "form"
        if self.config.broken:
            self.action_yaml()
        else:
            self.query_one(FieldForm).enter()
        self.ask(at_once=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey the keys that need an open file."""
        greyed = self.file is None and action in NEED_FILE
        return None if greyed else super().check_action(action, parameters)

    def ask(self, *, at_once: bool = False) -> None:
        """Ask for the preflight of the text as it is now."""
        send = self.client.ask if at_once else self.client.ask_soon
        send("preflight", text=self.config.text, path=str(self.config.path), advice=True)

    @on(TextArea.Changed)
    def take_text(self, event: TextArea.Changed) -> None:
        """Take the YAML as it was typed."""
        if self.file is not None and event.text_area.text != self.file.text:
            self.config.set_text(event.text_area.text)
            self.show_file()
            self.ask()

    @on(Answered)
    def hear(self, event: Answered) -> None:
        """Show what the preflight says, in the list or among the masks."""
        answer = event.answer
        findings = self.query_one(FindingList)
        if event.ask == "mask":
            if self.mask is not None:
                self.mask.hear(answer)
            return
        if event.ask == "fields":
            if answer["kind"] == "fields":
                self.config.know(answer["fields"])
                self.build()
            return
        findings.hear(answer)
        if answer["kind"] == "done":
            self.show_file()
            if not self.config.more:
                self.client.ask("fields")
        self.show_explanation()

    @on(Crashed)
    def tell_crash(self, event: Crashed) -> None:
        """Say that the preflight's process has ended by itself, and what becomes of it."""
        after = "started again" if event.restarted else "the next change starts it again"
        self.notify(
            visible(event.last_words),
            title=f"the preflight has crashed; {after}",
            severity="error",
            markup=False,
        )
        if not event.restarted:
            self.query_one(FindingList).fail(f"The preflight has crashed: {event.last_words}")
            if self.mask is not None:
                self.mask.complain(f"The preflight has crashed: {event.last_words}")

    @on(OptionList.OptionHighlighted, "#findings")
    @on(FieldForm.Reached)
    @on(TextArea.SelectionChanged)
    def show_explanation(self) -> None:
        """Explain the finding or the field under the cursor, at the bottom."""
        if self.file is None:
            return
        findings = self.query_one(FindingList)
        form, text = self.query_one(FieldForm), Text()
        area = self.query_one(YamlArea)
        name = area.key if area.has_focus else form.current
        if findings.has_focus:
            text = findings.explanation()
        elif name is not None and self.file.knows(name):
            text.append(f"{name}  ", style="bold")
            value = form.lines.value(name)
            if form.current and cell_len(visible(value)) > form.lines.value_region(name).width:
                text.append(f"{visible(value)}\n")
            text.append(self.config.explain(name))
        self.query_one("#explain Static", Static).update(text)

    @on(OptionList.OptionSelected, "#findings")
    def apply_mend(self) -> None:
        """Apply the mend of the finding under the cursor."""
        finding = self.query_one(FindingList).current
        if finding is None:
            return
        if finding.mend is None:
            self.notify("This finding has no mend that a key could apply.", markup=False)
            return
        try:
            self.config.change(finding.mend.changes)
        except LorabenchError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.build()
        self.query_one(FindingList).focus()
        self.notify(f"{finding.mend.label}   u takes it back", markup=False)
        self.ask(at_once=True)

    def action_train(self) -> None:
        """Train what is configured here."""
        self.workbench.train_run(self.config.path)

    def action_audit(self) -> None:
        """Take some steps as configured here, and compare what was applied with what was asked for."""
        self.app.push_screen(AuditDialog(self.config.text))

    def action_panel(self) -> None:
        """Go from the form or the YAML to the findings, or back."""
        findings = self.query_one(FindingList)
        if not findings.has_focus:
            findings.focus()
        elif self.query_one(ContentSwitcher).current == "yaml":
            self.query_one(YamlArea).focus()
        else:
            self.query_one(FieldForm).enter()

    @on(FilterLine.Changed)
    def apply_filter(self, event: FilterLine.Changed) -> None:
        """Show only the fields whose name matches."""
        self.part = event.text.strip()
        if self.file is not None:
            self.build()

    def action_yaml(self) -> None:
        """Switch between the form and the YAML."""
        views = self.query_one(ContentSwitcher)
        area = self.query_one(TextArea)
        if views.current == "form":
            area.load_text(self.config.text)
            views.current = "yaml"
            area.focus()
            return
        if self.config.broken:
            if area.text == self.refused:
                self.workbench.when_saved(lambda: self.app.switch_mode("bench"))
                return
            self.refused = area.text
            why = f"The form needs YAML that can be read (esc again: to the bench). {self.config.broken}"
            self.notify(why, severity="warning", markup=False)
            return
        views.current = "form"
        self.build()
        self.query_one(FieldForm).enter()

    def action_add(self) -> None:
        """Find another field by its name and show it in the form."""

        def added(name: str | None) -> None:
            if name is not None:
                self.query_one(FilterLine).action_clear()
                self.part = ""
                self.config.add(name)
                self.build()
                self.query_one(FieldForm).go_to(name)

        self.app.push_screen(AddFieldDialog(self.config.other_fields()), added)

    def action_mask(self) -> None:
        """Show rows as the trainer will see them."""

        def closed(_: object) -> None:
            self.mask = None

        self.mask = MaskDialog()
        self.app.push_screen(self.mask, closed)
        self.client.ask("mask", text=self.config.text, path=str(self.config.path), count=ROWS)

    def action_copy(self) -> None:
        """Copy the finding under the cursor."""
        finding = self.query_one(FindingList).current
        if finding is not None:
            self.copy(f"{finding.message}\n{finding.detail}".strip(), "the finding")
