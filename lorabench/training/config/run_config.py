"""A run's configuration: one run.yaml in TRL's own format, which `trl sft --config run.yaml` runs unchanged.

What TRL 1.16 does with a key that it does not know was found out by trying: `trl sft` passes a top-level one
on to `accelerate launch`, which ends with "unrecognized arguments". But everything under `env:` becomes
environment variables, whatever it holds. So what TRL has no name for stands there, under one key of ours:

    env:
      LORABENCH:
        precision: auto               # see precision.py
        stop_on_nan: false            # train on after a loss of NaN or infinity; true by default
        lora:                         # arguments of PEFT's LoraConfig
          rank_pattern: {o_proj: 16}

TRL accepts it, sets a variable that nobody reads, and trains *without* those LoRA fields; lorabench trains
with them. Whoever reads or sets a field does so by its name, and need not know where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.files import at_home, is_there
from lorabench.text import visible
from lorabench.training.config.document import change, read
from lorabench.training.config.edit import REMOVED
from lorabench.training.config.field import ConfigError, Field, FieldProblem, described
from lorabench.training.config.fields import FIELDS, LORA_EXTRA, OUR_KEY
from lorabench.training.config.problems import problems_of
from lorabench.training.config.saving import read_text, write_text

if TYPE_CHECKING:
    from peft import LoraConfig

_SAME_NOW = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


class RunConfig:
    """A configuration: its text, the values in it, and what is wrong with them.

    Fields go by TRL's names, and PEFT's for those of LoraConfig that TRL lacks. Relative paths are relative
    to the current folder, as they are for TRL.
    """

    def __init__(self, text: str, path: Path | None = None) -> None:
        self.path = path
        self._document = read(text)
        self._saved = text

    @classmethod
    def load(cls, path: Path | str) -> RunConfig:
        """Open a file. A bad one opens too: what is wrong with it is among its problems.

        Raises:
            ConfigError: there is no text to show (no file, a folder, binary, huge); says which.
        """
        return cls(read_text(Path(path)), Path(path))

    @classmethod
    def to_train(cls, path: Path) -> RunConfig:
        """Open a file as `load` does; it is a ConfigError, too, where it sets nothing at all."""
        config = cls.load(path)
        if not config.values:
            hint = "\n".join(problem.message for problem in config.problems)
            raise ConfigError(f"{visible(path)} says nothing to train.", hint)
        return config

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunConfig:
        """Make a configuration of these fields, in no file yet."""
        config = cls("")
        config.apply(values)
        return config

    @property
    def text(self) -> str:
        return self._document.text

    @property
    def values(self) -> Mapping[str, Any]:
        """The file's top-level keys and values, as TRL's parser reads them."""
        return self._document.values

    @property
    def lines(self) -> Mapping[str, int]:
        """The line, from 1, of each top-level key."""
        return self._document.lines

    @property
    def broken(self) -> bool:
        """Whether the text could not be read; then no field is set, and it can only be changed as text."""
        return self._document.broken

    @property
    def changed(self) -> bool:
        return self.text != self._saved

    @property
    def folder(self) -> Path:
        """The output folder, absolute."""
        return at_home(self.get("output_dir") or "trainer_output").absolute()

    @property
    def lora_extra(self) -> Mapping[str, Any]:
        """The LoRA fields in the file that TRL's ModelConfig lacks, by PEFT's names."""
        extra = self._ours.get("lora")
        return extra if isinstance(extra, Mapping) else {}

    @property
    def _ours(self) -> Mapping[str, Any]:
        env = self.values.get("env")
        ours = env.get(OUR_KEY) if isinstance(env, Mapping) else None
        return ours if isinstance(ours, Mapping) else {}

    @property
    def precision(self) -> str:
        """`auto`, `bf16`, `fp16` or `fp32`: what the file asks for.

        A `bf16: true` or `fp16: true` counts more than our `auto`. A file without `bf16: false` is auto as
        well: TRL would take bf16, which is what auto chooses wherever bf16 works well.
        """
        if self._at("bf16") is True:
            return "bf16"
        if self._at("fp16") is True:
            return "fp16"
        return "fp32" if self._at("bf16") is False and self._ours.get("precision") != "auto" else "auto"

    @property
    def stop_on_nan(self) -> bool:
        """Whether a loss that is NaN or infinite ends the run."""
        return self._ours.get("stop_on_nan") is not False

    def get(self, name: str) -> Any:
        """Return a field's value as TRL will see it: the file's or, where that is not valid, the default.

        Asks TRL, and so imports it (seconds), for fields that are not in FIELDS.

        Raises:
            KeyError: neither TRL nor PEFT nor lorabench has such a field.
        """
        if name == "precision":
            return self.precision
        return self._at(self._name_here(name))

    def _name_here(self, name: str) -> str:
        newer = _SAME_NOW.get(name, name)
        return newer if newer in self.values else name

    def _at(self, name: str) -> Any:
        field = _field(name)
        place = self.lora_extra if field.owner == "LoraConfig" else self.values
        try:
            return field.parse(place[name]) if name in place else field.default
        except ValueError:
            return field.default

    def has(self, name: str) -> bool:
        """Say whether the file sets this field."""
        return name in self.values or name in self.lora_extra or (name == "precision" and name in self._ours)

    @property
    def own_names(self) -> frozenset[str]:
        """The fields in the file, without those whose old names are TRL's own: nobody should change these."""
        return frozenset(self.values) - _SAME_NOW.keys()

    def set(self, name: str, value: Any) -> None:
        """Set a field; None removes it where None is its default, or where no field has this name.

        Raises:
            ConfigError: the file is broken, or cannot be changed without changing more of it.
        """
        self.apply({name: value})

    def apply(self, changes: Mapping[str, Any]) -> None:
        """Set several fields at once, as a mend has them; nothing is changed when one cannot be."""
        paths: dict[tuple[str, ...], Any] = {}
        for name, value in changes.items():
            if name in LORA_EXTRA:
                paths["env", OUR_KEY, "lora", name] = REMOVED if value is None else value
                paths[(name,)] = REMOVED
            elif name == "precision":
                paths["env", OUR_KEY, name] = value if value == "auto" else REMOVED
                paths[(name,)] = REMOVED
                paths[("bf16",)] = value == "bf16"
                if value == "fp16" or "fp16" in self.values:
                    paths[("fp16",)] = value == "fp16"
            else:
                here = self._name_here(name)
                paths[(here,)] = REMOVED if value is None and not _takes_null(here) else value
        self._change(paths)

    def unset(self, name: str) -> None:
        """Take a field out of the file, wherever it stands there: then its default holds.

        Raises:
            ConfigError: as `set`.
        """
        paths = [("env", OUR_KEY, "lora", name), ("env", OUR_KEY, name), (self._name_here(name),)]
        if name == "precision":
            paths += [("bf16",), ("fp16",)]
        self._change(dict.fromkeys(paths, REMOVED))

    def _change(self, paths: Mapping[tuple[str, ...], Any]) -> None:
        changes = {path: value for path, value in paths.items() if value is not REMOVED or self._holds(path)}
        for path in changes:
            self._refuse_to_overwrite(path)
        self._document = change(self._document, changes)

    def _refuse_to_overwrite(self, path: tuple[str, ...]) -> None:
        """Leave what stands where a mapping should, such as `env: 3`, to the one who wrote it."""
        place: Any = self.values
        for depth, name in enumerate(path[:-1], 1):
            place = place.get(name)
            if place is None:
                return
            if not isinstance(place, Mapping):
                where = ": ".join(visible(part) for part in path[:depth])
                raise ConfigError(
                    f"{visible(path[-1])} belongs under {where}:, which holds {described(place)}.",
                    "Mend that in the file's text first.",
                )

    def _holds(self, path: tuple[str, ...]) -> bool:
        place: Any = self.values
        for name in path:
            if not isinstance(place, Mapping) or name not in place:
                return False
            place = place[name]
        return True

    def replace_text(self, text: str) -> None:
        """Take over a text that was edited as text; it may be broken."""
        self._document = read(text)

    def written_elsewhere(self) -> bool:
        """Say whether the file holds another text than the one that was read or saved here.

        Raises:
            ConfigError: it cannot be read.
        """
        return self.path is not None and is_there(self.path) and read_text(self.path) != self._saved

    def save(self, path: Path | None = None, *, over: bool = False) -> None:
        """Write the file, in one step; comments, order and unknown keys are as they were.

        With `over` it takes the place of what another program has written meanwhile.

        Raises:
            ConfigError: the text is broken, the file was changed by somebody else meanwhile, or it cannot be
                written; says which.
        """
        target = path or self.path
        if target is None:
            raise ConfigError("This configuration has no file yet.", "Name one.")
        if self.broken:
            raise ConfigError(
                f"This is not written to {visible(target)}, because TRL could not read it. "
                f"{self._document.problems[0].message}",
                "Mend the text first; it is kept.",
            )
        if target == self.path and not over and self.written_elsewhere():
            raise ConfigError(
                f"{visible(target)} was changed by another program since it was opened.",
                "Save under another name, or open it again.",
            )
        write_text(target, self.text)
        self.path, self._saved = target, self.text

    @property
    def problems(self) -> list[FieldProblem]:
        """What is wrong, as far as that can be said without TRL; `trl_check.trl_problems` says the rest."""
        return [*self._document.problems, *problems_of(self)]

    def peft_config(self) -> LoraConfig | None:
        """Return PEFT's LoraConfig as TRL makes it, with the fields that TRL lacks; None without use_peft.

        Raises:
            ConfigError: PEFT refuses it; says why.
        """
        from lorabench.training.config.peft_config import peft_config

        return peft_config(self)


def _field(name: str) -> Field:
    if name in FIELDS:
        return FIELDS[name]
    from lorabench.training.config.trl_fields import all_fields

    return all_fields()[name]


def _takes_null(name: str) -> bool:
    """Say whether null in the file says something else than leaving the field out (max_length: null)."""
    return name in FIELDS and FIELDS[name].default is not None
