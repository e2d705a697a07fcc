"""The columns of a layer: each gives plain values, and nothing false where there is none."""

import math

import numpy as np
import pytest

import lorabench
from lorabench.spectra.columns import COLUMNS, LAYER_COLUMNS, MISSING, format_value
from lorabench.spectra.expression import find_column
from lorabench.spectra.parity_columns import PARITY_COLUMNS, PARITY_VIEW
from tests.spectra.made import pair_with, random_pair, write_adapter


@pytest.fixture(scope="module")
def spectra(tmp_path_factory):
    """One layer with singular values 3, 2, 1 of B·A, one with B = 0, one with a NaN, in this order."""
    nan_a, nan_b = random_pair(10, 12, 3, seed=2)
    nan_b[0, 0] = np.nan
    dead_a, dead_b = random_pair(10, 12, 3, seed=1)
    pairs = {
        "0.self_attn.q_proj": pair_with(np.array([3.0, 2.0, 1.0]), 10, 12),
        "1.self_attn.q_proj": (dead_a, dead_b * 0),
        "2.mlp.up_proj": (nan_a, nan_b),
    }
    folder = write_adapter(tmp_path_factory.mktemp("columns"), pairs, lora_alpha=6)
    return lorabench.analyze(folder).spectra


def value(name, spectrum, columns=COLUMNS):
    return find_column(name, columns).value(spectrum)


def text(name, spectrum):
    return find_column(name).text(spectrum)


def test_the_numbers_of_a_known_spectrum(spectra):
    layer = spectra[0]
    assert value("layer", layer) == 0
    assert value("type", layer) == "q_proj"
    assert value("shape", layer) == "10×12"
    assert (value("r", layer), value("scaling", layer), value("lora_alpha", layer)) == (3, 2.0, 6)
    assert value("norm", layer) == pytest.approx(2 * math.sqrt(14))
    assert value("sigma1", layer) == pytest.approx(6)
    assert value("stable_rank", layer) == pytest.approx(14 / 9)
    assert [value(f"rank{level}", layer) for level in (90, 95, 99)] == [2, 3, 3]
    assert value("parameters", layer) == 3 * (10 + 12)


def test_a_dead_layer_has_a_norm_of_zero_and_no_alpha(spectra):
    dead = spectra[1]
    assert value("verdict", dead) == "dead"
    assert (value("norm", dead), value("norm_b", dead)) == (0, 0)
    assert text("norm", dead) == "0"
    for name in ("alpha", "alpha_low", "tail", "ks", "null_low", "rank90"):
        assert value(name, dead) is None
        assert text(name, dead) == MISSING


def test_an_unreadable_layer_has_no_numbers_at_all(spectra):
    unreadable = spectra[2]
    assert value("verdict", unreadable) == "unreadable"
    for name in ("norm", "sigma1", "stable_rank", "effective_rank", "rank90", "rank99", "alpha", "norm_a"):
        assert value(name, unreadable) is None
        assert text(name, unreadable) == MISSING
    assert "NaN" in value("reason", unreadable)


def test_alpha_is_written_with_its_interval(spectra):
    alpha = spectra[0].alpha
    interval = f"[{alpha.low:.2f}, {alpha.high:.2f}]"
    assert text("alpha", spectra[0]) == f"{alpha.fit.alpha:.2f} {interval}"
    assert f"alpha {alpha.fit.alpha:.2f}, 90 % interval {interval}, " in text("reason", spectra[0])


def test_every_text_but_long_ones_fits_its_width(spectra):
    long = {"module", "reason", "findings", "name"}
    for column in (*COLUMNS, *PARITY_COLUMNS):
        assert column.width >= len(column.title) or column.name == "layer"
        if column.name not in long:
            for spectrum in spectra:
                assert len(column.text(spectrum)) <= column.width, (column.name, column.text(spectrum))


def test_every_column_has_a_name_of_its_own_and_a_sentence_of_help():
    for columns in (COLUMNS, PARITY_COLUMNS):
        names = [column.name for column in columns]
        assert len(set(names)) == len(names)
        assert all(name.isascii() and name.isidentifier() for name in names)
        assert all(column.help.endswith((".", "Σλ", "λ")) for column in columns)


def test_values_are_finite_or_none(spectra):
    for column in (*COLUMNS, *PARITY_COLUMNS):
        for spectrum in spectra:
            found = column.value(spectrum)
            assert found is None or not isinstance(found, float) or math.isfinite(found)


def test_the_layers_table_shows_what_the_screens_design_asks_for():
    titles = [column.title for column in LAYER_COLUMNS]
    assert titles == [
        "layer", "module", "shape", "r", "scaling", "‖ΔW‖", "σ₁", "stable rank", "eff. rank", "r 90 %",
        "α [90 % interval]", "n", "verdict",
    ]  # fmt: skip


def test_the_parity_view_holds_unscaled_numbers(spectra):
    norm = value("norm", spectra[0], PARITY_COLUMNS)
    assert norm == pytest.approx(14)  # Σλ of B·A, without the scaling of 2
    assert value("sv_max", spectra[0], PARITY_COLUMNS) == pytest.approx(3)
    assert {column.name for column in PARITY_VIEW} >= {"layer", "module", "alpha", "D", "warning", "status"}


def test_control_characters_in_a_module_name_are_made_visible(tmp_path):
    folder = write_adapter(tmp_path, {"0.\x1b[31mq": random_pair(8, 8, 2)})
    (spectrum,) = lorabench.analyze(folder).spectra
    assert "\x1b" not in value("module", spectrum)
    assert "␛[31mq" in text("module", spectrum)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (None, "—"),
        (2.0, "2"),
        (0.5, "0.5000"),
        (1234.56, "1235"),
        (123456.7, "123457"),
        (7, "7"),
        (1.5e7, "1.500e+07"),
    ],
)
def test_numbers_are_written_with_at_least_four_digits(number, written):
    assert format_value(number) == written
