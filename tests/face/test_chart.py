"""The braille chart, and the widget that sends only what has changed."""

from __future__ import annotations

import numpy as np
import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Region

from lorabench.widgets.braille import Frame, band, characters
from lorabench.widgets.chart import Chart, Curve, last_step, smoothed
from lorabench.widgets.painting import Painting

FRAME = Frame(columns=10, rows=4, left=0, right=19, bottom=0, top=15)  # a dot for each whole number


def lit(dots: np.ndarray) -> set[tuple[int, int]]:
    """The dots as (x, y), y from the bottom."""
    rows, columns = np.nonzero(dots)
    return {(int(x), dots.shape[0] - 1 - int(row)) for row, x in zip(rows, columns, strict=True)}


def test_each_dot_of_a_cell_has_its_own_bit() -> None:
    # The Unicode standard numbers the dots 1 2 3 7 down the left column and 4 5 6 8 down the right one.
    order = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]
    for bit, (row, column) in enumerate(order):
        dots = np.zeros((4, 2), dtype=bool)
        dots[row, column] = True
        assert characters(dots).tolist() == [[0x2800 + (1 << bit)]]
    assert characters(np.zeros((4, 2), dtype=bool)).tolist() == [[ord(" ")]]


def test_points_are_drawn_where_they_are_and_joined() -> None:
    x = np.arange(4.0)
    y = np.array([0.0, 3.0, 3.0, 1.0])
    assert lit(band(FRAME, x, y, y)) == {
        (0, 0),
        *((1, y) for y in range(4)),
        (2, 3),
        *((3, y) for y in (1, 2, 3)),
    }


def test_of_many_points_in_a_column_the_extremes_are_kept() -> None:
    x = np.linspace(0, 19, 100_000)
    y = np.full_like(x, 7.0)
    y[50_000], y[50_001] = 15.0, 0.0
    column = round(x[50_000])
    drawn = lit(band(FRAME, x, y, y))
    assert {(column, 0), (column, 15)} <= drawn
    assert (column + 3, 15) not in drawn


def test_points_far_apart_are_joined_by_a_straight_line() -> None:
    x, y = np.array([0.0, 10.0]), np.array([0.0, 10.0])
    assert {(n, n) for n in range(11)} <= lit(band(FRAME, x, y, y))


def test_what_is_not_finite_or_not_in_the_frame_is_left_out() -> None:
    x = np.array([0.0, 5.0, 30.0])
    y = np.array([np.nan, 4.0, 9.0])
    assert lit(band(FRAME, x, y, y)) == {(5, 4)}
    assert not band(FRAME, x, np.full(3, np.inf), np.full(3, np.inf)).any()


def test_smoothing_keeps_a_constant_and_takes_away_noise() -> None:
    assert smoothed(np.full(100, 2.0)).tolist() == [2.0] * 100
    noise = np.random.default_rng(0).standard_normal(4096)
    assert smoothed(noise).std() < 0.15
    assert smoothed(np.array([])).size == 0


def test_smoothing_does_not_lag_behind_a_slope() -> None:
    slope = np.arange(1000.0)
    assert smoothed(slope)[100:900] == pytest.approx(slope[100:900], abs=0.02)


def test_smoothing_passes_over_what_is_not_finite() -> None:
    assert smoothed(np.array([1.0, np.nan, 1.0])).tolist() == [1.0, 1.0, 1.0]


def test_the_step_axis_ends_at_a_binary_part_of_the_total() -> None:
    assert [last_step(step, 800) for step in (1, 4, 13, 100, 101, 400, 401, 800)] == [
        6.25,
        6.25,
        25,
        100,
        200,
        400,
        800,
        800,
    ]
    assert last_step(900, 800) == 900  # beyond what was planned
    assert last_step(7, None) == 7


class ChartApp(App[None]):
    """A chart, 47 columns and 12 rows: 40 × 10 characters within its axes."""

    CSS = "Chart { width: 47; height: 12; }"

    def compose(self) -> ComposeResult:
        yield Chart()


async def drawn(curves: list[Curve], marks: Curve | None, end: float, *, log: bool = False) -> list[str]:
    app = ChartApp()
    async with app.run_test(size=(60, 14)):
        chart = app.query_one(Chart)
        chart.show(curves, marks, end, log=log)
        return [chart.render_line(y).text for y in range(12)]


def curve(kind: str, steps: object, values: object, sign: str = "⣿") -> Curve:
    x, y = np.array(steps, float), np.array(values, float)
    return Curve(kind, f"{kind} {y[-1]:g}", x, y, y, sign)


async def test_a_chart_has_a_legend_a_value_axis_and_a_step_axis() -> None:
    steps = np.arange(1, 101)
    lines = await drawn(
        [curve("train", steps, 4 - steps / 50)], curve("eval", [50, 100], [3.0, 2.0], "◆"), 100
    )
    assert lines[0].rstrip() == "⣿ train 2  ◆ eval 2"
    assert lines[1].startswith("  4.0 ┤")
    assert lines[10].startswith("  2.0 ┤")
    assert lines[11].split() == ["20", "40", "60", "80", "100"]
    assert sum(line.count("◆") for line in lines[1:11]) == 2
    assert lines[10].rstrip().endswith("◆")
    assert lines[5][7 + 19] == "◆" or lines[6][7 + 19] == "◆"  # 3.0, at the middle of both axes


async def test_a_logarithmic_axis_is_labelled_with_the_values_themselves() -> None:
    steps = np.arange(1, 101)
    lines = await drawn([curve("train", steps, 10.0 ** (-steps / 50))], None, 100, log=True)
    labels = [line[:6].strip() for line in lines[1:11] if line[:6].strip()]
    assert labels[0] == "1"
    assert labels[-1] == "0.01"
    middles = [
        7 + (len(line[7:].rstrip()) + len(line) - 7 - len(line[7:].lstrip())) / 2 for line in lines[1:11]
    ]
    assert np.diff(middles) == pytest.approx(4, abs=1)  # a straight line through 10 rows and 40 columns


async def test_a_curve_of_nothing_finite_is_told_by_its_legend_alone() -> None:
    lines = await drawn([curve("train", [1, 2], [np.nan, np.nan])], None, 2)
    assert lines[0].rstrip() == "⣿ train nan"
    assert not "".join(lines[1:]).strip()


@pytest.mark.parametrize(
    ("values", "log"),
    [([6.71421, 6.71418], False), ([0.030201, 0.030302], False), ([6.71421, 6.71418], True)],
)
async def test_the_labels_of_the_value_axis_differ_and_hold_what_is_drawn(
    values: list[float], log: bool
) -> None:
    lines = await drawn([curve("train", [1, 40], values)], None, 40, log=log)
    labels = [float(line.split("┤")[0]) for line in lines[1:11] if "┤" in line]
    assert len(labels) >= 2
    assert labels == sorted(set(labels), reverse=True)
    assert min(labels) <= max(values)
    assert max(labels) >= min(values)
    assert len({line.index("┤") if "┤" in line else line.index("│") for line in lines[1:11]}) == 1
    assert max(map(len, lines)) == 47


class PaintingApp(App[None]):
    """A painting of four lines."""

    CSS = "Painting { width: 20; height: 4; }"

    def compose(self) -> ComposeResult:
        yield Painting()


async def test_only_what_has_changed_is_painted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    app = PaintingApp()
    async with app.run_test(size=(40, 10)):
        painting = app.query_one(Painting)
        painting.paint([Text("step 1"), Text("loss 2.00 now"), Text("left")])
        asked: list[tuple[Region, ...]] = []
        monkeypatch.setattr(painting, "refresh", lambda *regions, **_: asked.append(regions))
        painting.paint([Text("step 1"), Text("loss 2.00 now"), Text("left")])
        assert asked == []
        painting.paint([Text("step 1"), Text("loss 1.98 now"), Text("left")])
        assert asked == [(Region(0, 1, 9, 1),)]
        painting.paint([Text("step 1"), Text("loss 1.98 now", "bold"), Text("left")])
        assert asked[1:] == [(Region(0, 1, 13, 1),)]
        painting.paint([Text("step 1")])
        assert asked[2:] == [(Region(0, 1, 13, 1), Region(0, 2, 4, 1))]


async def test_a_line_that_is_too_long_ends_in_an_ellipsis() -> None:
    app = PaintingApp()
    async with app.run_test(size=(40, 10)):
        painting = app.query_one(Painting)
        painting.paint([Text("x" * 30)])
        assert painting.render_line(0).text == "x" * 19 + "…"
        assert painting.render_line(1).text == " " * 20
