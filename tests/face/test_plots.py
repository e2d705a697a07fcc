"""The plots, drawn by plotext and read as text: they say what the data say, at any size and for any data."""

import math

import numpy as np
import plotext
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import Color, ColorTriplet

import lorabench
from lorabench.spectra.model import LayerSpectrum
from lorabench.widgets import plots
from lorabench.widgets.axes import legend, module_letters
from tests.spectra.made import pair_with, random_pair, write_adapter

MODULE_PLOTS = [plots.singular_values, plots.eigenvalue_histogram, plots.tail, plots.energy]
ADAPTER_PLOTS = [plots.alpha_histogram, plots.alpha_by_depth, plots.norm_by_depth]
SIZES = [(80, 20), (40, 12), (20, 6)]


def drawn(draw, data, size=(80, 20)):
    """The picture as lines of text, without colour."""
    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plotsize(*size)
    draw(plotext, data)
    return plotext.uncolorize(plotext.build()).splitlines()


@pytest.fixture(scope="module")
def spectra(tmp_path_factory):
    """q_proj and v_proj of layers 0 to 5, rank 8, norms growing with depth, then a dead and a NaN layer."""
    pairs = {
        f"{depth}.self_attn.{name}": pair_with(np.geomspace(2, 0.1, 8) * (depth + 1), 24, 32, seed=depth)
        for depth in range(6)
        for name in ("q_proj", "v_proj")
    }
    dead_a, dead_b = random_pair(24, 32, 8)
    nan_a, nan_b = random_pair(24, 32, 8)
    nan_b[0, 0] = np.nan
    pairs |= {"6.self_attn.q_proj": (dead_a, dead_b * 0), "7.self_attn.q_proj": (nan_a, nan_b)}
    return lorabench.analyze(write_adapter(tmp_path_factory.mktemp("plots"), pairs)).spectra


def column_of(lines, mark):
    return next(line.index(mark) for line in lines if mark in line)


@pytest.mark.parametrize("size", SIZES)
def test_every_plot_fills_its_size_and_no_more(spectra, size):
    for draw, data in [(d, spectra[0]) for d in MODULE_PLOTS] + [(d, spectra) for d in ADAPTER_PLOTS]:
        lines = drawn(draw, data, size)
        assert len(lines) == size[1]
        assert max(map(len, lines)) <= size[0]


def test_titles_and_labels_are_whole_at_40_columns(spectra):
    alpha = spectra[0].alpha.fit
    assert (
        f"tail: α {alpha.alpha:.2f}, n {alpha.tail} of 8, KS {alpha.ks:.2f}"
        in drawn(plots.tail, spectra[0], (40, 12))[0]
    )
    first = spectra[0]
    ranks = f"{first.rank90}/{first.rank95}/{first.rank99}"
    assert f"energy: 90/95/99 % at k = {ranks}" in drawn(plots.energy, first, (40, 12))[0]
    by_depth = drawn(plots.alpha_by_depth, spectra, (40, 12))
    assert "α by depth" in by_depth[0]
    assert "q=q_proj v=v_proj" in by_depth[-1]


def test_singular_values_fall_from_the_upper_left(spectra):
    lines = drawn(plots.singular_values, spectra[0])
    points = [(x, y) for y, line in enumerate(lines) for x, mark in enumerate(line) if mark == "•"]
    assert len(points) == 8
    assert [y for _, y in sorted(points)] == sorted(y for _, y in points)


def test_x_min_is_named_on_the_histogram(spectra):
    lines = drawn(plots.eigenvalue_histogram, spectra[0])
    assert "x_min" in lines[0]
    assert sum("x_min" in line for line in lines) == 2


def test_alpha_is_shown_with_its_mean_borders_and_what_untrained_layers_have(spectra):
    lines = drawn(plots.alpha_histogram, spectra)
    mean = np.mean([s.alpha.fit.alpha for s in spectra if s.alpha])
    assert f"α of 12 layers: {mean:.2f} ±" in lines[0]
    text = "\n".join(lines)
    assert "mean" in text
    assert "untrained" in text
    assert "borders 2 4 6" in lines[-1]
    assert all(tick in lines[-2].split() for tick in ("2", "4", "6"))


def test_depth_runs_from_left_to_right(spectra):
    lines = drawn(plots.norm_by_depth, [s for s in spectra[:12] if s.layer.module_type == "q_proj"])
    rows = [y for y, line in enumerate(lines[1:-2]) if "q" in line]
    columns = [line.index("q") for line in lines[1:-2] if "q" in line]
    assert len(rows) >= 5
    assert columns == sorted(columns, reverse=True)  # the deepest layer has the largest norm, at the top


def test_layers_that_cannot_be_drawn_are_counted(spectra):
    assert "1 not shown" in drawn(plots.norm_by_depth, spectra)[0]


@pytest.mark.parametrize("size", SIZES[:2])
def test_dead_and_unreadable_layers_get_a_sentence(spectra, size):
    dead, unreadable = spectra[12:]
    for draw in MODULE_PLOTS:
        assert "zero" in "".join(drawn(draw, dead, size))
        assert "NaN" in "".join(drawn(draw, unreadable, size))


def test_nothing_to_draw_is_said(spectra):
    assert "No layer has an alpha." in "".join(drawn(plots.alpha_histogram, []))
    assert "No layer has an alpha." in "".join(drawn(plots.alpha_by_depth, spectra[12:]))
    assert "No layer could be read." in "".join(drawn(plots.norm_by_depth, []))


def test_modules_without_a_depth_are_not_placed(tmp_path):
    from safetensors.numpy import save_file

    a, b = random_pair(24, 32, 8)
    save_file(
        {"lm_head.lora_A.weight": a, "lm_head.lora_B.weight": b}, tmp_path / "adapter_model.safetensors"
    )
    spectra = lorabench.analyze(tmp_path).spectra
    assert "carry no depth" in "".join(drawn(plots.alpha_by_depth, spectra))


def test_every_module_type_has_a_letter_of_its_own():
    types = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "query", "qkv", "1"]
    letters = module_letters(types)
    assert list(letters) == types
    assert len(set(letters.values())) == len(types)
    assert [letters[name] for name in types[:7]] == ["q", "k", "v", "o", "g", "u", "d"]
    assert list(module_letters(["attn1.to_k", "attn1.to_out", "attn2.to_k"]).values()) == ["k", "a", "K"]


def test_a_legend_takes_the_lines_that_it_needs():
    names = [f"projection_number_{n}" for n in range(4)]
    letters = module_letters(names)
    assert legend(letters, 100, most=3) == [" ".join(f"{letters[name]}={name}" for name in names)]
    # What all begin with goes first.
    assert legend(letters, 20, most=3) == [" ".join(f"{letters[name]}={name[-1]}" for name in names)]
    assert legend({"attn1.to_k": "k", "attn2.to_k": "K"}, 16, most=2) == ["k=attn1.to_k", "K=attn2.to_k"]
    assert legend({"attn1.to_k": "k", "attn2.to_k": "K"}, 16, most=1) == ["k=attn1.to_k …"]


def test_a_legend_of_several_lines_is_whole_on_the_picture(tmp_path):
    names = [f"0.block{n}.projection_number_{n}" for n in range(8)]
    folder = write_adapter(tmp_path, {name: random_pair(24, 32, 8, seed=n) for n, name in enumerate(names)})
    types = [s.layer.module_type for s in lorabench.analyze(folder).spectra]
    text = "\n".join(drawn(plots.norm_by_depth, lorabench.analyze(folder).spectra, (56, 20)))
    shared = "projection_number_"
    for name, letter in module_letters(types).items():
        assert f"{letter}={name.removeprefix(shared)}" in text or f"{letter}={name}" in text


def test_module_types_stand_side_by_side_within_their_depth(spectra):
    lines = drawn(plots.alpha_by_depth, spectra)
    assert "α by depth: 12 layers" in lines[0]
    marks = [mark for line in lines[1:-2] for mark in line if mark in "qv"]
    assert sorted(marks) == ["q"] * 6 + ["v"] * 6


def test_letters_that_hide_others_are_counted(spectra):
    twice = [*spectra[:12], *spectra[:12]]
    lines = drawn(plots.norm_by_depth, twice)
    assert "24 layers, 12 hidden" in lines[0]
    assert sum(line.count("q") + line.count("v") for line in lines[1:-2]) == 12
    for width in range(24, 60):  # the counts give way to the title
        assert "‖ΔW‖ by depth" in drawn(plots.norm_by_depth, twice, (width, 12))[0], width


def test_borders_far_from_the_values_do_not_stretch_the_axis(spectra):
    values = [s.alpha.fit.alpha for s in spectra[:12]]
    low, high, near = plots.reach(np.array(values), plots.BORDERS)
    assert max(values) < 2 - 0.2 * (max(values) - min(values))
    assert (low, high, near) == (min(values), max(values), [])
    assert plots.reach(np.array([1.5, 3.9]), plots.BORDERS) == (1.5, 4.0, [2.0, 4.0])


@pytest.mark.parametrize("size", [(40, 12), (80, 20), (200, 50)])
def test_one_value_makes_one_bar_between_gaps(spectra, size):
    filled = "".join(drawn(plots.eigenvalue_histogram, spectra[0], size)[-4]).strip("│┤0 ")
    assert 3 <= len(filled.replace("│", " ").split()) <= 7


@pytest.mark.parametrize("size", [(40, 12), (80, 20), (200, 50)])
def test_bars_stand_on_the_axis_and_leave_gaps(spectra, size):
    lines = drawn(plots.eigenvalue_histogram, spectra[0], size)
    body = lines[2:-3]
    columns = [x for x in range(size[0]) if any(line.ljust(size[0])[x] == "█" for line in body)]
    assert all(body[-1][x] == "█" for x in columns)
    for x in columns:
        filled = [line.ljust(size[0])[x] in "█│" for line in body]
        assert filled == sorted(filled)
    assert len(columns) < max(columns) - min(columns) + 1
    assert "█" not in body[0]


def test_a_thousand_layers_are_thinned(spectra):
    many = np.arange(5000.0)
    x, y = plots._thin(many, many * 2)
    assert len(x) == plots.MOST_POINTS
    assert (x[0], x[-1]) == (0, 4999)
    assert y == [2 * value for value in x]


def test_all_colours_stand_out_on_white_and_on_near_black():
    def luminance(triplet):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in triplet.normalized]
        return np.dot([0.2126, 0.7152, 0.0722], parts)

    colors = plots.PLAIN
    for number in (colors.data, colors.mark, colors.border, *colors.series):
        assert number >= 16  # the first 16 are the terminal theme's own
        light = luminance(Color.from_ansi(number).get_truecolor())
        assert 1.05 / (light + 0.05) >= 3
        assert (light + 0.05) / (luminance(ColorTriplet(30, 30, 30)) + 0.05) >= 3


NUMBERS = st.floats(min_value=1e-30, max_value=1e30)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(NUMBERS, st.just(0.0), st.just(1.0)), max_size=40), data=st.data())
def test_any_spectrum_can_be_drawn(spectra, values, data):
    ordered = np.sort(np.array(values))[::-1]
    ranks = [min(len(values), rank) for rank in (1, 2, 3)]
    spectrum = LayerSpectrum(
        layer=spectra[0].layer,
        part="ΔW",
        singular_values=ordered,
        norm_a=1.0,
        norm_b=1.0,
        frobenius_norm=float(data.draw(st.sampled_from([0.0, 1e-9, 1.0, math.nan, 1e30]))),
        spectral_norm=1.0,
        stable_rank=1.0,
        effective_rank=1.0,
        rank90=ranks[0],
        rank95=ranks[1],
        rank99=ranks[2],
        alpha=None,
        verdict=spectra[0].verdict,
    )
    for draw in MODULE_PLOTS:
        assert len(drawn(draw, spectrum, (40, 12))) == 12
    for draw in ADAPTER_PLOTS:
        assert len(drawn(draw, [spectrum, *spectra], (40, 12))) == 12
