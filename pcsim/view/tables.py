"""Runs and traces as tables for people, and as plain data for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from pcsim.trace.compare import compare
from pcsim.trace.queries import ask, overview, parse_ticks
from pcsim.view.plan import size

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.run import Run

MOST_ROWS = 60


def run_tables(run: Run) -> list[Any]:
    """Return the summary of a run: how it ended, its measures beside theory, and its warnings."""
    summary = run.summary
    head = Table(title=summary["title"] or "run", show_header=False, title_justify="left")
    head.add_row("rule", f"{summary['rule']}, step size {summary['step_size']:g}, engine {run.manifest['engine']}")
    head.add_row("ticks", f"{summary['ticks']} of at most {summary['horizon']} (graph of {summary['levels']} levels; "
                          f"the feedforward sweep before takes {summary['feedforward_ticks']})")  # fmt: skip
    head.add_row("ended", f"{run.manifest['status']}: {summary['stop_reason']}")
    for name, maker in _MEASURE_ROWS.items():
        if name in summary:
            for row in maker(summary[name]):
                head.add_row(*row)
    tables: list[Any] = [head]
    if summary.get("signal_fraction"):
        tables.append(_fractions(summary["signal_fraction"]))
    tables += [Text(f"note: {text}", style="yellow") for text in summary["warnings"]]
    return tables


def _convergence(found: dict[str, Any]) -> list[tuple[str, str]]:
    ticks = found["ticks"] if found["ticks"] is not None else f"not within {found['horizon']} ticks"
    theory = "" if found["predicted"] is None else f" (theory: {found['predicted']})"
    return [("ticks to convergence", f"{ticks}{theory}, {found['criterion']} within {found['tolerance']:g}")]


def _divergence(found: dict[str, Any]) -> list[tuple[str, str]]:
    whole = found["updates"]
    if whole is None:
        return []
    rows = [("updates against backprop", f"relative {number(whole['relative'])}, cosine {number(whole['cosine'])}, "
                                         f"Euclidean {number(whole['euclidean'])}")]  # fmt: skip
    return rows + ([("edges to blame", ", ".join(found["blame"][:8]))] if found["blame"] else [])


def _energy(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [("free energy", f"{number(found['first'])} at first, {number(found['last'])} at last")]


def _traffic(found: dict[str, Any]) -> list[tuple[str, str]]:
    run = found["run"]
    return [("traffic", f"{run['value messages']:,} values ({size(run['value bytes'])}), "
                        f"{run['error messages']:,} errors ({size(run['error bytes'])})")]  # fmt: skip


def _arrival(found: dict[str, Any]) -> list[tuple[str, str]]:
    early = found["before_light_cone"]
    return [("light cone", f"BROKEN at {', '.join(early)}" if early else "every error exactly 0 before its light cone")]


_MEASURE_ROWS = {
    "ticks_to_convergence": _convergence, "divergence": _divergence, "energy": _energy, "traffic": _traffic,
    "first_arrival": _arrival,
}  # fmt: skip


def _fractions(found: dict[str, dict[str, Any]]) -> Table:
    table = Table("level", "measured", "theory", title="part of the backprop error that came", title_justify="left")
    rows = list(found.items())
    shown = rows if len(rows) <= 40 else [*rows[:20], *rows[-20:]]
    for level, fraction in shown:
        theory = "" if fraction["predicted"] is None else f"{fraction['predicted']:.6f}"
        table.add_row(level, "not finite" if fraction["measured"] is None else f"{fraction['measured']:.6f}", theory)
    return table


def number(value: float | None) -> str:
    """Return a number of a measure, short; None is ``undefined``."""
    return "undefined" if value is None else f"{value:.4g}"


def trace_answers(run: Run, tick: str | None, vertex: str | None, edge: str | None, kind: str | None) -> dict[str, Any]:
    """Return the answer of ``pcsim trace``: rows, or without a question what there is to ask about."""
    if tick is None and vertex is None and edge is None and kind is None:
        return overview(run.trace)
    ticks = parse_ticks(tick) if tick is not None else None
    return {"rows": [row.as_dict() for row in ask(run.trace, ticks=ticks, vertex=vertex, edge=edge, kind=kind)]}


def trace_tables(found: dict[str, Any]) -> list[Any]:
    """Return the answer of ``pcsim trace`` as tables for people."""
    return [_rows_table(found["rows"])] if "rows" in found else _overview_tables(found)


def _rows_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("tick", "what", "of", "norm", "least", "greatest", "values")
    for row in rows[:MOST_ROWS]:
        what = f"{row['what']} ({row['kind']})" if row["kind"] else row["what"]
        values = "" if row["values"] is None else _values(row["values"])
        table.add_row(str(row["tick"]), what, row["name"] or "", number(row["norm"]), number(row["min"]), number(row["max"]), values)
    if len(rows) > MOST_ROWS:
        table.add_row("...", f"{len(rows) - MOST_ROWS} more: narrow --tick, or --json")
    return table


def _values(values: Any) -> str:
    if isinstance(values, list):
        return "[" + " ".join(_values(value) for value in values) + "]"
    return f"{values:.6g}"


def _overview_tables(found: dict[str, Any]) -> list[Any]:
    recorded = Table("recorded", "of", "ticks", title="what was recorded", title_justify="left")
    for what, entry in found["recorded"].items():
        names = [str(name) for name in entry.get("names") or []]
        more = f", ... {len(names) - 6} more" if len(names) > 6 else ""
        recorded.add_row(what, ", ".join(names[:6]) + more, _rhythm(entry.get("ticks")))
    arrivals = Table("vertex", "first tick", title="when the error first differed from exactly zero", title_justify="left")
    for name, tick in list(found["first_arrival"].items())[:MOST_ROWS]:
        arrivals.add_row(name, "never" if tick is None else str(tick))
    return [recorded, arrivals]


def _rhythm(ticks: Any) -> str:
    return "once" if ticks is None else " ".join(f"{key} {value}" for key, value in ticks.items())


def comparison(first: Run, second: Run) -> dict[str, Any]:
    """Return how two runs differ: their heads, and each recorded quantity."""
    keys = ("rule", "step_size", "ticks", "stop_reason")
    heads = {key: [first.summary.get(key), second.summary.get(key)] for key in keys}
    return {"runs": heads, "rows": [row.as_dict() for row in compare(first.trace, second.trace)]}


def comparison_table(found: dict[str, Any]) -> Table:
    """Return a comparison as a table for people, greatest differences first."""
    title = ", ".join(f"{key}: {a} | {b}" for key, (a, b) in found["runs"].items())
    table = Table("what", "of", "greatest difference", "relative", "first differs at tick", "note", title=title, title_justify="left")
    rows = sorted(found["rows"], key=lambda row: -(row["absolute"] or 0.0))
    for row in rows[:MOST_ROWS]:
        what = f"{row['what']} ({row['kind']})" if row["kind"] else row["what"]
        since = "" if row["tick"] is None else str(row["tick"])
        table.add_row(what, row["name"] or "", number(row["absolute"]), number(row["relative"]), since, row["note"])
    if len(rows) > MOST_ROWS:
        table.add_row("...", f"{len(rows) - MOST_ROWS} more")
    return table


def run_figures(run: Run, folder: Path) -> list[Path]:
    """Draw every figure that a run allows; return the files."""
    from pcsim.scenario.reader import load
    from pcsim.view.figures import plot_run

    graph = load(run.manifest["scenario"]).levelled
    return plot_run(run.trace, graph, folder, run.manifest["title"] or "run")
