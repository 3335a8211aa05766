"""What the rows of a claim are measured by: each method runs a scenario, or the grid of its sweep."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.cost import vertex_work
from pcsim.claims.channel_rows import rows_of_channels, rows_of_delays, rows_of_sparse_training
from pcsim.claims.cost_rows import rows_of_placements, rows_of_processors, rows_of_ranking, rows_of_spans
from pcsim.claims.credit_rows import MEASURED, rows_of_credit
from pcsim.claims.locality_rows import rows_compared, rows_of_cones, rows_of_plasticity
from pcsim.claims.measured_rows import Row, Rows
from pcsim.claims.precision_rows import rows_of_precision_training
from pcsim.errors import InputError
from pcsim.graph.levels import levels, vertex_levels
from pcsim.simulate import simulate
from pcsim.sweep import scenarios_of, sweep, table
from pcsim.train import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pcsim.run.result import Run
    from pcsim.scenario.reader import Source
    from pcsim.scenario.scenario import Scenario

Cells = list[tuple[dict[str, Any], "Scenario"]]

UNREAD: dict[str, Any] = {"record": [], "measure": []}
"""Overrides of a run of which nothing is read but its updates."""

FEWEST_ROUNDS, SECONDS, SHARE = 5, 1.0, 0.05
"""Runs are timed in turns: so many rounds at least, more as long as all rounds of a case take fewer seconds than this.

In a round a short run is done again for this many seconds, and its median counts.
"""


FROM_FILES = ("dataset", "file", "folder")
"""Keys under which a scenario says where data are."""


class MissingDataError(InputError):
    """Data that a claim needs are not here."""


def measured(method: str, source: Source, overrides: Mapping[str, Any]) -> Rows:
    """Return what a method measures of a scenario.

    Raises InputError where the scenario is wrong, MissingDataError where its data are not here; KeyboardInterrupt where
    it was interrupted.
    """
    with _data_are_here():
        return MEASUREMENTS[method](source, overrides)


@contextmanager
def _data_are_here() -> Iterator[None]:
    """Tell data that are not here from what is wrong in a scenario."""
    try:
        yield
    except InputError as error:
        lost = [problem for problem in error.problems if problem.path and problem.path[-1] in FROM_FILES]
        if lost:
            raise MissingDataError(lost) from None
        raise


def _sweep(source: Source, overrides: Mapping[str, Any]) -> Rows:
    found = sweep(source, {"record": [], **overrides})
    if not found.complete:
        raise KeyboardInterrupt
    texts = [{key: value for key, value in at.items() if key != "rule"} for at in found.coordinates]
    return Rows(_columns_apart(found.keys), tuple({**row, **at} for row, at in zip(table(found), texts, strict=True)))


def _columns_apart(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that tell rows apart: of a swept rule its name and its step size."""
    return tuple(dict.fromkeys(name for key in keys for name in (("rule", "step_size") if key == "rule" else (key,))))


def _cells(source: Source, overrides: Mapping[str, Any]) -> tuple[tuple[str, ...], Cells]:
    cells = scenarios_of(source, overrides)
    for _, scenario in cells:
        scenario.check()
    named = [({**at, "rule": scenario.rule.name, "step_size": scenario.rule.step_size}, scenario)
             for at, scenario in cells]  # fmt: skip
    return _columns_apart(tuple(cells[0][0])), named


def _run(scenario: Scenario, **given: Any) -> Run:
    run = simulate(scenario, **given)
    if run.manifest["status"] == "interrupted":
        raise KeyboardInterrupt
    return run


def _ticks(source: Source, overrides: Mapping[str, Any]) -> Rows:
    keys, cells = _cells(source, overrides)
    rows = [{**at, **row} for at, scenario in cells for row in _rows_of_ticks(scenario)]
    return Rows((*keys, "vertex", "tick"), tuple(rows))


def _rows_of_ticks(scenario: Scenario) -> Iterator[Row]:
    run, reached = _run(scenario), vertex_levels(scenario.levelled)
    recorded = {what for entry in scenario.document.record or () for what in entry.what}
    energy = run.series("energy").values if "energy" in recorded else None
    for vertex in scenario.levelled.active:
        series = {what: run.series(what, vertex).values for what in ("norm", "divergence") if what in recorded}
        for tick in range(run.summary["ticks"]):
            yield {
                "vertex": vertex,
                "vertex_level": reached[vertex],
                "tick": tick,
                "when": _when(tick, reached[vertex]),
                **{what: float(values[tick]) for what, values in series.items()},
                **({} if energy is None else {"energy": float(energy[tick])}),
            }


def _when(tick: int, level: int | None) -> str:
    """Return whether the error of a vertex is due at a tick: at the tick that equals its level."""
    return "never" if level is None else "before" if tick < level else "due" if tick == level else "after"


def _training(source: Source, overrides: Mapping[str, Any]) -> Rows:
    keys, cells = _cells(source, overrides)
    rows = [{**at, **row} for at, scenario in cells for row in _rows_of_training(scenario)]
    return Rows((*keys, "at", "parameter"), tuple(rows))


def _rows_of_training(scenario: Scenario) -> Iterator[Row]:
    """Yield what training noted: by epoch, by step, by parameter where it was compared with backprop, and its end."""
    done = train(scenario)
    if done.manifest["status"] == "interrupted":
        raise KeyboardInterrupt
    log, state = done.log, done.state.log
    for name, noted in (("epoch", state.epochs), ("step", state.steps)):
        for number in range(len(noted)):
            yield {"at": name, name: number + 1, **{key: column[number] for key, column in noted.columns.items()}}
    measures = [key for key, array in log.data_vars.items() if array.dims == ("compared", "parameter")]
    for place, step in enumerate(state.compared_at):
        for number, parameter in enumerate(state.parameters):
            found = {str(key): float(log[key][place, number]) for key in measures}
            yield {"at": "compared", "step": step, "parameter": parameter, **found}
    facts = {"levels": levels(scenario.levelled), "ticks": scenario.ticks}
    yield {"at": "end", **facts, **done.summary, **_against_backprop(scenario, {**done.parameters, **done.buffers})}


def _against_backprop(scenario: Scenario, parameters: Mapping[str, Any]) -> Row:
    """Return how far what the rule learns of the scenario's own batch is from backprop's, with these parameters."""
    asked = {**UNREAD, "measure": ["divergence"], "train": None, "sweep": {}}
    again = replace(scenario, document=scenario.document.model_copy(update=asked)).with_parameters(parameters)
    updates = _run(again).summary["divergence"]["updates"]
    return {f"updates_{name}": updates[name] for name in ("relative", "cosine")}


def _times(source: Source, overrides: Mapping[str, Any]) -> Rows:
    keys, cells = _cells(source, {**UNREAD, **overrides})
    outer = list(scenarios_of(source, overrides)[0][0])[:-1]
    cases = [list(case) for _, case in groupby(cells, key=lambda cell: [cell[0][key] for key in outer])]
    return Rows(keys, tuple(row for case in cases for row in _in_turns(case)))


def _in_turns(case: Cells) -> list[Row]:
    """Return how long the runs of a case take, and how many times as long as the first: medians over rounds."""
    scenarios = [scenario for _, scenario in case]
    for scenario in scenarios:  # what is made once, and compiled, is no part of an update
        _run(scenario)
    often = [1 + int(SHARE / _seconds(scenario)) for scenario in scenarios]
    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < FEWEST_ROUNDS or time.perf_counter() - began < SECONDS:
        pairs = zip(scenarios, often, strict=True)
        rounds.append([median(_seconds(scenario) for _ in range(times)) for scenario, times in pairs])
    seconds, ratios = np.array(rounds).T, np.array([[one / row[0] for one in row] for row in rounds]).T
    return [
        {**at, "ticks": scenario.ticks, "seconds": median(mine), "ratio": median(theirs), "rounds": len(rounds)}
        for (at, scenario), mine, theirs in zip(case, seconds.tolist(), ratios.tolist(), strict=True)
    ]


def _seconds(scenario: Scenario) -> float:
    began = time.perf_counter()
    _run(scenario)
    return time.perf_counter() - began


def _work(source: Source, overrides: Mapping[str, Any]) -> Rows:
    keys, cells = _cells(source, {"record": [], "measure": ["ticks_to_convergence"], **overrides})
    return Rows(keys, tuple({**at, **_counted(scenario)} for at, scenario in cells))


def _counted(scenario: Scenario) -> Row:
    """Return the operations of a forward sweep and of all errors: one after the other, and ticks of parallel vertices.

    Backprop works out vertex after vertex ([Z] 2.4-2.6); a tick of all vertices at once takes as long as its slowest
    one, and there must be as many as it takes until every error has arrived ([Z] 3.27-3.31, 3.33-3.35). Derivatives of
    parameters are left out, as there: both work them out once.
    """
    run, work = _run(scenario), vertex_work(scenario.task())
    ahead = sum(forward.operations for forward, _ in work.values())
    back = [sent.operations for _, sent in work.values()]
    ticks = run.summary["ticks_to_convergence"]["ticks"]
    serial, parallel = ahead + sum(back), None if ticks is None else ahead + ticks * max(back)
    graph = scenario.levelled
    return {
        "chain": all(len(graph.incoming[name]) == 1 for name in graph.active),
        "levels": levels(graph),
        "ticks": ticks,
        "spare_ticks": None if ticks is None else ticks - (levels(graph) - 1),
        "forward": ahead,
        "errors": sum(back),
        "slowest": max(back),
        "backprop": serial,
        "parallel": parallel,
        "ratio": None if parallel is None else parallel / serial,
    }


def _free_energy(source: Source, overrides: Mapping[str, Any]) -> Rows:
    keys, cells = _cells(source, {"record": [{"what": ["value"]}], "measure": [], **overrides})
    rows = [{**at, **row} for at, scenario in cells for row in _along(scenario, source, overrides)]
    return Rows((*keys, "tick"), tuple(rows))


def _along(scenario: Scenario, source: Source, overrides: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the free energy of standard inference at the values of each tick, and how values move beside its slope.

    A tick of ``il`` at step size 1 from those values moves them by minus the slope of the energy ([Z] 3.8-3.10).
    """
    standard = {**overrides, "rule": {"name": "il", "step_size": 1.0, "ticks": 1}, "record": [], "measure": ["energy"]}
    (_, one_tick), *_ = scenarios_of(source, {**standard, "sweep": {}, "seed": scenario.document.seed})
    run = _run(scenario)
    names = list(run.state)
    values = {name: run.series("value", name).values for name in names}
    steepest = 0.0
    for tick in range(run.summary["ticks"] - 1):
        now = {name: values[name][tick] for name in names}
        there = _run(one_tick, initial=now)
        descent = _joined({name: there.state[name] - now[name] for name in names})
        move = _joined({name: values[name][tick + 1] - now[name] for name in names})
        steepest = steepest or float(np.linalg.norm(descent))
        yield {
            "tick": tick,
            "energy": there.summary["energy"]["first"],
            "slope": float(np.linalg.norm(descent)) / steepest,
            "alignment": _cosine(move, descent),
        }


def _joined(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays.values()])


def _cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else None


def _credit(source: Source, overrides: Mapping[str, Any]) -> Rows:
    keys, cells = _cells(source, {"record": [{"what": ["energy"]}], "measure": MEASURED, **overrides})
    rows = [{**at, **row} for at, scenario in cells for row in rows_of_credit(scenario, _run(scenario))]
    return Rows((*keys, "parameter"), tuple(rows))


def _by_cell(rows_of: Callable[[Scenario], Iterator[Row]], *told_apart: str) -> Callable[[Any, Any], Rows]:
    """Return the method that yields rows of each run; the columns ``told_apart`` tell those of one run apart."""

    def method(source: Source, overrides: Mapping[str, Any]) -> Rows:
        keys, cells = _cells(source, {**UNREAD, **overrides})
        return Rows((*keys, *told_apart), tuple({**at, **row} for at, scenario in cells for row in rows_of(scenario)))

    return method


MEASUREMENTS: dict[str, Callable[[Any, Any], Rows]] = {
    "sweep": _sweep,
    "ticks": _ticks,
    "training": _training,
    "times": _times,
    "work": _work,
    "free_energy": _free_energy,
    "credit": _credit,
    "channels": _by_cell(rows_of_channels, "loss", "jitter", "quantise", "activity"),
    "sparse_training": _by_cell(rows_of_sparse_training, "threshold"),
    "precision_training": _by_cell(rows_of_precision_training, "learnt"),
    "delay_rounds": _by_cell(rows_of_delays, "round"),
    "spans": _by_cell(rows_of_spans, "line"),
    "processors": _by_cell(rows_of_processors, "method", "processors"),
    "placements": _by_cell(rows_of_placements, "placement"),
    "ranking": _by_cell(rows_of_ranking, "candidate"),
    "light_cones": _by_cell(rows_of_cones, "change", "vertex"),
    "rules_compared": _by_cell(rows_compared, "rule"),
    "plasticity": _by_cell(rows_of_plasticity, "parameter", "tick"),
}
"""The names under ``rows`` of a claim, each with its function."""
