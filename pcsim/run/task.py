"""From a scenario to what runs it: the engine, and the task with everything in it checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pcsim.analysis.closed import closed_form
from pcsim.analysis.equilibrium import equilibrium
from pcsim.analysis.measures import MEASURES
from pcsim.analysis.oracle import relaxes
from pcsim.engines import ENGINES, Engine, Session, Task, best_engine, open_engine, sweeps
from pcsim.engines.base import may_freeze, misfit
from pcsim.engines.operands import admit_sources
from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.graph.order import natural
from pcsim.run.probes import check_record
from pcsim.scenario.scenario_document import OF_BACKPROP, RecordEntry, StopEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from pcsim.scenario.scenario import Scenario

DEFAULT_RECORD = (RecordEntry(what=["energy", "norm", "divergence"]),)
DEFAULT_ON_CYCLES = (RecordEntry(what=["energy", "norm"]),)


SESSIONS: dict[str, Engine] = {"closed_form": closed_form, "equilibrium": equilibrium, "sweeps": sweeps.start}
"""What runs a task and is no engine: it is chosen by ``solve``, or by a rule that no engine runs."""


def started_by(name: str) -> Engine:
    """Return what starts the session of a run, by the name that its manifest has."""
    return SESSIONS.get(name) or open_engine(name)


def engine_name(scenario: Scenario, engine: str | None) -> str:
    """Return the name of what runs a scenario; ``engine`` goes before what the scenario says."""
    if scenario.document.solve != "simulate":
        return scenario.document.solve
    if scenario.rule.sweeps:
        return "sweeps"
    name = engine or scenario.document.engine
    if name != "auto":
        return name
    return best_engine(scenario.levelled, scenario.document.batch, scenario.ticks, scenario.rule)


def engine_of(scenario: Scenario, engine: str | None) -> tuple[str, Engine]:
    """Return what runs a scenario, and its name; ``engine`` goes before what the scenario says."""
    check_engine(scenario, engine)
    open_engine(engine or scenario.document.engine)
    name = engine_name(scenario, engine)
    start = started_by(name)

    def started(task: Task) -> Session:
        try:
            return start(task)
        except InputError as error:
            raise scenario.located(error) from None

    return name, started


def check_engine(scenario: Scenario, engine: str | None) -> None:
    """Check that an engine that is asked for can run the scenario; raises InputError."""
    solve, named = scenario.document.solve, engine or scenario.document.engine
    if engine not in (None, "auto") and solve != "simulate":
        raise wrong(
            "engine", f"{engine!r} has nothing to run under solve: {solve}; leave it out, or set solve=simulate"
        )
    if solve == "simulate" and named in ENGINES and (refusal := ENGINES[named].refusal(scenario.rule)):
        raise wrong("engine", refusal) if engine else scenario.located(wrong("engine", refusal))


def task_of(scenario: Scenario, initial: Mapping[str, np.ndarray] | None, *, beside: bool = False) -> Task:
    """Return what the engine needs; raises InputError with every problem, each with its place in the scenario.

    ``beside`` says that other runs tick with this one, and may go on when it has ended.
    """
    record = recorded(scenario)
    try:
        check(scenario, record)
        if initial is not None:
            _check_initial(scenario, initial)
        if problems := _missing_starts(scenario, initial):
            raise InputError(problems)
        # a run that may stop while others go on learns from the messages of its last tick
        keep = (beside and scenario.document.stop is not None) or any("message" in entry.what for entry in record)
        task = scenario.task(initial=initial, keep_values=keep)
        admit_sources(task)
        return replace(task, exact_dynamics=not updates_alone(scenario, task))
    except InputError as error:
        raise scenario.located(error) from None


def updates_alone(scenario: Scenario, task: Task) -> bool:
    """Return whether nothing is wanted of a run but what its parameters learn, which takes no more than two sweeps."""
    looks = scenario.document.literal or recorded(scenario) or looks_at_every_tick(scenario)
    return not looks and may_freeze(task)


def recorded(scenario: Scenario) -> tuple[RecordEntry, ...]:
    """Return the probes of a scenario."""
    if scenario.document.record is None:
        return DEFAULT_ON_CYCLES if scenario.levelled.cyclic else DEFAULT_RECORD
    return tuple(scenario.document.record)


def looks_at_every_tick(scenario: Scenario) -> bool:
    """Return whether a scenario measures, or waits for, what takes a look at every tick."""
    return scenario.document.measure != [] or scenario.document.stop is not None


def check(scenario: Scenario, record: Sequence[RecordEntry]) -> None:
    """Check the names of measures and probes; raises InputError."""
    problems = [
        Problem(("measure", place), f"unknown measure {name!r}" + nearest(name, MEASURES, "pcsim list measures"))
        for place, name in enumerate(scenario.document.measure or ())
        if name not in MEASURES
    ]
    try:
        check_record(scenario.levelled, record)
    except InputError as error:
        problems += error.problems
    problems += [*_unkept(scenario, record), *_without_backprop(scenario, record)]
    stop, converged = scenario.document.stop, scenario.document.converged
    if isinstance(stop, StopEntry) and converged not in (None, stop.measure):
        problems.append(
            Problem(("converged",), f"is {converged!r}, but stop says {stop.measure!r}; one run follows one criterion")
        )
    problems += _without_limit(scenario)
    if problems:
        raise InputError(problems)


def _without_limit(scenario: Scenario) -> list[Problem]:
    """Return that a rule has no limit of its own that is solved for, where a run is to be judged by it."""
    rule, stop = scenario.rule, scenario.document.stop
    asked = stop.measure if isinstance(stop, StopEntry) else scenario.document.converged
    if asked != "limit" or relaxes(rule):
        return []
    place = ("stop", "measure") if isinstance(stop, StopEntry) else ("converged",)
    return [
        Problem(
            place,
            f"'limit' is solved for il and il-variance; rule {rule.name!r} moves otherwise: take gradient or settled",
        )
    ]


def _unkept(scenario: Scenario, record: Sequence[RecordEntry]) -> list[Problem]:
    """Return which probes ask for multipliers that no vertex keeps."""
    message = f"rule {scenario.rule.name!r} keeps no multipliers; leave it out, or take a rule that does: alm"
    kept = scenario.rule.keeps_multipliers
    return [
        Problem(("record", place, "what"), message)
        for place, entry in enumerate(record)
        if "multiplier" in entry.what and not kept
    ]


def _without_backprop(scenario: Scenario, record: Sequence[RecordEntry]) -> Iterator[Problem]:
    """Yield what compares with backprop, where the graph has a cycle."""
    document, graph = scenario.document, scenario.levelled
    if not graph.cyclic:
        return
    why = f"compares with backprop, which a graph with a cycle has not: {graph.a_cycle}"
    for place, name in enumerate(document.measure or ()):
        if name in MEASURES and MEASURES[name].backprop:
            yield Problem(("measure", place), f"{name!r} {why}; leave it out")
    for place, entry in enumerate(record):
        if "divergence" in entry.what:
            yield Problem(("record", place, "what"), f"'divergence' {why}; leave it out")
    stop = document.stop.measure if isinstance(document.stop, StopEntry) else None
    for key, criterion in (("converged", document.converged), ("stop", stop)):
        if criterion in OF_BACKPROP:
            yield Problem((key,), f"{criterion!r} {why}; take settled, update or energy")


def _missing_starts(scenario: Scenario, initial: Mapping[str, np.ndarray] | None) -> list[Problem]:
    """Return why a run does not know where to begin."""
    start = scenario.document.start
    if initial is None and start.needs_run:
        what = f"{start.name!r} goes on from the batch before, in training; a single run has none"
        return [Problem(("initial",), f"{what}: say zeros, or give it simulate(initial=run.state) with initial: given")]
    if initial is None and scenario.document.initial == "given":
        return [Problem(("initial",), "'given' needs values: simulate(initial=run.state); or name a {file: state.npz}")]
    if initial is not None and (missing := sorted(scenario.levelled.cyclic - initial.keys(), key=natural)):
        what = f"{missing[0]!r} has no value to begin with, and lies on a cycle: {scenario.levelled.a_cycle}"
        return [Problem(("initial",), f"{what}; give all vertices on cycles one, such as run.state has")]
    return []


def _check_initial(scenario: Scenario, initial: Any) -> None:
    if not isinstance(initial, Mapping):
        raise wrong("initial", f"expected {{free vertex: array}}, such as run.state, got {initial!r:.60}")
    graph, batch = scenario.levelled, scenario.document.batch
    free = [name for name in graph.active if graph.role(name) == "free"]
    problems = [
        Problem(("initial", name), "is not a free vertex" + nearest(name, free)) for name in initial if name not in free
    ] + [
        Problem(("initial", name), fault)
        for name, value in initial.items()
        if name in free and (fault := misfit(value, (batch, *graph.vertices[name].shape), scenario.dtype))
    ]
    if problems:
        raise InputError(problems)
