"""A sweep as a table (measured beside theory) and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pcsim.analysis.replicates import SEED
from pcsim.run.sweep_folder import FORMER, ROWS
from pcsim.sweep import replicates, table
from pcsim.view.style import save
from pcsim.view.text import columns, notes, some, titled
from pcsim.view.ticks import Point, ticks_against

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from pcsim.sweep import Row, Sweep


FEW_SEEDS = 10
"""Up to so many values their extent stands beside their mean."""


def sweep_tables(found: Sweep) -> list[Any]:
    """Return a sweep as tables, and its warnings."""
    return [*_tables(found), *notes(found.warnings)]


def _tables(found: Sweep) -> list[Any]:
    """Return a sweep as tables: a row per value of its first numeric key, a column per series; or a row per run."""
    rows, keys = _shown(found), _axes(found)
    if found.seeds > 1:
        rows = [_as_text(row) for row in rows]
    axis = _axis(keys, rows)
    by_cell = {(row[axis], label(row, found, axis)): row for row in rows} if axis else {}
    if axis is None or not _has_ticks(rows) or len(by_cell) < len(rows):
        return _flat(found, keys, rows)
    labels = list(dict.fromkeys(label for _, label in by_cell))
    made = columns(_short(axis), *labels)
    for x in dict.fromkeys(row[axis] for row in rows):
        made.add_row(str(x), *(_cell(by_cell.get((x, one))) for one in labels))
    title = f"{found.title or 'sweep'}: measured (theory){_over_seeds(found)}"
    return [*titled(title, made), *_unpredicted(rows, [label(row, found, axis) for row in rows])]


def _unpredicted(rows: list[Row], names: list[str]) -> list[Any]:
    """Return why theory says nothing of some runs, by the names of their series."""
    reasons: dict[str, dict[str, None]] = {}
    for row, name in zip(rows, names, strict=True):
        if row["predicted"] is None and row["no_prediction"]:
            reasons.setdefault(row["no_prediction"], {})[name] = None
    return [Text(f"no prediction for runs of {', '.join(found)}: {reason}") for reason, found in reasons.items()]


def _shown(found: Sweep) -> list[Row]:
    """Return what a table or a picture shows: a row for each run, or for all runs that differ in their seed alone."""
    return replicates(found) if found.seeds > 1 else table(found)


def _axes(found: Sweep) -> list[str]:
    """Return the swept keys along which rows are shown: runs that differ in their seed alone are one row."""
    return [key for key in found.keys if key != SEED or found.seeds == 1]


def _over_seeds(found: Sweep) -> str:
    return f", mean ± standard deviation over {found.seeds} seeds" if found.seeds > 1 else ""


def _as_text(row: Row) -> Row:
    """Return a row of replicates with a text for what was measured and how many runs it is the mean of."""
    said = {key: row[key] and _spread_text(row[key]) for key in ("updates_relative", "credit_cosine", "credit_least")}
    said["predicted"] = _expected_text(row)
    counts = _counts(row)
    if row["criterion"] is not None:
        ended = f"> {row['horizon']}" if row["measured"] is None else _spread_text(row["measured"])
        said["measured"] = f"{counts}: {ended}" if counts else ended
        counts = ""
    else:
        said["measured"] = None
    failed = f"all {row['failed']} failed" if row["failed"] == row["runs"] else ""
    return {**row, **said, "runs": counts, "error": failed}


def _expected_text(row: Row) -> str | None:
    """Return what theory says: one number where it is that of all seeds."""
    found = row["predicted"]
    if found is None or (found["min"] == found["max"] and found["n"] == row["runs"]):
        return found and f"{found['mean']:.4g}"
    return ("" if found["n"] == row["runs"] else f"{found['n']} of {row['runs']}: ") + _spread_text(found)


def _counts(row: Row) -> str:
    """Return how many of the runs that were asked for count; nothing where all do."""
    parts = [] if row["converged"] in (None, row["asked"]) else [f"{row['converged']} of {row['asked']} converged"]
    parts += [f"{row['failed']} failed"] if row["failed"] else []
    parts += [f"{row['asked'] - row['runs']} not run"] if row["runs"] < row["asked"] else []
    return ", ".join(parts)


def _spread_text(found: dict[str, Any]) -> str:
    """Return ``mean ± deviation``, and the extent of few values that differ; of one value the mean alone."""
    if found["n"] == 1:
        return f"{found['mean']:.4g}"
    extent = f", {found['min']:.4g} to {found['max']:.4g}" if found["n"] <= FEW_SEEDS and found["std"] else ""
    return f"{found['mean']:.4g} ± {found['std']:.2g}{extent}"


def _axis(keys: list[str], rows: list[Row]) -> str | None:
    """Return the first swept key that is a number in every row, if there is more than one value of it."""
    return next((key for key in keys if _is_numeric(key, rows) and len({row[key] for row in rows}) > 1), None)


def _is_numeric(key: str, rows: list[Row]) -> bool:
    return all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)


def _has_ticks(rows: list[Row]) -> bool:
    """Whether ticks to convergence were measured; else it is the updates that a sweep is about."""
    return any(row["criterion"] is not None for row in rows)


_NAMED = ("rule", "rule.name", "rule.step_size")
"""Keys that a label names in any case."""


def label(row: Row, found: Sweep, axis: str) -> str:
    """Return the series that a row belongs to: its rule, its step size, and what else was swept."""
    if "cases" in found.keys:
        return str(row["cases"])
    others = [f"{key.split('.')[-1]} {row[key]}" for key in _axes(found) if key not in (axis, *_NAMED)]
    step = [] if axis == "rule.step_size" else [f"γ={row['step_size']:g}"]
    return " ".join([row["rule"], *step, *others])


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row["error"]:
        return "diverged"
    measured = f"> {row['horizon']}" if row["measured"] is None else str(row["measured"])
    return measured if row["predicted"] is None else f"{measured} ({row['predicted']})"


_MEASURED = {
    "measured": "measured", "predicted": "theory", "updates_relative": "update difference",
    "credit_cosine": "cosine", "credit_least": "least share", "runs": "runs",
    "blame": "blame", "error": "error",
}  # fmt: skip
_CONSTANT = ("rule", "step_size", "levels", "criterion", "horizon")
"""What a title says if it is the same in all runs."""
_SHORT = {"rule.name": "rule", "rule.step_size": "step_size"}


def _flat(found: Sweep, swept: list[str], rows: list[Row]) -> list[Any]:
    """Return a row per run: what was varied and what came of it; the title says what is the same in all of them."""
    keys = list(dict.fromkeys(_SHORT.get(key, key) for key in swept))
    heads = [key for key in keys if _differs(key, rows) or len(rows) == 1]
    heads += [key for key in ("rule", "step_size") if key not in keys and _differs(key, rows)]
    if len({tuple(_text(row[key]) for key in heads) for row in rows}) < len(rows) and _differs("horizon", rows):
        heads.append("horizon")
    known = [key for key in _MEASURED if any(row.get(key) not in (None, "") for row in rows)]
    if _has_ticks(rows) and "measured" not in known:
        known.insert(0, "measured")
    same = [key for key in dict.fromkeys((*keys, *_CONSTANT)) if key not in heads and _is_one(key, rows)]
    title = ", ".join(f"{_short(key)} {_text(rows[0][key])}" for key in same)
    names = [*map(_short, heads), *(_MEASURED[key] for key in known)]
    cells = [[*(_text(row[key]) for key in heads), *(_result(row, key) for key in known)] for row in rows]
    name = (found.title or "sweep") + _over_seeds(found)
    return titled(f"{name} ({title})" if title else name, _UnbrokenTable(names, cells))


def _differs(key: str, rows: list[Row]) -> bool:
    return len({_text(row[key]) for row in rows}) > 1


def _is_one(key: str, rows: list[Row]) -> bool:
    return bool(rows) and not _differs(key, rows) and rows[0][key] is not None


def _result(row: Row, key: str) -> str:
    late = key == "measured" and row["measured"] is None and row["criterion"] is not None
    if key == "blame":
        return some(row[key].split(", "), 5) if row[key] else ""
    return f"> {row['horizon']}" if late else _text(row[key])


@dataclass(frozen=True)
class _UnbrokenTable:
    """A table that breaks no word; where it is too wide for that, a paragraph per row."""

    names: list[str]
    rows: list[list[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        if widths is None:
            yield from map(self._paragraph, self.rows)
            return
        made = columns(*self.names)
        for column, width in zip(made.columns, widths, strict=True):
            column.width = width
        for row in self.rows:
            made.add_row(*row)
        yield made

    def _widths(self, most: int) -> list[int] | None:
        """Return the widths of columns, the widest narrowed until all fit; None if that breaks words."""
        texts = list(zip(self.names, *self.rows, strict=True))
        least = [max(map(len, " ".join(cells).split())) for cells in texts]
        widths = [max(map(len, cells)) for cells in texts]
        room = most - 3 * len(widths) - 1
        if sum(least) > room:
            return None
        while sum(widths) > room:
            _, widest = max((width, k) for k, width in enumerate(widths) if width > least[k])
            widths[widest] -= 1
        return widths

    def _paragraph(self, row: list[str]) -> Text:
        return Text("- " + ", ".join(f"{name} {cell}" for name, cell in zip(self.names, row, strict=True) if cell))


def _short(key: str) -> str:
    return key.split(".")[-1].replace("_", " ")


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def sweep_data(found: Sweep, pictures: list[Path]) -> dict[str, Any]:
    """Return a sweep as plain data for machines; each row names its run, where that is kept."""
    named = [{"run": row["run"]} if "run" in row else {} for row in found.rows]
    rows = [{**short, **name} for short, name in zip(table(found), named, strict=True)]
    return {
        "title": found.title,
        "complete": found.complete,
        "replaced": found.replaced,
        "rows": rows,
        "replicates": replicates(found),
        "pictures": pictures,
        "warnings": found.warnings,
    }


def sweep_notes(found: Sweep, folder: Path, pictures: list[Path]) -> list[str]:
    """Return where a sweep is kept, and how many of its rows were run again."""
    notes = []
    if found.replaced:
        why = "the scenario, or a file that it names, has changed since"
        notes.append(f"{found.replaced} of {found.cells} rows were run again: {why}; the former ones are in {FORMER}")
    if found.cut:
        notes.append(f"{found.cut} of the lines in {folder / ROWS} were cut short; their runs were done again")
    if found.rows:
        notes.append(f"in {folder}: {', '.join([ROWS, *(path.name for path in pictures)])}")
    if names := [row["run"] for row in found.rows if "run" in row]:
        notes.append(f"runs with their traces: {folder / names[0]} to {Path(names[-1]).name}, each named in its row")
    return notes


def sweep_picture(found: Sweep, folder: Path) -> list[Path]:
    """Draw what a sweep measured against its first numeric key; return the files, none if ``no_picture`` says why."""
    rows = _shown(found)
    axis = _axis(_axes(found), rows)
    if axis is None or no_picture(found):
        return []
    ticks = _has_ticks(rows)
    point = _mean_point if found.seeds > 1 else _point
    points = [point(row, float(row[axis]), label(row, found, axis), ticks=ticks) for row in rows]
    y_label = None if ticks else "relative difference of updates from backprop"
    figure = ticks_against(points, x_label=_short(axis), title=found.title, y_label=y_label)
    return list(save(figure, folder / ("ticks" if ticks else "divergence")))


def _point(row: Row, x: float, series: str, *, ticks: bool) -> Point:
    measured, predicted = row["measured" if ticks else "updates_relative"], row["predicted"] if ticks else None
    return Point(x, series, measured, row["horizon"], predicted, bool(row["error"]))


def _mean_point(row: Row, x: float, series: str, *, ticks: bool) -> Point:
    """Return the mean of replicates, with a standard deviation to either side: no further down than the least."""
    measured, predicted = row["measured" if ticks else "updates_relative"], row["predicted"] if ticks else None
    expected, failed = predicted and predicted["mean"], row["failed"] == row["runs"]
    if measured is None:
        return Point(x, series, None, row["horizon"], expected, failed)
    mean, aside = measured["mean"], measured["std"] or 0.0
    ends = (mean - aside if mean > aside else measured["min"], mean + aside)
    share = "" if measured["n"] == row["asked"] else f"{measured['n']} of {row['asked']}"
    return Point(x, series, mean, row["horizon"], expected, spread=ends, share=share)


def no_picture(found: Sweep) -> str:
    """Return why a sweep has no picture; empty if it has one."""
    rows, keys = table(found), _axes(found)
    if not rows:
        return "no picture: no run is done"
    if not keys:
        return "no picture: only seeds were swept, and these are replicates"
    if not any(_is_numeric(key, rows) for key in keys):
        return "no picture: no swept key is a number"
    if _axis(keys, rows) is None:
        return "no picture: no swept number has more than one value"
    if all(row["error"] for row in rows):
        return "no picture: every run failed"
    drawn = _has_ticks(rows) or any(row["updates_relative"] is not None for row in rows)
    return "" if drawn else "no picture: no ticks or updates were measured"
