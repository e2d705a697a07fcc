"""Filter and sort expressions over the layers' columns: `alpha<2 and module~v_proj`, `-norm`.

    expression := all { "or" all }
    all        := each { "and" each }
    each       := { "not" } ( "(" expression ")" | comparison | text )
    comparison := column ("<" | "<=" | ">" | ">=" | "=" | "!=" | "~" | "!~") value

Text alone looks for itself in the module's name. `~` looks for text anywhere in a text column, where
`*` stands for any run of characters; there are no regular expressions, so no text can be slow. Case
does not matter. Text that holds spaces, operators or a keyword stands in quotes. A layer without a
value in a column fits no comparison with it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from lorabench.errors import ExpressionError
from lorabench.spectra.columns import COLUMNS, Column, Value
from lorabench.spectra.model import LayerSpectrum
from lorabench.text import natural, visible

Predicate = Callable[[LayerSpectrum], bool]

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<operator><=|>=|!=|!~|==|[<>=~()])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'"""
    r"""|(?P<word>[^\s<>=~()!"']+))"""
)
_KEYWORDS = {"and", "or", "not"}
_DEEPEST = 50


class _Token(NamedTuple):
    """A word of the expression; kind: operator, text, quoted, and, or, not, end."""

    kind: str
    text: str
    position: int


def parse_filter(text: str, columns: Sequence[Column] = COLUMNS) -> Predicate:
    """Return the predicate on `LayerSpectrum` that the expression means; empty text fits every layer.

    Raises:
        ExpressionError: it cannot be read; says where, and the nearest column name for a typo.
    """
    tokens = _tokenize(text)
    if tokens[0].kind == "end":
        return lambda spectrum: True
    parser = _Parser(tokens, columns)
    predicate = parser.any_of()
    if parser.next.kind != "end":
        raise _unexpected(parser.next, "Write and, or or not between conditions; quote text with spaces.")
    return predicate


def sort_spectra(
    spectra: Iterable[LayerSpectrum], order: str, columns: Sequence[Column] = COLUMNS
) -> list[LayerSpectrum]:
    """Sort by a column's name, descending where `-` stands before it; layers without a value come last.

    Numbers inside text sort as numbers: `layers.2` before `layers.10`.

    Raises:
        ExpressionError: there is no such column; names the nearest.
    """
    name = order.strip().removeprefix("-").strip()
    column = find_column(name, columns)
    if column is None:
        raise _unknown_column(name, columns)
    rows = list(spectra)
    present = [row for row in rows if column.value(row) is not None]
    present.sort(key=lambda row: _sort_key(column.value(row)), reverse=order.strip().startswith("-"))
    return present + [row for row in rows if column.value(row) is None]


def find_column(name: str, columns: Sequence[Column] = COLUMNS) -> Column | None:
    """Return the first column that `name` means (its name, title or alias), or None."""
    for same in (str, str.casefold):
        for column in columns:
            if same(name) in map(same, (column.name, column.title, *column.aliases)):
                return column
    return None


def _unknown_column(name: str, columns: Sequence[Column]) -> ExpressionError:
    names = [word for column in columns for word in (column.name, *column.aliases)]
    nearest = get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    meant = f"Did you mean {nearest[0]}?" if nearest else f"Columns: {', '.join(c.name for c in columns)}."
    return ExpressionError(f"There is no column “{visible(name)}”.", meant)


def _sort_key(value: Value) -> float | list[tuple[int, str]]:
    return natural(value.casefold()) if isinstance(value, str) else float(value or 0)


def _tokenize(text: str) -> list[_Token]:
    text = text.rstrip()
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            start = len(text) - len(text[position:].lstrip())
            raise _unexpected(_Token("text", text[start], start), "Close the quotes, or quote the text.")
        kind = match.lastgroup or ""
        found = match[kind]
        if kind == "word":
            kind = found.lower() if found.lower() in _KEYWORDS else "text"
        elif kind in ("double", "single"):
            kind = "quoted"
        tokens.append(_Token(kind, "=" if found == "==" else found, match.start(match.lastgroup or 0)))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _unexpected(token: _Token, hint: str) -> ExpressionError:
    what = "The filter ends too early" if token.kind == "end" else f"Unexpected “{visible(token.text)}”"
    return ExpressionError(f"{what} at character {token.position + 1}.", hint)


class _Parser:
    """Reads tokens from left to right; each method is one rule of the grammar."""

    def __init__(self, tokens: list[_Token], columns: Sequence[Column]) -> None:
        self.tokens = tokens
        self.columns = columns
        self.at = 0
        self.depth = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.next
        self.at += token.kind != "end"
        return token

    def any_of(self) -> Predicate:
        choices = [self.all_of()]
        while self.next.kind == "or":
            self.take()
            choices.append(self.all_of())
        return choices[0] if len(choices) == 1 else lambda s: any(choice(s) for choice in choices)

    def all_of(self) -> Predicate:
        conditions = [self.each()]
        while self.next.kind == "and":
            self.take()
            conditions.append(self.each())
        return conditions[0] if len(conditions) == 1 else lambda s: all(fits(s) for fits in conditions)

    def each(self) -> Predicate:
        wanted = True
        while self.next.kind == "not":
            self.take()
            wanted = not wanted
        fits = self.group() if self.next.text == "(" and self.next.kind == "operator" else self.condition()
        return fits if wanted else lambda s: not fits(s)

    def group(self) -> Predicate:
        opening = self.take()
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _unexpected(opening, f"At most {_DEEPEST} parentheses may stand inside one another.")
        inside = self.any_of()
        closing = self.take()
        if (closing.kind, closing.text) != ("operator", ")"):
            raise _unexpected(closing, "A closing parenthesis is missing.")
        self.depth -= 1
        return inside

    def condition(self) -> Predicate:
        left = self.take()
        if left.kind not in ("text", "quoted"):
            raise _unexpected(left, "A column or a part of a module's name belongs here.")
        if self.next.kind != "operator" or self.next.text in "()":
            module = find_column("module", COLUMNS)
            assert module is not None
            return _contains(module, left.text)
        column = find_column(left.text, self.columns)
        if column is None:
            error = _unknown_column(left.text, self.columns)
            raise ExpressionError(f"{error.message[:-1]} (character {left.position + 1}).", error.hint)
        comparison = self.take()
        value = self.take()
        if value.kind not in ("text", "quoted"):
            raise _unexpected(value, f"A value belongs after {column.name}{comparison.text}.")
        return (
            _compare_number(column, comparison, value)
            if column.numeric
            else _compare_text(column, comparison, value)
        )


def _compare_number(column: Column, comparison: _Token, value: _Token) -> Predicate:
    if comparison.text not in _ORDER:
        raise _unexpected(comparison, f"{column.name} is a number: compare it with < <= > >= = or !=.")
    try:
        number = float(value.text)
    except ValueError:
        raise _unexpected(value, f"{column.name} is a number: compare it with one.") from None
    holds = _ORDER[comparison.text]

    def fits(spectrum: LayerSpectrum) -> bool:
        actual = column.value(spectrum)
        return actual is not None and holds(float(actual), number)

    return fits


def _compare_text(column: Column, comparison: _Token, value: _Token) -> Predicate:
    if comparison.text not in ("=", "!=", "~", "!~"):
        raise _unexpected(comparison, f"{column.name} is text: compare it with = != ~ or !~.")
    wanted = value.text.casefold()

    def equal(spectrum: LayerSpectrum) -> bool:
        return str(column.value(spectrum)).casefold() == wanted

    same = equal if comparison.text.endswith("=") else _contains(column, value.text)
    positive = not comparison.text.startswith("!")
    return lambda s: column.value(s) is not None and same(s) is positive


def _contains(column: Column, text: str) -> Predicate:
    parts = text.casefold().split("*")

    def fits(spectrum: LayerSpectrum) -> bool:
        actual, position = str(column.value(spectrum) or "").casefold(), 0
        for part in parts:
            found = actual.find(part, position)
            if found < 0:
                return False
            position = found + len(part)
        return True

    return fits
