"""A sweep as a table (measured beside theory) and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.sweep import table
from pcsim.view.text import columns, titled

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.sweep import Row, Sweep


def sweep_tables(found: Sweep) -> list[Any]:
    """Return a sweep as tables: a row per value of its first numeric key, a column per series; or a row per run."""
    rows = table(found)
    axis = _axis(found, rows)
    by_cell = {(row[axis], label(row, found, axis)): row for row in rows} if axis else {}
    if axis is None or not _has_ticks(rows) or len(by_cell) < len(rows):
        return _flat(found, rows)
    labels = list(dict.fromkeys(label for _, label in by_cell))
    made = columns(_word(axis), *labels)
    for x in dict.fromkeys(row[axis] for row in rows):
        made.add_row(str(x), *(_cell(by_cell.get((x, one))) for one in labels))
    return titled(f"{found.title or 'sweep'}: measured (theory)", made)


def _axis(found: Sweep, rows: list[Row]) -> str | None:
    """Return the swept key that is a number in every row, if there is more than one value of it."""
    numbers = [
        key
        for key in found.keys
        if all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
        and len({row[key] for row in rows}) > 1
    ]
    return numbers[0] if numbers else None


def _has_ticks(rows: list[Row]) -> bool:
    """Whether ticks to convergence were measured; else it is the updates that a sweep is about."""
    return any(row["criterion"] is not None for row in rows)


_NAMED = ("rule", "rule.name", "rule.step_size")
"""Keys that a label tells in any case."""


def label(row: Row, found: Sweep, axis: str) -> str:
    """Return the series that a row belongs to: its rule, its step size, and what else was swept."""
    if "cases" in found.keys:
        return str(row["cases"])
    others = [f"{key.split('.')[-1]} {row[key]}" for key in found.keys if key not in (axis, *_NAMED)]
    step = [] if axis == "rule.step_size" else [f"γ={row['step_size']:g}"]
    return " ".join([row["rule"], *step, *others])


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row["error"]:
        return "diverged"
    measured = f"> {row['horizon']}" if row["measured"] is None else str(row["measured"])
    return measured if row["predicted"] is None else f"{measured} ({row['predicted']})"


def _flat(found: Sweep, rows: list[Row]) -> list[Any]:
    """Return a row per run; what is the same in all of them is said once."""
    known = [key for key in rows[0] if any(row[key] not in (None, "") for row in rows)] if rows else list(found.keys)
    told = {"rule.name": "rule", "rule.step_size": "step_size"}
    known = [key for key in known if key not in told]
    swept = {told.get(key, key) for key in found.keys}
    same = [key for key in known if key not in swept and len(rows) > 1 and len({_text(row[key]) for row in rows}) == 1]
    shown = [key for key in known if key not in same]
    made = columns(*(_word(key) for key in shown))
    for row in rows:
        made.add_row(*(_text(row[key]) for key in shown))
    said = "in all: " + ", ".join(f"{_word(key)} {_text(rows[0][key])}" for key in same)
    return [*titled(found.title or "sweep", made), *([said] if same else [])]


def _word(key: str) -> str:
    return key.split(".")[-1].replace("_", " ")


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def sweep_picture(found: Sweep, folder: Path) -> list[Path]:
    """Draw what a sweep measured against its first numeric key; return the files, none if there is no such key."""
    from pcsim.view.figures import Point, ticks_against
    from pcsim.view.style import save

    rows = table(found)
    axis = _axis(found, rows)
    if axis is None:
        return []
    ticks = _has_ticks(rows)
    points = [
        Point(float(row[axis]), label(row, found, axis), row["measured"] if ticks else row["updates_relative"],
              row["horizon"], row["predicted"] if ticks else None, bool(row["error"]))
        for row in rows
    ]  # fmt: skip
    name = axis.split(".")[-1].replace("_", " ")
    y_label = "ticks to convergence" if ticks else "relative difference of updates from backprop"
    figure = ticks_against(points, x_label=name, title=found.title, y_label=y_label)
    return list(save(figure, folder / ("ticks" if ticks else "divergence")))
