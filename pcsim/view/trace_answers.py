"""The answers of ``pcsim trace``: plain data for machines, and tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, RunError, wrong
from pcsim.run.ledger import check_tick, ledger_of
from pcsim.run.numbers import Numbers
from pcsim.run.provenance import scenario_of
from pcsim.run.under_way import moment
from pcsim.trace.entries import entries, how_to_record
from pcsim.trace.queries import Ticks, ask, overview, parse_ticks
from pcsim.trace.recordable import check_recordable
from pcsim.view.ledger_tables import ledger_tables
from pcsim.view.run_tables import ended, trace_tables
from pcsim.view.tick_picture import tick_picture

if TYPE_CHECKING:
    from pcsim.run.rerun import Progress
    from pcsim.run.result import Run

Answer = tuple[dict[str, Any], list[Any]]
"""Plain data, and tables."""


def answer(
    run: Run,
    tick: str | None,
    vertex: str | None,
    edge: str | None,
    kind: str | None,
    *,
    picture: bool = False,
    progress: Progress | None = None,
) -> Answer:
    """Return the answer to a question about a run.

    A vertex at one tick: its ledger. ``picture``: where errors and messages are at a tick. Anything else: rows of what
    was recorded; without a question, what there is to ask about.
    """
    ticks = None if tick is None else parse_ticks(tick)
    if picture:
        if vertex is not None or edge is not None or kind is not None:
            raise wrong("picture", "a picture is of all vertices at a tick; for one vertex leave out --picture")
        return _picture(Numbers(run, progress), _one(ticks))
    if vertex is not None and edge is None and kind is None and (single := _one(ticks)) is not None:
        return _ledger(Numbers(run, progress), vertex, single)
    if all(question is None for question in (ticks, vertex, edge, kind)):
        found = {**overview(run.trace, _measured_arrivals(run)), "ended": ended(run)}
    else:
        found = {"rows": _rows(run, ticks, vertex, edge, kind)}
    return found, trace_tables(found)


def _one(ticks: Ticks | None) -> int | None:
    """Return the tick of a range that is one tick."""
    return ticks.first if ticks is not None and ticks.first == ticks.last else None


def _picture(numbers: Numbers, tick: int | None) -> Answer:
    if tick is None:
        raise wrong("tick", "a picture is of one tick: --tick 5 --picture")
    check_tick(numbers.run, tick)
    if numbers.rerun is None:
        raise InputError([problem for text in numbers.notes for problem in wrong("picture", text).problems])
    found = moment(numbers.rerun, tick)
    return found.as_dict(), tick_picture(found)


def _ledger(numbers: Numbers, vertex: str, tick: int) -> Answer:
    """Return the ledger of a vertex, with the rows that were recorded of it; of a parameter there are only rows."""
    run, ticks = numbers.run, Ticks(tick, tick)
    try:
        graph = numbers.task.graph
    except (InputError, RunError):  # its files are gone: what was recorded is still there
        graph = None
    if graph is None or vertex in graph.parameters or vertex not in graph.vertices:
        found = {"rows": _rows(run, ticks, vertex, None, None)}
        return found, trace_tables(found)
    made = ledger_of(numbers, vertex, tick)
    try:
        rows = _rows(run, ticks, vertex, None, None)
    except InputError:  # nothing of it was recorded at this tick
        rows = []
    return {"ledger": made.as_dict(), "rows": rows}, ledger_tables(made)


def _rows(run: Run, ticks: Ticks | None, vertex: str | None, edge: str | None, kind: str | None) -> list[Any]:
    try:
        rows = ask(run.trace, ticks=ticks, vertex=vertex, edge=edge, kind=kind)
    except InputError:
        _check_names(run, vertex, edge, kind)
        raise
    return [row.as_dict() for row in rows]


def _check_names(run: Run, vertex: str | None, edge: str | None, kind: str | None) -> None:
    """Raise InputError for what was not recorded: that no record could hold it, or how to record it."""
    try:
        graph = scenario_of(run).levelled
    except InputError:  # files of the scenario are gone
        return
    recorded = {name for entry in entries(run.trace) if "tick" in entry.array.dims for name in entry.names}
    if vertex is not None and (vertex not in recorded or kind is not None):
        check_recordable(graph, vertex, kind, key="vertex")
        if vertex not in recorded:
            what = kind or ("update" if vertex in graph.parameters else "value")
            raise wrong("vertex", f"nothing was recorded of {vertex!r}; {how_to_record(what, vertex)}")
    if edge is not None and (edge not in recorded or kind == "error"):
        check_recordable(graph, edge, "message", kind, key="edge")


def _measured_arrivals(run: Run) -> dict[str, int | None] | None:
    """Return the first arrivals that the run measured at every tick, if it did."""
    measured = (run.manifest.get("summary") or {}).get("first_arrival") or {}
    return {name: row["tick"] for name, row in measured["vertices"].items()} if "vertices" in measured else None
