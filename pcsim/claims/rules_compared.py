"""Rules side by side on one graph: what they learn beside backprop, whether they descend the free energy, how long.

The columns answer the summary of Zahid, Guo & Fountas 2023: point 1 (equality with backprop wants values that a sweep
from the data has set), point 2 (what of the update is not local), result 1 (with infinite variance latent values do
not move), result 2 (which rules follow the slope of the free energy), result 3 (time beside backprop's).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.claims.cost_report import HORIZON, cost
from pcsim.claims.rule_needs import DESCENT
from pcsim.engines import open_engine
from pcsim.engines.base import tick_by_tick
from pcsim.errors import InputError, RunError, shortened
from pcsim.rules import OF_MULTIPLIERS, SETTINGS
from pcsim.run.task import engine_of
from pcsim.simulate import gradients

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Session, Task
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule
    from pcsim.scenario.scenario import Scenario

Row = dict[str, Any]
Arrays = dict[str, np.ndarray]

LOOKED_AT = 6
"""Ticks at which the direction of motion is compared with the slope of the free energy, about."""


LEAST = 1e-9
"""Slopes at or below this share of the first are rounding, and have no direction."""


def compared(scenario: Scenario, row: Rule) -> Row:
    """Return what one rule does on the graph of a scenario.

    Returns
    -------
    ``divergence``, ``cosine``: of all updates from backprop's, relative L2 norm; ``divergence_from_zeros`` where free
    values begin at zero, not from the sweep. ``motion``: how far free values have moved when the run ends, relative to
    their size. ``alignment``: the least cosine of a tick's motion with minus the slope of the free energy;
    ``slope_left``: the slope at the end, relative to that at the start. ``why`` says what could not be worked out.
    """
    found: Row = {"rule": row.name, "step_size": row.step_size, "ticks": None, "divergence": None, "cosine": None,
                  "divergence_from_zeros": None, "motion": None, "alignment": None, "slope_left": None,
                  "why": ""}  # fmt: skip
    one = replace(scenario, rule=row, document=scenario.document.model_copy(update={"sweep": {}, "train": None}))
    try:
        _, start = engine_of(one, None)
        task = one.task()
        reference = gradients(scenario)
        updates, values = _run(start(task), task)
        found |= {"ticks": task.ticks, **_beside(updates, reference), **_motion(task, values)}
        zeros = {name: np.zeros((task.batch, *task.graph.vertices[name].shape), task.dtype) for name in _free(task)}
        begun = replace(task, initial=zeros)
        found["divergence_from_zeros"] = _beside(_run(start(begun), begun)[0], reference)["divergence"]
    except (InputError, RunError) as error:
        found["why"] = shortened(str(error).split("\n"))[0]
    return found


def _free(task: Task) -> list[str]:
    return [name for name in task.graph.active if task.graph.role(name) == "free"]


def _run(session: Session, task: Task) -> tuple[Arrays, dict[int, Arrays]]:
    """Return what was learnt, and the free values at some ticks and one later: the first and the last are among them.

    Where parameters learn at every tick, they are kept with the values.
    """
    looked = {int(tick) for tick in np.linspace(0, task.ticks - 1, LOOKED_AT)}
    wanted, values = looked | {tick + 1 for tick in looked}, {}
    readers = {name: session.reader("value", [name]) for name in _free(task)}

    def read(tick: int) -> None:
        if tick in wanted:
            values[tick] = {name: np.array(reader()[0]) for name, reader in readers.items()}
            if task.rule.fires.applies:
                values[tick] |= session.parameters()

    tick_by_tick(session, 0, task.ticks, last=True, measure=read)
    return session.updates(), values


def _beside(updates: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> Row:
    mine, theirs = _joined(updates, reference), _joined(reference, reference)
    size = float(np.linalg.norm(theirs))
    return {
        "divergence": float(np.linalg.norm(mine - theirs)) / size if size else None,
        "cosine": _cosine(mine, theirs),
    }


def _joined(arrays: Mapping[str, np.ndarray], names: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(np.ravel(arrays[name]) for name in names)])


def _cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else None


def _motion(task: Task, values: Mapping[int, Arrays]) -> Row:
    """Return how far values moved, and how that goes with the slope of the free energy."""
    names, last = _free(task), max(values)
    if not names:
        return {}
    first, end = (_joined(values[tick], names) for tick in (0, last))
    slopes = {tick: slope_at(task, values[tick]) for tick in values}
    steepest = float(np.linalg.norm(slopes[0]))
    cosines = [
        _cosine(_joined(values[tick + 1], names) - _joined(values[tick], names), slope)
        for tick, slope in slopes.items()
        if tick + 1 in values and np.linalg.norm(slope) > LEAST * steepest
    ]
    left = float(np.linalg.norm(slopes[last])) / steepest if steepest else None
    size = float(np.linalg.norm(first))
    return {"motion": float(np.linalg.norm(end - first)) / size if size else None, "slope_left": left,
            "alignment": min((one for one in cosines if one is not None), default=None)}  # fmt: skip


def slope_at(task: Task, values: Arrays) -> np.ndarray:
    """Return minus the slope of the free energy at some values, by a tick of standard inference without delays."""
    names, descent = _free(task), replace(DESCENT, output_variance=task.rule.output_variance)
    given = {name: values.get(name, array) for name, array in task.parameters.items()}
    initial = {name: values[name] for name in names}
    graph = without_delays(task.graph)
    still = replace(task, graph=graph, rule=descent, ticks=1, initial=initial, step_sizes={}, parameters=given)
    session = open_engine("numpy")(still)
    tick_by_tick(session, 0, 1, last=False)
    state = session.snapshot().deviations
    begun = open_engine("numpy")(still).snapshot().deviations
    return _joined({name: state[name] - begun[name] for name in names}, names)


def without_delays(graph: Graph) -> Graph:
    """Return the graph whose messages take no delay: the free energy knows none."""
    return replace(graph, edges=tuple(replace(edge, value_delay=0, error_delay=0) for edge in graph.edges))


def with_times(scenario: Scenario, rules: Sequence[Rule], rows: Sequence[Row]) -> list[Row]:
    """Return the rows with ticks to convergence, and time beside backprop's, with one processor for each actor."""
    settings = [_as_settings(row) for row in rules]
    try:
        found = {row["method"].split(",")[0]: row for row in cost(scenario, rules=settings).times}
    except InputError as error:
        return [{**row, "converged_ticks": None, "time": None, "time_why": str(error)} for row in rows]
    return [
        {**row, "converged_ticks": at["ticks"], "time": at["span_over_backprop_span"], "time_why": at["why"]}
        for row in rows
        for at in [found[row["rule"]]]
    ]


def _as_settings(row: Rule) -> Row:
    """Return a rule as a scenario says it, with ticks enough to converge."""
    kept = [key for key in SETTINGS if row.keeps_multipliers or key not in OF_MULTIPLIERS]
    ticks = {} if row.ticks == "levels" else {"ticks": HORIZON}
    return {"name": row.name, **{key: getattr(row, key) for key in kept}, **ticks}
