"""One self-contained page: tables of what was measured, and figures of how cost grows."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pcsim.bench.result_rows import LEGEND, baseline_rows, cold_rows, engine_rows, facts, rate_rows
from pcsim.view.html_parts import html_page, html_table, svg_of
from pcsim.view.style import COLOURS, MARKERS, look

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from pcsim.bench.bench_results import Curve, Results

PAGE = "index.html"


def write_page(results: Results, folder: Path) -> Path:
    """Write the page beside the results; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE
    path.write_text(page(results), encoding="utf-8")
    return path


def page(results: Results) -> str:
    """Return the page as HTML that needs nothing else."""
    parts = [
        "<h1>pcsim bench</h1>",
        *(f"<p>{escape(line)}</p>" for line in facts(results)),
        "<h2>This machine</h2>", html_table(rate_rows(results)),
        "<h2>Engines</h2>", *(f"<p>{escape(line)}</p>" for line in LEGEND), html_table(engine_rows(results)),
        "<h2>Baselines</h2>",
        ("<p>Time over the baseline's time in the same rounds, below 1 is faster; the interval encloses the median "
        "ratio with 95 % confidence.</p>"),
        html_table(baseline_rows(results)),
        "<h2>Start-up</h2>",
        ("<p>In a process of its own, all rules one after the other. First runs: what the first session and run of "
        "each rule cost beyond the second, in all: compiling, or loading what was compiled before.</p>"),
        html_table(cold_rows(results)),
        "<h2>How cost grows</h2>",
        ("<p>One size varies, the others stay; medians with quartiles, slopes fitted to the logarithms. Ticks are "
        "counted from tick 0: an engine may pass over what no message has reached yet.</p>"),
        growth_figure(results.growth),
    ]  # fmt: skip
    if results.missing:
        lines = [f"<li>{escape(line)}</li>" for line in results.missing]
        parts += ["<h2>What did not take part</h2>", "<ul>", *lines, "</ul>"]
    return html_page("pcsim bench", parts)


@look()
def growth_figure(growth: Sequence[Curve]) -> str:
    """Return a panel for each axis as one SVG, both scales logarithmic."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(curve.axis for curve in growth))
    if not axes:
        return "<p>None.</p>"
    figure = Figure(figsize=(10.5, 3.1 * -(-len(axes) // 3)), layout="constrained")
    for number, axis in enumerate(axes, 1):
        _panel(figure.add_subplot(-(-len(axes) // 3), 3, number), [c for c in growth if c.axis == axis])
    return svg_of(figure)


def _panel(axes: Axes, curves: Sequence[Curve]) -> None:
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        below = [1e3 * (m - low) for m, low in zip(curve.seconds, curve.low, strict=True)]
        above = [1e3 * (high - m) for m, high in zip(curve.seconds, curve.high, strict=True)]
        axes.errorbar(
            curve.sizes, [1e3 * value for value in curve.seconds], yerr=(below, above), color=colour, marker=marker,
            markersize=4, linewidth=1.2, capsize=2, label=f"{curve.rule}, slope {curve.slope:.2f}",
        )  # fmt: skip
    fixed = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in curves[0].fixed.items())
    axes.set(xscale="log", yscale="log", xlabel=curves[0].axis, ylabel=f"ms a {curves[0].per}")
    axes.set_xticks(curves[0].sizes, [f"{value:g}" for value in curves[0].sizes])
    axes.minorticks_off()
    axes.set_title(fixed, fontsize=8)
    axes.legend()
