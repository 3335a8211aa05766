"""A tick as a picture in text: errors by level, and messages under way by their place on delayed edges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pcsim.view.text import columns, number, titled

if TYPE_CHECKING:
    from rich.table import Table

    from pcsim.run.under_way import Moment, Travelling

BARS = "▁▂▃▄▅▆▇█"
DECADES = 4
"""The highest bar is the largest error of the tick, the lowest one of 10 ** -DECADES of it or less."""

MOST_VERTICES = 8
MOST_EDGES = 40
MOST_PLACES = 60
"""Places of an edge that are still drawn one by one."""


def tick_picture(moment: Moment) -> list[Any]:
    """Return the picture of a tick."""
    errors = columns("level", "errors: bar and norm; the tick's largest is a full bar, each step down is half a decade")
    norms = [norm for names in moment.levels.values() for norm in names.values() if norm is not None]
    largest = max(filter(math.isfinite, norms), default=0.0)
    for level, names in moment.levels.items():
        errors.add_row("no output" if level is None else str(level), _vertices(names, largest))
    tables = titled(f"tick {moment.tick}", errors)
    if moment.travelling:
        tables += titled(f"messages under way after tick {moment.tick}", _edges(moment.travelling))
        tables.append(Text("● a value that has moved since tick 0, or an error; · a feedforward value, or no error"))
    return tables


def _vertices(names: dict[str, float | None], largest: float) -> str:
    shown = [_vertex(name, norm, largest) for name, norm in list(names.items())[:MOST_VERTICES]]
    rest = [norm for norm in list(names.values())[MOST_VERTICES:] if norm is not None]
    if len(names) > MOST_VERTICES:
        extent = f", errors {number(min(rest))} to {number(max(rest))}" if rest else ""
        shown.append(f"... {len(names) - MOST_VERTICES} more{extent}")
    return "   ".join(shown)


def _vertex(name: str, norm: float | None, largest: float) -> str:
    if norm is None:
        return f"{name} (source)"
    return f"{name} {bar(norm, largest)} {number(norm)}"


def bar(norm: float, largest: float) -> str:
    """Return a bar whose height is the logarithm of a norm; exactly zero is a dot, what is not finite a mark.

    >>> bar(1.0, 1.0), bar(1e-9, 1.0), bar(0.0, 1.0), bar(math.inf, 1.0)
    ('█', '▁', '·', '!')
    """
    if norm == 0 or not math.isfinite(norm):
        return "·" if norm == 0 else "!"
    share = 1 + (math.log10(norm) - math.log10(largest)) / DECADES
    return BARS[max(0, min(len(BARS) - 1, math.ceil(share * len(BARS)) - 1))]


def _edges(travelling: tuple[Travelling, ...]) -> Table:
    table = columns("edge", "kind", "from", "the last sent ... the next to arrive", "to")
    for each in travelling[:MOST_EDGES]:
        table.add_row(each.edge, each.kind, each.sender, _places(each.norms), each.receiver)
    if len(travelling) > MOST_EDGES:
        table.add_row(f"... {len(travelling) - MOST_EDGES} more: --json")
    return table


def _places(norms: tuple[float, ...]) -> str:
    marks = "".join("·" if norm == 0 else "●" for norm in norms)
    if len(marks) <= MOST_PLACES:
        return marks
    half = MOST_PLACES // 2
    return f"{marks[:half]} ... {len(marks) - 2 * half} more ... {marks[-half:]}"
