"""Errors that a user can mend: a sentence that says what is wrong, and a hint that says what to do."""

from __future__ import annotations


class LorabenchError(Exception):
    """What a user can mend; the command line prints it and exits 2, the workbench shows it in a dialog."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class AdapterError(LorabenchError):
    """A file or folder that cannot be read as an adapter."""


class NotFound(AdapterError):
    """Nothing at this path that holds LoRA weights."""


class NotLora(AdapterError):
    """An adapter of another kind (IA3, prompt tuning, …), which has no ΔW = s·B·A."""


class Malformed(AdapterError):
    """A file that is damaged, or is not what its name says."""


class Refused(AdapterError):
    """A pickle that would run code on loading."""


class NonFiniteWeights(AdapterError):
    """A factor that holds a NaN or an infinity; names the tensor."""


class ExpressionError(LorabenchError):
    """A filter or sort expression that cannot be read; says where."""


NOT_AS_TAGGED = (ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises beside YAMLError, of a value that is not what its tag or its look says.

`!!int ''`, `!!bool x`, `!!timestamp x`; and `1:0:0:…:0.5`, a number in base 60 that is too large.
"""
