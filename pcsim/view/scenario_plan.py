"""What a scenario will cost, and how a graph is levelled: plain data, and tables of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pcsim.analysis.cost import tick_work
from pcsim.engines import open_engine
from pcsim.engines.array import memory
from pcsim.graph.level_forms import levelling
from pcsim.graph.levels import levels, slacks, vertex_levels
from pcsim.run.forecast import duration, forecast, free_disk
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario
from pcsim.sweep import planned
from pcsim.view.text import columns, notes, size, some, titled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.engines.base import Task
    from pcsim.graph.graph import Graph
    from pcsim.program.program import Step
    from pcsim.run.forecast import Forecast
    from pcsim.scenario.reader import Source


def plan(source: Scenario | Source, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a run would take, without allocating anything, as plain data.

    Parameters
    ----------
    source : a Scenario, or a path or mapping that ``pcsim.load`` takes
    overrides : {dotted key: value}, for a path or mapping

    Returns
    -------
    dict
        Counts of vertices, edges and parameters; ``memory`` in bytes; ``traffic_per_tick``; ``work_per_tick``;
        ``steps`` of a tick; ``sweep`` with the ``runs`` of its grid, those ``kept`` with their traces and the
        ``trace_bytes`` of these in all, or None.

    Raises
    ------
    InputError
        If the scenario is wrong.
    """
    return plan_of(source if isinstance(source, Scenario) else load(source, overrides))


def plan_of(scenario: Scenario) -> dict[str, Any]:
    """Return what a run would take, without allocating anything."""
    graph, itemsize, batch = scenario.levelled, scenario.dtype.itemsize, scenario.document.batch
    estimates = forecast(scenario)
    program = estimates.program
    return {
        "title": scenario.document.title,
        "rule": scenario.rule.name,
        "ticks": scenario.ticks,
        "batch": batch,
        "dtype": scenario.document.dtype,
        "vertices": len(graph.vertices),
        "edges": len(graph.edges),
        "parameters": sum(len(names) for names in program.parameters.values()),
        "synapses": sum(map(len, program.synapses)),
        "outputs": list(graph.outputs),
        "levels": None if graph.cyclic else levels(graph),
        "feedforward_ticks": None if graph.cyclic else max(graph.depths.values(), default=0),
        "cycle": graph.a_cycle or None,
        "steps_per_tick": len(program.steps),
        "steps": [_step(step) for step in program.steps],
        "levelling": asdict(levelling(scenario.graph, batch, scenario.dtype)),
        "delay_lines": {
            "error messages in flight": sum(inbox.delay_buffer.slots for inbox in program.inboxes.values()),
            "values in flight": sum(history.delay_buffer.slots for history in program.histories.values()),
        },
        "memory": {**estimates.memory, "total": sum(estimates.memory.values())},
        "traffic_per_tick": program.traffic(batch, itemsize),
        "work_per_tick": _work(estimates.task),
        "forecast": _forecast(estimates),
        "sweep": _sweep(scenario),
        "warnings": [*scenario.warnings(), *estimates.warnings()],
    }


def _work(task: Task) -> dict[str, int]:
    """Return what every vertex computes in a tick, as the rows of the ops declare it."""
    work = tick_work(task)
    return {
        "multiply-adds": int(work.products / 2),
        "elementwise operations": int(work.elementwise),
        "bytes moved": int(work.bytes),
    }


def _forecast(found: Forecast) -> dict[str, Any]:
    """Return the estimates as plain data."""
    tick, total = found.trace
    return {
        "estimate": True,
        "engine": found.engine,
        "seconds": found.seconds,
        "memory_bytes": sum(found.memory.values()),
        "memory_left_bytes": memory.available(),
        "trace_bytes_per_tick": tick,
        "trace_bytes": total,
        "disk_free_bytes": free_disk(Path()),
        "rounding_floor": found.floor,
    }


def _sweep(scenario: Scenario) -> dict[str, int] | None:
    """Return what the sweep of a scenario keeps, as plain data."""
    found = planned(scenario)
    return None if found is None else {"runs": found.runs, "kept": found.kept, "trace_bytes": found.trace}


def _step(step: Step) -> dict[str, Any]:
    return {
        "op": step.op.name,
        "vertices": len(step.names),
        "shape": list(step.shape),
        "inputs": [list(shape) for shape in step.call.shapes],
        "names": f"{step.names[0]} .. {step.names[-1]}" if len(step.names) > 1 else step.names[0],
    }


def plan_tables(found: dict[str, Any]) -> list[Any]:
    """Return a plan as tables for people."""
    head = Table(show_header=False)
    for key in (
        "rule",
        "ticks",
        "batch",
        "dtype",
        "vertices",
        "edges",
        "parameters",
        "synapses",
        "levels",
        "feedforward_ticks",
        "steps_per_tick",
    ):
        if found[key] or key != "synapses":
            number = "none" if found[key] is None else found[key]
            head.add_row(key.replace("_", " "), f"{number:,}" if isinstance(number, int) else str(number))
    for key, number in {**found["memory"]}.items():
        head.add_row(f"memory: {key}", size(number))
    for key, number in {**found["traffic_per_tick"], **found["work_per_tick"]}.items():
        head.add_row(f"per tick: {key}", size(number) if "bytes" in key else f"{number:,}")
    for key, number in found["delay_lines"].items():
        head.add_row(key, f"{number:,}")
    for key, text in _forecast_rows(found["forecast"]):
        head.add_row(f"estimate: {key}", text)
    if found["sweep"]:
        head.add_row("estimate: sweep", _sweep_text(found["sweep"]))
    for form in ("delay", "identity"):
        if found["levelling"]["uneven"]:
            head.add_row(f"with level: {form}", _form_text(found["levelling"][form]))
    rows = [(str(number), *_step_row(step)) for number, step in enumerate(found["steps"])]
    steps = _rows(rows, "step", "op", "vertices", "shape", "inputs", "names")
    return [
        *titled(found["title"] or "plan", head),
        *titled("steps of a tick: vertices of one kind, computed together", steps),
        *notes(found["warnings"]),
    ]


def _step_row(step: dict[str, Any]) -> tuple[str, ...]:
    inputs = " ".join(map(str, step["inputs"]))
    return step["op"], f"{step['vertices']:,}", str(step["shape"]), inputs, step["names"]


def _forecast_rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is estimated, beside what there is."""
    seconds, left = found["seconds"], found["memory_left_bytes"]
    yield "time", "not known" if seconds is None else f"{duration(seconds)} on {found['engine']}"
    yield "memory", size(found["memory_bytes"]) + ("" if left is None else f" of {size(left)} left")
    per_tick, disk = size(found["trace_bytes_per_tick"]), size(found["disk_free_bytes"])
    yield "trace", f"{size(found['trace_bytes'])}, {per_tick} a tick, before compression; {disk} of disk free here"


def _form_text(found: dict[str, int]) -> str:
    """Return what a graph holds in one form of levelling, in words."""
    flying = size(found["values_in_flight"] + found["errors_in_flight"])
    counts = f"{found['vertices']:,} vertices, {found['edges']:,} edges"
    return f"{counts}, {size(found['values'])} of values, {flying} of messages in flight"


def _sweep_text(found: dict[str, int]) -> str:
    """Return what a sweep keeps, in words."""
    runs = f"{found['runs']:,} runs"
    if not found["kept"]:
        return f"{runs}; no trace is kept: nothing under 'record'"
    return f"{runs}, {found['kept']:,} kept with their traces: {size(found['trace_bytes'])} in all, before compression"


def kernels_of(scenario: Scenario) -> list[dict[str, Any]]:
    """Return what the compiled engine makes of a scenario: a row for each step, and for each instruction of a tick.

    Raises InputError where the engine is not installed.
    """
    open_engine("numba")
    rows: list[dict[str, Any]] = import_module("pcsim.engines.jit.kernel_plans").kernel_plan(scenario.task())
    return rows


def kernel_tables(rows: list[dict[str, Any]]) -> list[Any]:
    """Return what the compiled engine has laid out as tables for people: steps, then instructions."""
    steps, instructions = (
        columns("step", "kernel", "vertices", "rows", "operands"),
        columns("instruction", "kernel", "on", "rows", "rows of each thread"),
    )
    for row in rows:
        texts = row["number"], row["kernel"], row["on"], f"{row['rows']:,}"
        if row["part"] == "step":
            steps.add_row(*texts, row["operands"])
        else:
            instructions.add_row(f"{row['part']} {texts[0]}", *texts[1:], row["threads"])
    return [*titled("steps of the compiled engine", steps), *titled("what threads run", instructions)]


def levels_of(graph: Graph) -> dict[str, Any]:
    """Return the levels of a graph, the edges that break them, and what each form of levelling takes.

    ``forms`` holds the bytes of one sample in float64.
    """
    found, short = vertex_levels(graph), slacks(graph)
    forms = levelling(graph)
    return {
        "title": graph.title,
        "levels": None if graph.cyclic else levels(graph),
        "cycle": graph.a_cycle or None,
        "vertices": dict(found),
        "uneven_edges": [
            {"edge": edge.name, "delay_to_level": edge.error_delay + more}
            for edge, more in zip(graph.edges, short, strict=True)
            if more
        ],
        "identity_vertices_added": forms.identity.vertices - forms.none.vertices,
        "ticks_of_delay_added": sum(short),
        "forms": asdict(forms),
    }


MOST_ROWS = 40
"""So many rows of a table are written out; the others are counted."""


def level_tables(found: dict[str, Any]) -> list[Any]:
    """Return levels as tables for people."""
    names: dict[int | None, list[str]] = defaultdict(list)
    for name, level in found["vertices"].items():
        names[level].append(name)
    cycle, without = found["cycle"], "no output, or over a cycle" if found["cycle"] else "no output"
    rows = [
        (without if level is None else str(level), str(len(names[level])), some(names[level]))
        for level in sorted(names, key=lambda one: (one is None, one))
    ]
    how_many = "no levels" if cycle else f"{found['levels']} levels"
    tables = titled(f"{found['title'] or 'graph'}: {how_many}", _rows(rows, "level", "vertices", "names"))
    if cycle:
        return [
            *tables,
            f"the graph has a cycle: {cycle}; no levels, nothing to level: only standard inference runs it",
        ]
    if not found["uneven_edges"]:
        return [*tables, "levelled: all paths between two vertices are equally long"]
    edges = [(edge["edge"], str(edge["delay_to_level"])) for edge in found["uneven_edges"]]
    short = titled("edges shorter than the level of their start", _rows(edges, "edge", "delay that levels it"))
    forms = [_form_row(form, found["forms"][form]) for form in ("none", "delay", "identity")]
    heads = "level", "vertices", "edges", "values", "values in flight", "errors in flight"
    sizes = titled("what each form takes, for one sample in float64", _rows(forms, *heads))
    identity, delay = found["identity_vertices_added"], found["ticks_of_delay_added"]
    says = f"level: identity adds {identity:,} vertices; level: delay adds {delay:,} ticks of delay"
    return [*tables, *short, *sizes, says]


def _form_row(form: str, found: dict[str, int]) -> tuple[str, ...]:
    counts = (f"{found[key]:,}" for key in ("vertices", "edges"))
    return form, *counts, *(size(found[key]) for key in ("values", "values_in_flight", "errors_in_flight"))


def _rows(rows: Sequence[tuple[str, ...]], *names: str) -> Table:
    """Return a table of the first rows, and a row that counts the others."""
    table = columns(*names)
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    if len(rows) > MOST_ROWS:
        table.add_row("...", f"{len(rows) - MOST_ROWS:,} more")
    return table
