"""The look of every figure: colours, markers, sizes of type, and how a figure is saved.

Figures are 12 cm wide and set in 9 and 10 points, so that type is near 7 points when printed 9 cm wide.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise, takewhile
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

from pcsim.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

BLACK, GREY, PALE = "#000000", "#7F7F7F", "#F0F0F0"
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, BLACK, SKY)
"""Okabe and Ito's palette in the order of use, without its yellow, which is faint on white."""

MARKERS = ("o", "s", "D", "P", "<", "*", "h", ">")
"""Told apart without colour; ``^`` and ``x`` are kept for runs that did not converge."""

LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
WIDTH = 12 / 2.54
DPI = 160
LINE = 0.16
"""Height of a line of text, in inches."""

_LOOK: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "pcsim",
    "figure.facecolor": "white",
}


@contextmanager
def look() -> Iterator[None]:
    """Draw with the settings of this package; those of the caller return on leaving.

    A letter that the font lacks is drawn as an empty box, without a warning for each time it is measured.
    """
    import matplotlib as mpl

    with mpl.rc_context(_LOOK), catch_warnings():
        filterwarnings("ignore", r"Glyph .* missing from")
        yield


def new_axes(height: float, title: str = "") -> tuple[Figure, Axes]:
    """Return an empty figure of the usual width, ``height`` inches high, and its axes."""
    from matplotlib.figure import Figure

    heading, more = _heading(title)
    figure = Figure(figsize=(WIDTH, height + more), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(heading, parse_math=False)
    return figure, axes


def _heading(title: str) -> tuple[str, float]:
    """Return a title in lines, at most five, and by how many inches a figure grows for those beyond the second."""
    lines = wrap(title, 58, max_lines=5, placeholder=" …")
    return "\n".join(lines), LINE * max(0, len(lines) - 2)


def new_panels(height: float, title: str, names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each name, in two columns with shared axes; a single one has no name."""
    from matplotlib.figure import Figure

    if len(names) == 1:
        figure, axes = new_axes(height, title)
        return figure, [axes]
    rows = -(-len(names) // 2)
    heading, more = _heading(title)
    figure = Figure(figsize=(WIDTH, 0.6 + 0.6 * height * rows + more), layout="constrained")
    grid = list(figure.subplots(rows, 2, sharex=True, sharey=True).flat)
    for axes in grid[len(names) :]:
        axes.remove()
    for axes, name in zip(grid, names, strict=False):
        axes.set_title(name, fontsize=9, loc="left")
    figure.suptitle(heading, fontsize=10, parse_math=False)
    return figure, grid[: len(names)]


def sequential(count: int) -> ListedColormap:
    """Return ``count`` colours from dark to light: viridis, but for its end, which is faint on white and in grey."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.colors import ListedColormap

    return ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.8, max(1, count))))


def text_size(text: str) -> tuple[float, float]:
    """Return the width and height in inches of a text of 9 points, as wide as it is in bold."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=_LOOK["font.sans-serif"], size=9, weight="bold")
    lines = text.split("\n")
    widths = [text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines]
    return max(widths) / 72, LINE * len(lines)


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Return the most columns, filled one after the other, in which a legend fits a width."""
    import numpy as np

    entries = np.array([text_size(label)[0] + 0.65 for label in labels])
    for count in range(len(labels), 1, -1):
        if sum(column.max() for column in np.array_split(entries, count)) <= width - 0.2:
            return count
    return 1


def remark(text: str) -> Artist:
    """Return an entry of a legend that is a sentence, without a mark before it."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", label=fill(text, 70))


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend under the axes, in as many columns as its labels leave room for; the figure grows by its height."""
    if not handles:
        return
    labels = [str(handle.get_label()) for handle in handles]
    columns = legend_columns(labels, WIDTH)
    most = -(-len(labels) // columns)
    lines = sum(max(label.count("\n") + 1 for label in labels[row::most]) for row in range(most))
    figure.set_figheight(figure.get_figheight() + 0.18 * lines)
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def short(name: str, most: int = 22) -> str:
    """Return a name cut in its middle where it is long, and fit for a legend.

    >>> short("encoder.block1.attention.query", 16)
    'encoder.…n.query'
    """
    name = _shown(name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1) // 2 :]}"


def short_names(names: Iterable[str], most: int = 22) -> dict[str, str]:
    """Return names as `short` cuts them; those that would look alike are cut around where they begin to differ.

    >>> list(short_names(["encoder.block1.attention.query", "encoder.block2.attention.query"], 16).values())
    ['enco…ock1.atten…', 'enco…ock2.atten…']
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(short(name, most), []).append(name)
    found = {group[0]: text for text, group in alike.items()}
    for group in alike.values():
        shared = [_shared(*pair) for pair in pairwise(group)]
        for name, place in zip(group, map(max, [0, *shared], [*shared, 0]), strict=True):
            if len(group) > 1:
                found[name] = _around(name, place, most)
    return found


def some(names: Sequence[str]) -> str:
    """Return the first names, cut where they are long, and how many more there are."""
    shown = short_names(names[:4])
    return ", ".join(shown[name] for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _shared(one: str, other: str) -> int:
    """Return how many letters two names begin with that are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _around(name: str, place: int, most: int) -> str:
    """Return the beginning of a long name, and what stands around a place in it."""
    head = most // 4
    first = min(max(place - 3, head), len(name) - (most - head - 1))
    rest = name[first:]
    tail = rest if len(rest) < most - head else f"{rest[: most - head - 2]}…"
    return _shown(f"{name[:head]}…{tail}")


def _shown(name: str) -> str:
    """Return a name as matplotlib shows it: labels that start with _ are hidden."""
    return f" {name}" if name.startswith("_") else name


@look()
def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write ``stem``.png and ``stem``.svg, the same bytes each time; return both paths.

    Raises RunError where they cannot be written.
    """
    png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(png, dpi=DPI, metadata={"Software": None})
        figure.set_layout_engine("none")  # everything has its position now: to find it again takes as long as to draw
        figure.savefig(svg, dpi=2 * DPI, metadata={"Date": None, "Creator": None})
    except OSError as error:
        msg = f"cannot write the figure {png} or {svg.name}: {error.strerror or error}"
        raise RunError(msg) from error
    return png, svg
