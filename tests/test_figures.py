"""Figures: what they show, that they are legible, and that saving one twice writes the same bytes."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Bbox

import pcsim
from pcsim.analysis.recorded_norms import recorded_norms
from pcsim.errors import InputError
from pcsim.graph import graph_from, level, uneven_edges
from pcsim.view.coordinates import apart, positions_of
from pcsim.view.drawing import ROLES, UNEVEN, drawing
from pcsim.view.figures import (
    Point,
    cone_by_level,
    convergence,
    heat_map,
    norms,
    not_drawn,
    plot_run,
    run_figures,
    series_figure,
    ticks_against,
)
from pcsim.view.heat import by_level
from pcsim.view.lanes import Link, crossings, is_lane, layout
from pcsim.view.picture import picture
from pcsim.view.scales import decades
from pcsim.view.space_time import space_time, strokes_of
from pcsim.view.style import COLOURS, PALE, VERMILLION, legend_columns, save, short, short_names, text_size

ROOT = Path(__file__).parents[1]


def affine(*inputs, **more):
    return {"op": "affine", "units": 4, "inputs": list(inputs), **more}


def op(name, *inputs):
    return {"op": name, "inputs": list(inputs)}


TWELVE = {
    "x": {"op": "input", "shape": [4]},
    "h1": affine("x"),
    "a1": op("tanh", "h1"),
    "h2": affine({"from": "a1", "delay": 2}),
    "a2": op("tanh", "h2"),
    "s": op("add", "a2", {"from": "x", "delay": {"value": 0, "error": 2}}),
    "h3": affine("s"),
    "a3": op("relu", "h3"),
    "w": {"op": "parameter", "shape": [4]},
    "m": op("multiply", "a3", "w"),
    "d": op("add", "m", "m"),
    "y": op("add", "d", {"from": "a1", "delay": 3}),
}


@pytest.fixture(scope="module")
def twelve():
    return graph_from({"title": "Twelve", "vertices": TWELVE})


def wide(width, layers):
    """A graph of so many tanh vertices in each of so many layers."""
    vertices = {"x": {"op": "input", "shape": [4]}}
    before = ["x"] * width
    for layer in range(layers):
        now = [f"t{layer}.{place}" for place in range(width)]
        vertices |= {name: op("tanh", pre) for name, pre in zip(now, before, strict=True)}
        before = now
    return graph_from({"vertices": vertices})


def series(values, levels):
    values = np.asarray(values, dtype=float)
    coords = {
        "tick": np.arange(len(values)),
        "vertex": [f"v{place}" for place in range(values.shape[1])],
        "level": ("vertex", list(levels)),
    }
    return xr.DataArray(values, dims=("tick", "vertex"), coords=coords)


def decay(levels, ticks=40):
    levels = np.asarray(levels)
    return series(np.exp(-np.maximum(0, np.arange(ticks)[:, None] - levels)), levels)


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def texts_of(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = [*figure.axes[0].texts, *(text for legend in figure.legends for text in legend.get_texts())]
    renderer = canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown if text.get_text()]


def overlapping(figure):
    pairs = combinations(texts_of(figure), 2)
    return [(one, other) for (one, box), (other, next_box) in pairs if box.overlaps(next_box)]


def outside(figure):
    width, height = figure.get_size_inches() * figure.dpi
    page = Bbox.from_extents(0, 0, width, height)
    return [text for text, box in texts_of(figure) if not _holds(page, box)]


# convergence


def measured_lines(figure):
    return [line for line in figure.axes[0].lines if len(line.get_xdata()) == 40]


def test_convergence_draws_one_line_a_vertex_with_levels_and_tolerance():
    figure = convergence(decay([2, 1, 0]), 1e-6, "three vertices")
    axes = figure.axes[0]
    measured = measured_lines(figure)
    assert len(measured) == 3
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "tick"
    assert axes.get_ylabel() == "relative difference from backprop"
    assert axes.get_title() == "three vertices"
    assert legend_of(figure) == ["v0 (level 2)", "v1 (level 1)", "v2 (level 0)", "tolerance 1e-6"]
    [tolerance] = [line for line in axes.lines if line.get_label().startswith("tolerance")]
    assert tolerance.get_linestyle() == "--"
    assert list(tolerance.get_ydata()) == [1e-6, 1e-6]


def test_lines_differ_without_colour():
    lines = measured_lines(convergence(decay(range(8)), None, ""))
    assert len({line.get_marker() for line in lines}) == 8
    assert len({to_hex(line.get_color()) for line in lines}) == 8


def test_vertices_of_one_level_share_a_colour():
    data = decay([1, 1, 0])
    data[:, 1] *= 3
    colours = [to_hex(line.get_color()) for line in measured_lines(convergence(data, None, ""))]
    assert colours[0] == colours[1] != colours[2]


def test_many_vertices_are_panels_by_level_with_a_colour_bar():
    figure = convergence(decay(range(20)), None, "twenty")
    *panels, bar = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "levels 0 to 4", "levels 5 to 9", "levels 10 to 14", "levels 15 to 19",
    ]  # fmt: skip
    lines = [c for axes in panels for c in axes.collections if isinstance(c, LineCollection)]
    assert [len(each.get_segments()) for each in lines] == [5, 5, 5, 5]
    assert len({to_hex(colour) for each in lines for colour in each.get_colors()}) == 20
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert bar.get_ylabel() == "level (0: outputs)"
    assert legend_of(figure) == []


def test_panels_hold_the_widest_range_of_numbers(tmp_path):
    values = np.outer(np.ones(5), 10.0 ** np.linspace(-300, 300, 12))
    figure = norms(series(values, range(12)), "wide")
    low, high = zip(*(axes.get_ylim() for axes in figure.axes), strict=True)
    assert min(low) <= 1e-300
    assert max(high) >= 1e300
    assert {file.suffix for file in save(figure, tmp_path / "wide")} == {".png", ".svg"}


def test_many_vertices_of_one_level_share_an_axis():
    figure = norms(decay(np.zeros(20, int)), "one level")
    assert len(figure.axes) == 2


def test_lines_that_coincide_are_one_line_that_names_them_all():
    data = decay([2, 1, 1, 0])
    figure = norms(data, "")
    assert legend_of(figure) == ["v0 (level 2)", "v1 = v2 (level 1)", "v3 (level 0)"]
    data[:, 2] *= 1.0001
    assert legend_of(norms(data, ""))[1] == "v1 ≈ v2 (level 1)"
    same = series(np.tile(np.exp(-np.arange(40.0))[:, None], 5), [4, 3, 2, 1, 0])
    assert legend_of(norms(same, "")) == ["v0 = v1 = 3 more (levels 0 to 4)"]


def test_a_legend_names_what_can_be_seen_and_says_what_cannot():
    data = decay([3, 2, 1, 0])
    data[:, 0], data[:, 1], data[:, 2] = np.nan, 0.0, 1e-250
    figure = convergence(data, None, "", theory=data * np.nan)
    assert legend_of(figure) == [
        "v1 (level 2): exact throughout",
        "v3 (level 0)",
        "not drawn: v0 (no number); v2 (outside of the axis)",
    ]


def test_zeros_stand_on_a_line_named_exact():
    data = decay([1, 0])
    data[10:, 1] = 0.0
    axes = convergence(data, None, "").axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    labels = dict(zip(names, axes.get_yticks(), strict=True))
    drawn = axes.lines[2].get_ydata()
    assert set(drawn[10:]) == {labels["exact"]}
    assert 0 < labels["exact"] < float(data.where(data > 0).min())
    assert axes.get_ylim()[0] < labels["exact"]


def test_without_zeros_there_is_no_line_for_them():
    axes = convergence(decay([1, 0]), None, "").axes[0]
    assert "exact" not in [text.get_text() for text in axes.get_yticklabels()]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1.0, 5e-324, 1e308])
@pytest.mark.parametrize("vertices", [2, 12])
def test_any_value_is_drawn_without_a_warning(value, vertices, tmp_path):
    data = series(np.full((5, vertices), value), range(vertices))
    figures = {"one": convergence(data, 1e-3, "one value", data), "two": norms(data, "one"), "three": heat_map(data)}
    for name, figure in figures.items():
        assert all(path.stat().st_size > 0 for path in save(figure, tmp_path / name))


def test_values_that_are_no_number_are_left_out():
    data = decay([1, 0])
    data[3:6, 0] = np.nan
    data[7, 0] = np.inf
    drawn = convergence(data, None, "").axes[0].lines[0].get_ydata()
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [3, 4, 5, 7]


def test_numbers_that_are_not_finite_are_told():
    data = decay([1, 0])
    data[30:, 0] = np.inf
    assert legend_of(norms(data, ""))[-1] == "not finite from tick 30 on"
    assert legend_of(heat_map(data))[-1] == "not finite"
    data[30:, 0], data[5, 1] = 1.0, np.nan
    assert legend_of(norms(data, ""))[-1] == "not finite at tick 5"


def test_theory_is_a_band_beneath_what_was_measured():
    data = decay([2, 1, 0])
    figure = convergence(data, None, "", theory=data * 2)
    [theory] = figure.axes[0].collections
    measured = measured_lines(figure)
    assert theory.get_zorder() < min(line.get_zorder() for line in measured)
    assert theory.get_linewidths()[0] > 2 * max(line.get_linewidth() for line in measured)
    np.testing.assert_array_equal(theory.get_segments()[0][:, 1], 2 * data[:, 0])
    assert legend_of(figure)[-1] == "theory"


def test_a_vertex_that_reaches_no_output_says_so():
    assert legend_of(convergence(decay([1, -1]), None, "")) == ["v0 (level 1)", "v1 (reaches no output)"]
    assert legend_of(convergence(decay([-1, *range(9)]), None, "")) == ["reaches no output"]


def test_the_order_of_dims_does_not_matter(tmp_path):
    data = decay([1, 0])
    one, other = (save(convergence(d, None, ""), tmp_path / n)[0] for d, n in ((data, "a"), (data.T, "b")))
    assert one.read_bytes() == other.read_bytes()


def test_two_thousand_lines_are_a_picture_in_the_svg(tmp_path):
    _, svg = save(convergence(decay(np.arange(2000) // 40, 100), 1e-3, "many"), tmp_path / "many")
    assert svg.stat().st_size < 2**20


def test_norms_names_its_axis():
    data = decay([1, 0])
    data[:3, 0] = 0.0
    axes = norms(data, "").axes[0]
    assert axes.get_ylabel() == "norm of the error"
    assert "exactly 0" in [text.get_text() for text in axes.get_yticklabels()]


def test_decades_hold_every_value():
    span = decades(np.array([3e-5, 0.0, 20.0, np.nan]))
    assert (span.low, span.high) == (-5, 2)
    assert span.zero == pytest.approx(1e-6)
    np.testing.assert_array_equal(span.heights(np.array([0.0, 1.0, np.inf])), [span.zero, 1.0, np.nan])


# heat map


def cone_norm():
    levels = np.array([3, 2, 2, 1, 0])
    ticks = np.arange(10)[:, None]
    return series(np.where(ticks >= levels, 2.0**-levels, 0.0), levels)


def test_levels_add_up_as_a_root_of_squares():
    levels, values = by_level(cone_norm())
    assert levels.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(values[2, 2:], np.sqrt(2) / 4)
    assert (values[2, :2] == 0).all()


def test_tiny_and_huge_norms_are_neither_lost_nor_overflow():
    _, values = by_level(series([[1e-200, 1e-200], [1e300, 1e300]], [1, 1]))
    np.testing.assert_allclose(values, [[np.sqrt(2) * 1e-200, np.sqrt(2) * 1e300]])


def test_heat_map_has_outputs_at_the_bottom_and_zeros_in_grey():
    figure = heat_map(cone_norm(), {0: 0, 1: 1, 2: 2, 3: 3}, "heat")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "tick"
    assert axes.get_ylabel() == "level"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["outputs  0", "1", "2", "3"]
    assert axes.get_ylim() == (-0.5, 3.5)
    [mesh] = [c for c in axes.collections if isinstance(c, QuadMesh)]
    FigureCanvasAgg(figure).draw()
    colours = mesh.get_facecolors().reshape(4, 10, 4)
    np.testing.assert_array_equal(colours[3, 0], to_rgba(PALE))
    assert (colours[3, 3] != to_rgba(PALE)).any()
    assert legend_of(figure) == ["exactly 0: outside the light cone", "light cone"]


def test_levels_that_are_missing_are_marked_by_dots():
    axes = heat_map(series(np.ones((4, 3)), [0, 1, 9])).axes[0]
    labels = dict(zip((text.get_text() for text in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert labels == {"outputs  0": 0, "1": 1, "9": 2, "⋮": 1.5}


def test_a_colour_bar_of_less_than_a_decade_has_numbers():
    figure = heat_map(series([[1.0, 2.0], [3.0, 4.0]], [1, 0]))
    FigureCanvasAgg(figure).draw()
    assert len([text for text in figure.axes[1].get_yticklabels() if text.get_text()]) > 2


def test_the_light_cone_runs_along_the_first_ticks():
    axes = heat_map(cone_norm(), {0: 0, 1: 1, 2: 2, 3: 3}).axes[0]
    [line] = axes.lines
    assert line.get_xdata().tolist() == [-0.5, -0.5, 0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    assert line.get_ydata().tolist() == [-0.5, 0.5, 0.5, 1.5, 1.5, 2.5, 2.5, 3.5]


def test_zeros_after_the_light_cone_are_not_called_outside_it():
    data = cone_norm()
    data[8:, 0] = 0.0
    assert legend_of(heat_map(data)) == ["exactly 0"]


# the drawing


def boxes_of(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]


def test_no_texts_overlap_in_a_drawing_of_twelve(twelve):
    figure = drawing(twelve)
    shown = [text for text, _ in texts_of(figure)]
    assert set(TWELVE) <= set(shown)
    assert {"2", "3", "value 0,\nerror 2", "Twelve", "outputs: level 0"} <= set(shown)
    assert overlapping(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize(("width", "layers"), [(1, 2), (4, 3), (9, 6), (29, 2), (1, 59)])
def test_no_texts_overlap_in_drawings_of_3_to_60(width, layers):
    figure = drawing(wide(width, layers))
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_boxes_hold_their_texts_and_stand_apart(twelve):
    figure = drawing(twelve)
    FigureCanvasAgg(figure).draw()
    boxes = [box.get_window_extent() for box in boxes_of(figure)]
    assert len(boxes) == 12
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    inside = [text for text, box in texts_of(figure) if any(_holds(outer, box) for outer in boxes)]
    assert len(inside) == 2 * 12


def _holds(outer, inner):
    return outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1


def test_no_arrow_runs_through_a_box(twelve):
    figure = drawing(twelve)
    boxes = boxes_of(figure)
    arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == len(twelve.edges)
    for arrow in arrows:
        points = arrow._path_original.interpolated(1).to_polygons(closed_only=False)[0][1:-1]
        for box in boxes:
            corner = np.array([box.get_x(), box.get_y()])
            size = np.array([box.get_width(), box.get_height()])
            assert not ((points > corner + 1e-6) & (points < corner + size - 1e-6)).all(axis=1).any()


def test_levels_run_from_sources_on_the_left_to_outputs_on_the_right(twelve):
    shown = picture(twelve)
    assert shown.headings[0] == "level 12"
    assert shown.headings[-1] == "outputs: level 0"
    assert shown.boxes["x"].column == 0
    assert shown.boxes["y"].column == len(shown.headings) - 1
    assert all(shown.boxes[edge.pre].column < shown.boxes[edge.post].column for edge in twelve.edges)


def test_levels_that_are_missing_are_marked_in_a_drawing(twelve):
    shown = picture(twelve)
    assert [shown.headings[column] for column in shown.breaks] == ["level 7"]
    assert [text.get_text() for text in drawing(twelve).axes[0].texts].count("…") == 1


def test_roles_have_their_colours(twelve):
    figure = drawing(twelve)
    boxes = boxes_of(figure)
    shown = [to_hex(box.get_facecolor()).upper() for box in boxes]
    for role, count in {"source": 1, "parameter": 1, "output": 1, "free": 9}.items():
        assert shown.count(ROLES[role]["facecolor"].upper()) == count
    assert legend_of(figure) == ["source", "parameter", "free", "output", "delay in ticks", UNEVEN]


def test_uneven_edges_are_in_the_warning_colour_until_levelled(twelve):
    def warned(graph):
        arrows = (patch for patch in drawing(graph).axes[0].patches if isinstance(patch, FancyArrowPatch))
        return sum(to_hex(arrow.get_edgecolor()) == VERMILLION.lower() for arrow in arrows)

    assert warned(twelve) == len(uneven_edges(twelve)) == 1
    levelled = level(twelve, "delay")
    assert warned(levelled) == 0
    assert UNEVEN not in legend_of(drawing(levelled))


def test_parallel_edges_have_ports_of_their_own(twelve):
    shown = picture(twelve)
    found = layout(shown)
    placed = positions_of(shown, found, text_size)
    pair = [link for link in found.links if (link.pre, link.post) == ("m", "d")]
    assert len(pair) == 2
    assert abs(placed.start[pair[0]][1] - placed.start[pair[1]][1]) > 0.1
    assert abs(placed.end[pair[0]][1] - placed.end[pair[1]][1]) > 0.1


def test_above_sixty_vertices_those_of_a_level_and_op_share_a_box():
    shown = picture(wide(64, 2))
    assert [box.lines for box in shown.boxes.values()] == [("x", "input"), ("tanh", "x 64"), ("tanh", "x 64")]
    assert [box.role for box in shown.boxes.values()] == ["source", "free", "output"]
    assert len(shown.arrows) == 2
    assert overlapping(drawing(wide(64, 2))) == []


def test_grouped_arrows_tell_the_range_of_their_delays():
    vertices = {"x": {"op": "input", "shape": [4]}}
    vertices |= {f"t{k}": op("tanh", {"from": "x", "delay": k % 4}) for k in range(70)}
    shown = picture(graph_from({"vertices": vertices}))
    assert [arrow.label for arrow in shown.arrows] == ["0 to 3"]
    assert [box.count for box in shown.boxes.values()] == [1, 70]


def test_the_middle_of_a_deep_graph_is_one_box():
    shown = picture(wide(1, 300))
    assert len(shown.headings) == 17
    assert ("…", "x 285") in [box.lines for box in shown.boxes.values()]
    assert sum(box.count for box in shown.boxes.values()) == 301


def test_a_vertex_that_no_error_reaches_is_drawn_apart():
    vertices = {"x": {"op": "input", "shape": [4]}, "y": op("tanh", "x"), "lost": op("relu", "x")}
    figure = drawing(graph_from({"vertices": vertices, "outputs": ["y"]}))
    assert "reaches no output" in legend_of(figure)


def test_sweeps_undo_crossings():
    vertices = {"x": {"op": "input", "shape": [4]}}
    vertices |= {f"a{k}": op("tanh", "x") for k in range(5)}
    vertices |= {f"b{k}": op("relu", f"a{4 - k}") for k in range(5)}
    found = layout(picture(graph_from({"vertices": vertices})))
    assert crossings(found.columns, found.links) == 0


def test_crossings_are_counted():
    columns = (("a", "b"), ("c", "d"))
    assert crossings(columns, [Link("a", "d", 0), Link("b", "c", 0)]) == 1
    assert crossings(columns, [Link("a", "c", 0), Link("b", "d", 0), Link("a", "d", 0)]) == 0


def test_long_arrows_have_a_lane_in_each_column_they_cross(twelve):
    found = layout(picture(twelve))
    [route] = [route for route in found.routes if (route[0].pre, route[-1].post) == ("a1", "y")]
    assert len(route) == 8
    assert all(is_lane(link.post) for link in route[:-1])


def test_apart_keeps_what_does_not_overlap_and_moves_the_rest_least():
    assert apart([0.0, 5.0], [1.0, 1.0], [1.0, 1.0]) == [0.0, 5.0]
    light, heavy = apart([0.0, 0.0], [1.0, 1.0], [0.1, 1.0])
    assert heavy - light == pytest.approx(1.2)
    assert abs(heavy) < abs(light)


# ticks to convergence


def points():
    fpa = [Point(depth, "fpa", depth, 1000, depth) for depth in (2, 4, 8, 16)]
    il = [Point(depth, "il", depth**3 if depth < 9 else None, 1000, depth**3) for depth in (2, 4, 8, 16)]
    return [*fpa, *il, Point(16, "fast", None, 1000, None, diverged=True)]


def draw_points():
    return ticks_against(points(), x_label="depth", title="chain")


def test_ticks_are_drawn_on_two_logarithms_with_plain_numbers():
    figure = draw_points()
    axes = figure.axes[0]
    FigureCanvasAgg(figure).draw()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "4", "8", "16"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("depth", "ticks to convergence")
    assert all(text.get_text().isdecimal() for text in axes.get_yticklabels())


def test_series_theory_and_runs_that_did_not_converge():
    figure = draw_points()
    lines = figure.axes[0].lines
    measured = [line for line in lines if line.get_label() in ("fpa", "il")]
    assert [line.get_ydata().tolist() for line in measured] == [[2, 4, 8, 16], [8, 64, 512]]
    assert [line.get_color() for line in measured] == list(COLOURS[:2])
    theory = [line for line in lines if line.get_linestyle() == "-"]
    assert [list(line.get_ydata()) for line in theory] == [[2, 4, 8, 16], [8, 64, 512, 4096]]
    assert max(line.get_zorder() for line in theory) < min(line.get_zorder() for line in measured)
    [late] = [line for line in lines if line.get_marker() == "^"]
    assert (late.get_xdata()[0], late.get_ydata()[0]) == (16, 1000)
    assert late.get_markerfacecolor() == "white"
    [lost] = [line for line in lines if line.get_marker() == "x"]
    assert lost.get_ydata()[0] == 1000
    assert legend_of(figure) == ["fpa", "il", "fast", "theory (line)", "not within the horizon", "diverged"]


def test_a_step_size_of_zero_makes_the_axis_linear():
    some = [Point(x, "s", 3.0, 10, None) for x in (0.0, 1.0, 2.0)]
    assert ticks_against(some, x_label="seed", title="").axes[0].get_xscale() == "linear"


def test_runs_that_converge_at_once_are_drawn(tmp_path):
    figure = ticks_against([Point(1, "s", 0, 10, 0)], x_label="x", title="at once")
    save(figure, tmp_path / "one")
    assert [x for x, _ in drawn(figure.axes[0])].count(1) == 1


def drawn(axes):
    """Return the places at which something is marked, in the coordinates of the data."""
    return [tuple(point) for line in axes.lines if line.get_marker() != "None" for point in line.get_xydata()]


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("x", [(0.5, 1.0, 1.9, 2.5), (-1.0, 0.0, 4.0, 9.0)])
def test_runs_that_did_not_converge_are_within_the_axes(x, diverged):
    some = [Point(place, "s", 3.0 if k < 2 else None, 40, None, diverged and k > 1) for k, place in enumerate(x)]
    axes = ticks_against(some, x_label="step size", title="").axes[0]
    assert sorted(drawn(axes)) == [(x[0], 3), (x[1], 3), (x[2], 40), (x[3], 40)]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < x[0] < x[3] < right
    assert bottom < 3 < 40 < top


def test_values_that_are_no_ticks_are_drawn_as_they_are():
    values = [0.4, 0.07, 7e-3, 8e-4, 8e-5, 0.0]
    some = [Point(10.0**k, "s", value, 100, None) for k, value in enumerate(values)]
    axes = ticks_against(some, x_label="variance", title="", y_label="difference").axes[0]
    heights = [y for _, y in drawn(axes)]
    assert heights[:5] == values[:5]
    assert 0 < heights[5] < 1e-5
    labels = dict(zip(axes.get_yticks(), (text.get_text() for text in axes.get_yticklabels()), strict=True))
    assert labels[heights[5]] == "exact"
    assert labels[1e-3] == "10⁻³"
    assert axes.get_ylabel() == "difference"


def test_diverged_runs_stand_above_values_and_runs_without_a_value_are_left_out():
    some = [Point(1, "s", 0.02, 10, None), Point(2, "s", None, 10, None, diverged=True), Point(3, "s", None, 10, None)]
    figure = ticks_against(some, x_label="x", title="", y_label="difference")
    assert drawn(figure.axes[0]) == [(1, 0.02), (2, 0.1)]
    assert legend_of(figure) == ["s", "diverged"]


def test_means_have_bars_and_say_of_how_many_runs_they_are():
    some = [Point(1, "s", 8.0, 99, None, spread=(5.0, 11.0), share="4 of 5"), Point(2, "s", 20.0, 99, None)]
    figure = ticks_against(some, x_label="x", title="")
    bars = [line.get_ydata().tolist() for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1]
    assert bars == [[5.0, 11.0]]
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["4 of 5"]
    assert legend_of(figure) == ["s", "± standard deviation over seeds", "k of n: mean of the k converged runs"]
    assert figure.axes[0].get_ylim()[0] < 5


def test_means_with_bars_stand_side_by_side():
    some = [Point(1, name, 8.0, 99, None, spread=(5.0, 11.0)) for name in ("left", "right")]
    figure = ticks_against(some, x_label="x", title="")
    FigureCanvasAgg(figure).draw()
    left, right = (line for line in figure.axes[0].lines if line.get_label() in ("left", "right"))
    places = [line.get_transform().transform(line.get_xydata())[0, 0] for line in (left, right)]
    assert places[1] - places[0] == pytest.approx(7 * figure.dpi / 72)


def test_series_that_coincide_can_all_be_seen():
    some = [Point(x, name, x, 99, x) for name in ("under", "over") for x in (1.0, 2.0)]
    lines = ticks_against(some, x_label="x", title="").axes[0].lines
    under, over = (line for line in lines if line.get_label() in ("under", "over"))
    assert under.get_markersize() > over.get_markersize() + 3
    assert under.get_zorder() < over.get_zorder()


def test_ticks_of_0_do_not_stretch_the_axis_to_the_horizon():
    axes = ticks_against([Point(1, "s", 0, 10**6, None)], x_label="x", title="").axes[0]
    assert axes.get_ylim()[1] < 10


def test_no_points_are_refused():
    with pytest.raises(InputError, match="no run to draw"):
        ticks_against([], x_label="x", title="")


# energy


def energy(values):
    return xr.DataArray(np.asarray(values, float), dims="tick", coords={"tick": np.arange(len(values))})


def test_energy_is_logarithmic_where_it_falls_by_much():
    assert series_figure(energy(np.exp(-np.arange(20.0)))).axes[0].get_yscale() == "log"
    assert series_figure(energy([3.0, 2.0, np.nan, -1.0])).axes[0].get_yscale() == "linear"
    axes = series_figure(energy([3.0, 2.0])).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tick", "free energy")
    assert axes.lines[0].get_ydata().tolist() == [3.0, 2.0]


def test_energies_that_are_not_finite_are_told():
    assert legend_of(series_figure(energy([3.0, np.inf, np.nan]))) == ["not finite from tick 1 on"]
    assert legend_of(series_figure(energy([np.nan]))) == ["not finite at tick 0"]


# saving and the whole run


def test_two_saves_write_the_same_bytes(twelve, tmp_path):
    figures = {
        "graph": lambda: drawing(twelve),
        "ticks": draw_points,
        "heat": lambda: heat_map(cone_norm(), {0: 0}),
        "lines": lambda: convergence(decay(range(12)), 1e-3, "12"),
    }
    for name, draw in figures.items():
        pairs = zip(save(draw(), tmp_path / name), save(draw(), tmp_path / "again" / name), strict=True)
        assert all(one.read_bytes() == other.read_bytes() for one, other in pairs), name


def test_files_are_png_and_svg_with_text_as_text(twelve, tmp_path):
    png, svg = save(drawing(twelve), tmp_path / "v1.2" / "graph")
    assert (png.name, svg.name) == ("graph.png", "graph.svg")
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    words = {element.text for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {"h1", "affine", "parameter"} <= words
    assert "<dc:date>" not in svg.read_text(encoding="utf-8")


def test_a_stem_may_hold_a_point(tmp_path):
    assert save(series_figure(energy([1.0])), tmp_path / "gamma-0.5")[0].name == "gamma-0.5.png"


def test_settings_of_the_caller_are_left_alone(twelve, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    save(drawing(twelve), tmp_path / "graph")
    assert dict(mpl.rcParams) == before


def test_plot_run_draws_what_the_series_allow(twelve, tmp_path):
    node = xr.Dataset(
        {"energy": energy(np.ones(10)), "norm": cone_norm(), "divergence": cone_norm(), "theory": cone_norm()}
    )
    tree = xr.DataTree.from_dict({"/series": node})
    paths = plot_run(tree, twelve, tmp_path / "plots", "a run", tolerance=1e-6)
    names = ["convergence", "errors", "heat-map", "space-time", "energy", "graph"]
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    assert all(path.stat().st_size > 1000 for path in paths)
    only = plot_run(xr.DataTree.from_dict({"/series": node[["energy"]]}), None, tmp_path, "a run")
    assert [path.name for path in only] == ["energy.png", "energy.svg"]
    assert [path.name for path in plot_run(xr.DataTree(), twelve, tmp_path, "")] == ["graph.png", "graph.svg"]


def late_chain():
    """A chain of three scalars with a delay of 4 ticks, and errors of 1 within its light cone, over 20 ticks."""
    late = op("tanh", {"from": "a", "delay": 4})
    vertices = {"x": {"op": "input", "shape": []}, "a": op("tanh", "x"), "b": late, "y": op("tanh", "b")}
    ticks, levels = np.arange(20), {"a": 6, "b": 1, "y": 0}
    data = np.stack([(ticks >= level).astype(float) for level in levels.values()], axis=1)
    norm = xr.DataArray(data, dims=("tick", "vertex"), coords={"tick": ticks, "vertex": list(levels)})
    return norm, graph_from({"vertices": vertices})


def test_strokes_go_from_where_an_error_was_sent_to_where_it_acts():
    strokes = strokes_of(*late_chain())
    (sent, low), (acts, high) = strokes.ends[:, 0].T, strokes.ends[:, 1].T
    assert len(strokes.norms) == 20 + 19  # y at every tick, b at all but the first; nothing is sent to the source
    np.testing.assert_array_equal(high - low, acts - sent)
    assert (sent >= low).all()


def test_messages_of_many_ticks_are_thinned_out(monkeypatch):
    monkeypatch.setattr("pcsim.view.space_time.MOST_STROKES", 10)
    strokes = strokes_of(*late_chain())
    assert strokes.every == 4
    assert sorted(set(strokes.ends[:, 0, 0])) == [0, 4, 8, 12, 16]


def test_a_run_without_errors_says_so_in_the_space_time_figure():
    norm, graph = late_chain()
    [axes] = space_time(0 * norm, graph, {}, "silent").axes
    assert [text.get_text() for text in axes.texts] == ["no error was sent to a free vertex"]


def recorded_run(what, tmp_path, **overrides):
    return pcsim.simulate(ROOT / "scenarios/first-steps.yaml", {"record": [{"what": what}], **overrides}, out=tmp_path)


def test_norms_are_taken_from_errors_where_they_were_not_recorded(tmp_path):
    errors = recorded_run(["value", "error", "message"], tmp_path / "errors", batch=3)
    wanted = recorded_run(["norm"], tmp_path / "norms", batch=3).trace["series"]["norm"]
    found = recorded_norms(errors.trace, pcsim.load(errors.manifest["scenario"]).levelled)
    xr.testing.assert_identical(found.drop_attrs(), wanted.drop_attrs().rename(found.name))
    names = [path.name for path in run_figures(errors, tmp_path / "plots")]
    assert names[::2] == ["errors.png", "heat-map.png", "space-time.png", "graph.png"]
    assert not_drawn(errors).startswith("not drawn: convergence, energy; to record")
    assert "[divergence, energy]" in not_drawn(errors)


def test_norms_of_some_vertices_are_joined_by_those_of_other_errors(tmp_path):
    record = [{"what": "norm", "vertices": "y"}, {"what": "error", "vertices": ["h1", "y"]}]
    run = pcsim.simulate(ROOT / "scenarios/first-steps.yaml", {"record": record})
    assert recorded_norms(run.trace, None)["vertex"].to_numpy().tolist() == ["h1", "y"]
    record[1]["every"] = 2
    run = pcsim.simulate(ROOT / "scenarios/first-steps.yaml", {"record": record})
    assert recorded_norms(run.trace, None)["vertex"].to_numpy().tolist() == ["y"]


def test_nothing_is_missing_from_a_run_that_recorded_all_series(tmp_path):
    assert not_drawn(recorded_run(["energy", "norm", "divergence"], tmp_path)) == ""


@pytest.mark.parametrize(("rule", "shown"), [("il", False), ("fpa", True)])
def test_the_tolerance_of_another_criterion_is_not_shown(rule, shown, tmp_path):
    run = recorded_run(["divergence"], tmp_path / "run", rule={"name": rule, "step_size": 0.2, "ticks": 9})
    run_figures(run, tmp_path)
    assert ("tolerance" in (tmp_path / "convergence.svg").read_text()) == shown


def test_a_run_of_a_scenario_with_a_sweep_is_drawn(tmp_path):
    run = pcsim.simulate(ROOT / "scenarios/linear-chain.yaml", {"rule.ticks": 5}, out=tmp_path / "run")
    assert len(run_figures(run, tmp_path)) == 12


@pytest.mark.parametrize("tree", [xr.DataTree(), xr.DataTree.from_dict({"/series": xr.Dataset()})])
def test_plot_run_says_when_there_is_nothing_to_draw(tree, tmp_path):
    with pytest.raises(InputError, match=r"nothing to draw.*record"):
        plot_run(tree, None, tmp_path / "plots", "")
    assert not (tmp_path / "plots").exists()


def test_the_cone_of_a_level_is_its_earliest_vertex(twelve):
    cone = cone_by_level(twelve, moving=False)
    assert cone[0] == 0
    assert cone[1] == 1
    assert cone[10] == 4  # a1, over the edge to y of delay 3


def test_names_are_kept_legible():
    assert short("h1") == "h1"
    assert short("_h1") == " _h1"
    assert len(short("a" * 200)) == 22
    data = series([[1.0], [0.5]], [0]).assign_coords(vertex=["_hidden"])
    assert legend_of(convergence(data, None, "")) == [" _hidden (level 0)"]
    assert legend_columns(["a" * 60] * 3, 4.7) == 1


def test_long_names_that_differ_in_their_middle_are_told_apart():
    names = [f"_encoder_block_{i}_with_attention_over_all_positions" for i in range(12)]
    assert len({short(name) for name in names}) == 1
    shown = short_names(names)
    assert len(set(shown.values())) == 12
    assert all(f"{i}_with" in shown[name] for i, name in enumerate(names))
    assert max(map(len, shown.values())) <= 23
    data = series([[1.0], [0.5]], [0]).assign_coords(vertex=names[:1])
    assert legend_of(convergence(data, None, "")) == [f"{short(names[0])} (level 0)"]
    chain = {"x": {"op": "input", "shape": [1]}}
    chain |= {name: {"op": "tanh", "inputs": [before]} for before, name in zip(["x", *names], names, strict=False)}
    boxes = picture(graph_from({"vertices": chain})).boxes.values()
    assert len({box.lines[0] for box in boxes}) == 13


@pytest.mark.filterwarnings("error")
def test_letters_that_the_font_lacks_bring_no_warnings(tmp_path):
    data = series([[1.0], [0.5]], [0]).assign_coords(vertex=["层"])
    assert save(convergence(data, None, ""), tmp_path / "figure")


def test_a_space_time_figure_shows_no_messages_that_are_not_finite(twelve):
    coords = {"tick": range(3), "vertex": list(twelve.vertices)}
    finite = xr.DataArray(np.ones((3, len(twelve.vertices))), dims=("tick", "vertex"), coords=coords)
    norms = finite.where(finite["tick"] != 1, np.inf)
    strokes = strokes_of(norms, twelve)
    assert np.isfinite(strokes.norms).all()
    assert strokes.norms.max() == 1
    assert 1 not in strokes.ends[:, 0, 0]
    assert "errors that are not finite are not drawn" in legend_of(space_time(norms, twelve))
    assert not legend_of(space_time(finite, twelve))


def test_a_space_time_figure_says_whose_errors_were_not_recorded(twelve):
    names = [name for name in twelve.vertices if name not in ("y", "d")]
    norms = xr.DataArray(np.ones((3, len(names))), dims=("tick", "vertex"), coords={"tick": range(3), "vertex": names})
    assert legend_of(space_time(norms, twelve)) == ["not recorded: the errors of d, y"]


def test_a_long_title_leaves_the_axes_their_height(tmp_path):
    data = series([[1.0], [0.5]], [0])
    heights = []
    for title in ("short", "a title that goes on " * 12, "a title without an end " * 200):
        figure = convergence(data, None, title)
        save(figure, tmp_path / "figure")
        heights.append(figure.axes[0].get_window_extent().height / figure.dpi)
    assert min(heights) > 0.8 * heights[0]


def test_names_with_dollars_are_no_formulas(tmp_path):
    vertices = {"$x": {"op": "input", "shape": [4]}, "$y_$": op("tanh", "$x")}
    graph = graph_from({"title": "cost in $ and $ _{", "vertices": vertices})
    save(drawing(graph), tmp_path / "graph")
    figure = series_figure(energy([1.0]), "cost $ {$")
    _, svg = save(figure, tmp_path / "energy")
    assert "cost $ {$" in svg.read_text()


def test_importing_the_view_does_not_import_matplotlib():
    code = "import sys, pcsim.view.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
