"""What keeps the file that screen 2 edits, and the one on disk, the same."""

from __future__ import annotations

from textual import on
from textual.content import Content
from textual.widgets import ContentSwitcher, TextArea

from lorabench.errors import LorabenchError
from lorabench.screens.config_file import ConfigFile
from lorabench.screens.dialogs import ChoiceDialog
from lorabench.screens.work_screen import WorkScreen
from lorabench.text import visible
from lorabench.widgets.field_form import FieldForm
from lorabench.widgets.finding_list import FindingList

LOOK_SECONDS = 1.0
# What is typed half is another place, and to look there may take long.
PLACES = frozenset(
    {"dataset_name", "model_name_or_path", "chat_template_path", "output_dir", "resume_from_checkpoint"}
)


class FileScreen(WorkScreen):
    """Save, take back, and take over what another program has written."""

    def __init__(self) -> None:
        super().__init__()
        self.file: ConfigFile | None = None
        self._titles = ("", "")
        self.part = ""  # of the names that the form shows
        self.conflict = False  # another program has written what would be lost by saving

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(LOOK_SECONDS, self.look_at_file)

    @property
    def config(self) -> ConfigFile:
        """The file that is open."""
        assert self.file is not None
        return self.file

    def build(self) -> None:
        """Make the form's rows anew: another file, or another field in it."""
        self.query_one(FieldForm).build(self.config.groups(self.part))
        self.show_file()

    def show_file(self) -> None:
        """Write the file's values, what is wrong with them, and whether they are saved."""
        file = self.config
        problems = {**self.query_one(FindingList).problems(), **file.problems}
        self.query_one(FieldForm).show(file.values, problems, file.notes)
        saved = f"● not saved{', and written by another program' if self.conflict else ''}"
        name = visible(f"{file.path.parent.name}/{file.path.name}")
        self._title(name, saved if file.changed else "saved")
        self.show_explanation()

    @on(FieldForm.Changed)
    def take_value(self, event: FieldForm.Changed) -> None:
        """Write what was typed into the file's text."""
        try:
            self.config.set_field(event.name, event.text)
        except LorabenchError as error:
            self.notify(str(error), severity="error", markup=False)
        self.show_file()
        if event.name not in PLACES or not self.query_one(FieldForm).editing:
            self.ask()

    @on(FieldForm.Left)
    def take_place(self, event: FieldForm.Left) -> None:
        """Ask about a place that has been typed to its end."""
        if event.name in PLACES:
            self.ask()

    def show_text(self) -> None:
        """Show a text that was not typed here, and ask for its preflight."""
        if self.query_one(ContentSwitcher).current == "yaml":
            self.query_one(TextArea).load_text(self.config.text)
        elif self.config.broken:
            self.action_yaml()
        self.build()
        self.ask(at_once=True)

    def _title(self, name: str, saved: str) -> None:
        """Write the panel's borders, which paints the whole panel, only where they change."""
        left = self.query_one("#left")
        if self._titles != (name, saved):
            self._titles = (name, saved)
            left.border_title, left.border_subtitle = Content(name), saved

    def show_explanation(self) -> None:
        """Explain the finding or the field under the cursor."""
        raise NotImplementedError

    def action_yaml(self) -> None:
        """Switch between the form and the YAML."""
        raise NotImplementedError

    def ask(self, *, at_once: bool = False) -> None:
        """Ask for the preflight of the text as it is now."""
        raise NotImplementedError

    def look_at_file(self) -> None:
        """Read the file again where another program has written it, unless something here is not saved."""
        if self.file is None or not self.is_current or self.workbench.ending:
            return
        elsewhere = self.file.written_elsewhere()
        if elsewhere and not self.file.changed:
            self.read_again()
        elif elsewhere != self.conflict:
            self.conflict = elsewhere
            self.show_file()

    def read_again(self) -> None:
        """Take over what the file holds now."""
        self.conflict = False
        try:
            self.config.read_again()
        except LorabenchError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.show_text()
        name = visible(self.config.path.name)
        self.notify(f"{name} was written by another program, and read again   u takes it back", markup=False)

    def action_undo(self) -> None:
        """Take the last change back."""
        if self.config.undo():
            self.show_text()
        else:
            self.notify("Nothing has been changed.", markup=False)

    def action_write(self) -> None:
        """Save the configuration, even with errors in it; ask first where that loses another's text."""
        if not self.config.written_elsewhere():
            self.write()
            return

        def answered(choice: int | None) -> None:
            if choice == 0:
                self.write(over=True)
            elif choice == 1:
                self.read_again()

        heading = f"{visible(self.config.path.name)} was written by another program"
        choices = ["save what is here in its place", "read it, and lose what is here", "stay"]
        self.app.push_screen(ChoiceDialog(heading, choices), answered)

    def write(self, *, over: bool = False) -> None:
        """Save the configuration, `over` what another program has written too."""
        try:
            self.config.save(over=over)
        except LorabenchError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.conflict = False
        self.show_file()
        self.notify(f"saved {visible(self.config.path)}", markup=False)
