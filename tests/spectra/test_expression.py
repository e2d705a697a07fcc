"""Filter and sort expressions: what they mean, and that no text does worse than an ExpressionError."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lorabench
from lorabench.errors import ExpressionError
from lorabench.spectra.columns import COLUMNS
from lorabench.spectra.expression import parse_filter, sort_spectra
from lorabench.spectra.parity_columns import PARITY_COLUMNS
from lorabench.text import visible
from tests.spectra.made import pair_with, random_pair, write_adapter


@pytest.fixture(scope="module")
def spectra(tmp_path_factory):
    """Layers 2 and 10, q_proj and v_proj; σ₁ of B·A is 1, 2, 3 in this order; the last layer is dead."""
    dead_a, dead_b = random_pair(10, 12, 3)
    pairs = {
        "2.self_attn.q_proj": pair_with(np.array([1.0, 0.5, 0.25]), 10, 12),
        "2.self_attn.v_proj": pair_with(np.array([2.0, 0.5, 0.25]), 10, 12),
        "10.self_attn.q_proj": pair_with(np.array([3.0, 0.5, 0.25]), 10, 12),
        "10.self_attn.v_proj": (dead_a, dead_b * 0),
    }
    folder = write_adapter(tmp_path_factory.mktemp("expression"), pairs, lora_alpha=3)
    found = {s.layer.module.removeprefix("model.layers."): s for s in lorabench.analyze(folder).spectra}
    return [found[name] for name in pairs]


def kept(text, spectra, columns=COLUMNS):
    fits = parse_filter(text, columns)
    return [position for position, spectrum in enumerate(spectra) if fits(spectrum)]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("", [0, 1, 2, 3]),
        ("   ", [0, 1, 2, 3]),
        ("v_proj", [1, 3]),
        ("V_PROJ", [1, 3]),
        ("10*q_proj", [2]),
        ("layers.2.", [0, 1]),
        ('"self_attn.q"', [0, 2]),
        ("layer<10", [0, 1]),
        ("layer<=2", [0, 1]),
        ("layer >= 10", [2, 3]),
        ("layer=2", [0, 1]),
        ("layer == 2", [0, 1]),
        ("layer!=2", [2, 3]),
        ("depth=2", [0, 1]),
        ("sigma1>1.5", [1, 2]),
        ("σ₁>1.5", [1, 2]),
        ("SIGMA1>1.5", [1, 2]),
        ("sigma1>15e-1", [1, 2]),
        ("module~v_proj", [1, 3]),
        ("module!~v_proj", [0, 2]),
        ("type=q_proj", [0, 2]),
        ("type!=Q_PROJ", [1, 3]),
        ("verdict=dead", [3]),
        ("sigma1<2.5 and module~v_proj", [1, 3]),
        ("sigma1>2.5 or module~v_proj", [1, 2, 3]),
        ("layer=2 and q_proj or dead_never", [0]),
        ("layer=2 and (q_proj or v_proj)", [0, 1]),
        ("not v_proj", [0, 2]),
        ("not not v_proj", [1, 3]),
        ("not (layer=2 or verdict=dead)", [2]),
        ("layer=2 AND NOT q_proj", [1]),
        ("alpha>0", [0, 1, 2]),
        ("alpha!=100", [0, 1, 2]),
        ("not alpha>0", [3]),
    ],
)
def test_a_filter_keeps(text, positions, spectra):
    assert kept(text, spectra) == positions


def test_a_missing_value_fits_no_comparison(spectra):
    for operator in ("<", "<=", ">", ">=", "=", "!="):
        assert 3 not in kept(f"alpha{operator}2", spectra)


def test_weightwatchers_columns_come_first_where_they_are_shown(spectra):
    columns = (*PARITY_COLUMNS, *COLUMNS)
    assert kept("sv_max>1.5 and layer=2", spectra, columns) == [1]
    with pytest.raises(ExpressionError):
        parse_filter("sv_max>1.5")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alhpa<2", ["alhpa", "character 1", "Did you mean alpha?"]),
        ("layer=2 and nrom>1", ["nrom", "character 13", "Did you mean norm?"]),
        ("zzzzzz<2", ["zzzzzz", "Columns: layer, module"]),
        ("alpha<", ["ends too early at character 7", "alpha<"]),
        ("alpha<two", ["“two” at character 7", "alpha is a number"]),
        ("alpha~2", ["“~” at character 6", "alpha is a number"]),
        ("module<2", ["“<” at character 7", "module is text"]),
        ("(alpha<2", ["ends too early", "closing parenthesis"]),
        ("alpha<2)", ["“)” at character 8"]),
        ("q_proj v_proj", ["“v_proj” at character 8", "and, or or not"]),
        ("and alpha<2", ["“and” at character 1"]),
        ("alpha<2 or", ["ends too early"]),
        ('module~"v', ["character 8", "quotes"]),
        ("alpha ! 2", ["“!” at character 7"]),
        ("(" * 1000, ["At most 50 parentheses"]),
    ],
)
def test_a_mistake_is_named_with_its_place(text, says):
    with pytest.raises(ExpressionError) as caught:
        parse_filter(text)
    for part in says:
        assert part in str(caught.value)


TOKENS = ["alpha", "module", "<", "<=", "=", "!=", "~", "!~", "(", ")", "and", "or", "not", "2", "'x", "q*"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(TOKENS)).map(" ".join)))
def test_any_text_is_a_filter_or_an_expression_error(spectra, text):
    try:
        fits = parse_filter(text)
    except ExpressionError as error:
        said = error
    else:
        assert all(isinstance(fits(spectrum), bool) for spectrum in spectra)
        return
    assert visible(said.message) == said.message
    assert said.hint


def test_a_hostile_pattern_is_not_slow(spectra):
    begin = time.perf_counter()
    assert kept("module~" + "*a" * 5000, spectra) == []
    assert time.perf_counter() - begin < 1


def order(text, spectra):
    return [spectra.index(spectrum) for spectrum in sort_spectra(spectra, text)]


def test_sorting_by_a_number_goes_both_ways_with_missing_values_last(spectra):
    assert order("sigma1", spectra) == [3, 0, 1, 2]
    assert order("-sigma1", spectra) == [2, 1, 0, 3]
    assert order("alpha", spectra)[-1] == 3
    assert order("-alpha", spectra)[-1] == 3


def test_sorting_by_text_knows_the_numbers_in_it(spectra):
    assert order("module", spectra) == [0, 1, 2, 3]
    assert order("-module", spectra) == [3, 2, 1, 0]


def test_layers_of_equal_value_keep_their_order(spectra):
    assert order("r", spectra) == order("-r", spectra) == [0, 1, 2, 3]


def test_sorting_by_a_mistyped_column_names_the_nearest():
    with pytest.raises(ExpressionError, match="no column “nrom”"):
        sort_spectra([], "-nrom")
