"""The whole flow on one screen: a scenario in, a run out."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import Reference, backprop
from pcsim.analysis.closed import closed_form
from pcsim.analysis.measures import MEASURES, Evidence, warnings
from pcsim.analysis.meter import Follower, meter
from pcsim.engines import Engine, Session, Task, best_engine, open_engine
from pcsim.engines.base import may_rest
from pcsim.engines.together import Joint, agree, alone, together
from pcsim.errors import InputError, Problem, RunError, nearest, wrong
from pcsim.journal import Journal
from pcsim.probes import channels, check_record, learnt, watched
from pcsim.run import TRACE, Run, new_folder
from pcsim.scenario.models import RecordEntry, StopEntry
from pcsim.scenario.reader import Source, load
from pcsim.scenario.scenario import Scenario
from pcsim.trace.writer import TraceWriter

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.trace.channel import Channel

Progress = Callable[[int, int], None]
"""Called after each tick, or block of ticks in which nothing is read, with (ticks done, horizon)."""

FLUSH_EVERY = 5.0
"""Seconds after which what is recorded is written, full chunk or not: that much of a run can be lost."""

BLOCK_SECONDS = 0.15
"""Seconds that a block of ticks is to take, in which nothing is read: Ctrl-C and progress wait for its end."""

BLOCK_BYTES = 4 * 2**20
"""Bytes of norms that are kept back during a block."""

MOST_TOGETHER = 256 * 2**20
"""Bytes that runs side by side take, at most."""

SMALL_RUN = 8 * 2**20
"""Bytes up to which a run leaves a machine idle and gains by others beside it."""

DEFAULT_RECORD = (RecordEntry(what=["energy", "norm", "divergence"]),)


def simulate(
    source: Scenario | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    engine: str | None = None,
    out: str | Path | None = None,
    initial: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Simulate a scenario.

    Parameters
    ----------
    source : a Scenario, or a path or mapping that ``pcsim.load`` takes
    overrides : {dotted key: value}, for a path or mapping
    engine : one of ``ENGINES``, or ``auto``, which takes compiled kernels for long runs; default: the scenario's
    out : a new folder for the run, written while it goes on; default: kept in memory
    initial : {free vertex: (batch, *shape)}, values at tick 0, such as ``run.state`` of another run
    progress : called after each tick with (ticks done, horizon)

    Returns
    -------
    Run
        Also after Ctrl-C, which ends the tick in progress: ``run.manifest["status"]`` is ``interrupted``.

    Raises
    ------
    InputError
        If something asked for is wrong.
    RunError
        If numbers end or the trace cannot be written; ``error.run`` is the run up to there, None if it never began.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    name, start = _engine(scenario, engine)
    task = _task(scenario, initial)
    journal = Journal(scenario, name, None if out is None else new_folder(out))
    with journal.keeping():
        journal.note("running", "not ended", 0, {})
        _follow([journal], alone(task, start), progress)
    assert journal.run is not None
    return journal.run


def _engine(scenario: Scenario, engine: str | None) -> tuple[str, Engine]:
    """Return what runs a scenario, and its name."""
    name = engine or scenario.document.engine
    if name == "auto":
        name = best_engine(scenario.levelled, scenario.document.batch, scenario.ticks)
    start = open_engine(name)
    if scenario.document.solve == "simulate":
        return name, start

    def solved(task: Task) -> Session:
        try:
            return closed_form(task)
        except InputError as error:
            raise scenario.places(error) from None

    return scenario.document.solve, solved


def simulate_many(
    sources: Sequence[Scenario | Source],
    *,
    engine: str | None = None,
    out: Sequence[str | Path] | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """Simulate scenarios side by side where they are one graph under one rule.

    Runs that differ only in seed, step size, inputs or targets tick together, as one program, in groups
    that take at most ``MOST_TOGETHER`` bytes; the others one after the other. Results are those of single runs.

    Parameters
    ----------
    sources : Scenarios, or paths or mappings that ``pcsim.load`` takes
    engine : for all; default: each scenario's own
    out : a new folder for each run, written when it has ended
    progress : called with (ticks done, horizon) of the runs that are ticking

    Returns
    -------
    list of Run
        In the order of the sources. A run that fails does not end the others: its ``manifest["status"]`` is
        ``failed``. After Ctrl-C those not ended are ``interrupted``, or, where they had not begun, left out.

    Raises
    ------
    InputError
        If something asked for is wrong in any of them, before the first is run.
    """
    scenarios = [source if isinstance(source, Scenario) else load(source) for source in sources]
    folders = None if out is None else [new_folder(folder) for folder in out]
    if folders is not None and len(folders) != len(scenarios):
        raise wrong("out", f"expected one folder for each of {len(scenarios)} runs, got {len(folders)}")
    found: dict[int, Run] = {}
    for group in groups(scenarios, engine):
        for place, run in zip(group, _group([scenarios[place] for place in group], engine, progress), strict=False):
            found[place] = run
            if folders is not None:
                run.save(folders[place])
        if any(found[place].manifest["status"] == "interrupted" for place in group if place in found):
            break
    return [found[place] for place in sorted(found)]


def groups(scenarios: Sequence[Scenario], engine: str | None) -> list[list[int]]:
    """Return the places of scenarios that are run side by side, in the order of the first of each group."""
    found: dict[str, list[list[int]]] = defaultdict(list)
    for place, scenario in enumerate(scenarios):
        name = engine or scenario.document.engine
        size = state_bytes(scenario)
        known = found[_kind(scenario, name)]
        apart = size > SMALL_RUN or scenario.document.solve != "simulate"
        if not known or apart or (len(known[-1]) + 1) * size > MOST_TOGETHER:
            known.append([])
        known[-1].append(place)
    return sorted(group for kind in found.values() for group in kind)


def _kind(scenario: Scenario, engine: str) -> str:
    """Return what scenarios that can run side by side have in common."""
    own = {"seed", "inputs", "targets", "sweep", "title", "source", "about", "graph", "engine"}
    document = scenario.document.model_dump(exclude=own)
    document["rule"].pop("step_size")
    return json.dumps([engine, document, scenario.plain["graph"]], sort_keys=True, default=str)


def state_bytes(scenario: Scenario) -> int:
    """Return roughly what a run takes while it ticks: values, errors and messages, parameters and what they learn."""
    graph = scenario.levelled
    sizes = {name: prod(vertex.shape) for name, vertex in graph.vertices.items()}
    flying = sum((2 + edge.value_delay + edge.error_delay) * sizes[edge.pre] for edge in graph.edges)
    numbers = scenario.document.batch * (8 * sum(sizes.values()) + flying)
    return scenario.dtype.itemsize * (numbers + 3 * sum(prod(row.shape) for row in graph.parameters.values()))


def _group(scenarios: Sequence[Scenario], engine: str | None, progress: Progress | None) -> Iterator[Run]:
    """Run a group side by side; those that this leaves without a result, one by one."""
    name, start = _engine(scenarios[0], engine)
    tasks = [_task(scenario, None, beside=len(scenarios) > 1) for scenario in scenarios]
    journals = [Journal(scenario, name, None) for scenario in scenarios]
    if len(tasks) > 1 and agree(tasks):
        # one run whose numbers end must not end the others
        with suppress(RunError), ExitStack() as stack:
            for journal in journals:
                stack.enter_context(journal.keeping())
            _follow(journals, together(tasks, start), progress)
    for scenario, journal in zip(scenarios, journals, strict=True):
        run = journal.run or _single(scenario, journal, engine, progress)
        yield run
        if run.manifest["status"] == "interrupted" and journal.run is None:
            return


def _single(scenario: Scenario, journal: Journal, engine: str | None, progress: Progress | None) -> Run:
    """Run one scenario; a failed one is a run too."""
    try:
        return simulate(scenario, engine=engine, progress=progress)
    except RunError as error:
        run: Run = error.run or journal.stillborn(error)
        return run


def _task(scenario: Scenario, initial: Mapping[str, np.ndarray] | None, *, beside: bool = False) -> Task:
    """Return what the engine needs; raises InputError with every problem, each with its place in the scenario."""
    record = recorded(scenario)
    try:
        check(scenario, record)
        if initial is not None:
            _check_initial(scenario, initial)
        # a run that may stop while others go on learns from the messages of its last tick
        keep = (beside and scenario.document.stop is not None) or any("message" in entry.what for entry in record)
        task = scenario.task(initial=initial, keep_values=keep)
        spared = not (scenario.document.literal or record or _measures(scenario)) and may_rest(task)
        return replace(task, literal=not spared)
    except InputError as error:
        raise scenario.places(error) from None


def recorded(scenario: Scenario) -> tuple[RecordEntry, ...]:
    """Return the probes of a scenario."""
    return DEFAULT_RECORD if scenario.document.record is None else tuple(scenario.document.record)


def _measures(scenario: Scenario) -> bool:
    """Return whether every tick must be looked at."""
    return scenario.document.measure != [] or scenario.document.stop is not None


def _check_initial(scenario: Scenario, initial: Mapping[str, np.ndarray]) -> None:
    graph, batch = scenario.levelled, scenario.document.batch
    free = [name for name in graph.active if graph.role(name) == "free"]
    problems = [
        Problem(("initial", name), "is not a free vertex" + nearest(name, free)) for name in initial if name not in free
    ] + [
        Problem(
            ("initial", name), f"has shape {list(np.shape(value))}, expected {[batch, *graph.vertices[name].shape]}"
        )
        for name, value in initial.items()
        if name in free and np.shape(value) != (batch, *graph.vertices[name].shape)
    ]
    problems += [
        Problem(("initial", name), f"holds something that is no finite {scenario.dtype} number")
        for name, value in initial.items()
        if not _finite(value, scenario.dtype)
    ]
    if problems:
        raise InputError(problems)


def _finite(value: np.ndarray, dtype: np.dtype[Any]) -> bool:
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.asarray(value, dtype)).all())
    except (TypeError, ValueError):
        return False


def check(scenario: Scenario, record: tuple[RecordEntry, ...]) -> None:
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
    stop, converged = scenario.document.stop, scenario.document.converged
    if isinstance(stop, StopEntry) and converged not in (None, stop.measure):
        problems.append(
            Problem(("converged",), f"is {converged!r}, but stop says {stop.measure!r}; one run follows one criterion")
        )
    if problems:
        raise InputError(problems)


def parameters(source: Scenario | Source) -> dict[str, np.ndarray]:
    """Return {parameter: (*shape)}, the values a run starts from."""
    return (source if isinstance(source, Scenario) else load(source)).parameters()


def gradients(source: Scenario | Source) -> dict[str, np.ndarray]:
    """Return {parameter: (*shape)}: the descent direction -dL/dp, summed over the batch, by reverse-mode backprop."""
    scenario = source if isinstance(source, Scenario) else load(source)
    return dict(backprop(scenario.task()).gradients)


@dataclass(frozen=True)
class _Scale:
    """What follows the runs, and the references that they are measured against."""

    follower: Follower
    references: Sequence[Reference]


def _measuring(scenario: Scenario, joint: Joint) -> _Scale | None:
    asked = {what for entry in recorded(scenario) for what in entry.what}
    if not (_measures(scenario) or asked & {"energy", "divergence"}):
        return None
    tasks = joint.tasks
    references = [backprop(task) for task in tasks]
    criterion, tolerance = _criterion(scenario)
    everywhere = "divergence" in asked
    return _Scale(meter(joint, references, criterion, tolerance, everywhere=everywhere), references)


def _criterion(scenario: Scenario) -> tuple[str, float]:
    """Return what converging means: what the scenario says, else what its stop says, else what suits the rule."""
    document, stop = scenario.document, scenario.document.stop
    if isinstance(stop, StopEntry):
        return stop.measure, stop.below
    natural = "gradient" if scenario.rule.compares_with_backprop else "settled"
    return document.converged or natural, document.tolerance


def _follow(journals: Sequence[Journal], joint: Joint, progress: Progress | None) -> None:
    """Play runs side by side to their ends."""
    scenario = journals[0].scenario
    record = recorded(scenario)
    with np.errstate(all="ignore"):
        scale = _measuring(scenario, joint)
        follower = scale.follower if scale else None
        parts = [_Part(journal, joint, run) for run, journal in enumerate(journals)]
        for part in parts:
            part.open(channels(part.task, part.view, follower, record, part.run))
        everies, norms = watched(record)
        plan = _Plan((1,) if _measures(scenario) else everies, norms=norms and 1 not in everies)
        with _interrupts() as asked:
            _Play(joint, parts, scale, plan, asked, progress).play()


@dataclass
class _Part:
    """One of the runs that are played side by side."""

    journal: Journal
    joint: Joint
    run: int
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.intp))

    @property
    def task(self) -> Task:
        """What this run is."""
        return self.joint.tasks[self.run]

    @property
    def view(self) -> Session:
        """What this run reads from."""
        return self.joint.views[self.run]

    @property
    def writer(self) -> TraceWriter:
        """What this run records with."""
        assert self.journal.writer is not None
        return self.journal.writer

    def open(self, found: list[Channel]) -> None:
        """Begin the trace."""
        folder = self.journal.folder
        self.journal.writer = TraceWriter(folder / TRACE if folder else None, found, ticks=self.task.ticks)
        self.journal.flushed = time.perf_counter()
        norms = [channel.names for channel in found if channel.variable == "norm"]
        if norms:
            own = [name for group in self.view.layout() for name in group]
            column = dict(zip(own, self.joint.columns(self.run).tolist(), strict=True))
            self.columns = np.array([column[name] for name in norms[0]], np.intp)

    def record(self, tick: int) -> None:
        """Record what is due at a tick."""
        self.writer.record(tick)
        self.flush()

    def extend(self, first: int, norms: np.ndarray) -> None:
        """Record the norms of ticks from ``first`` on."""
        ticks = np.arange(first, first + len(norms))
        self.writer.extend("series", ticks, {"norm": norms[:, self.columns]})
        self.flush()

    def flush(self) -> None:
        """Write what was recorded, now and then."""
        if self.journal.folder is not None and (now := time.perf_counter()) - self.journal.flushed > FLUSH_EVERY:
            self.writer.flush()
            self.journal.flushed = now

    def end(self, status: str, reason: str, found: dict[str, Any], *, alone: bool) -> None:
        """Close the trace and the manifest; ``alone`` says that nothing moves any more."""
        for row in learnt(self.view.updates()):
            self.writer.static(*row)
        self.writer.close()
        manifest = self.journal.note(status, reason, self.journal.done, found)
        state = _not_followed if not self.task.literal else self.state if alone else _kept(self.state())
        self.journal.run = Run(manifest, self.writer.store, state)

    def state(self) -> dict[str, np.ndarray]:
        """Return the free values."""
        graph = self.task.graph
        free = [name for name in graph.active if graph.role(name) == "free"]
        return {name: self.view.reader("value", [name])()[0] for name in free}


def _kept(state: dict[str, np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: state


def _not_followed() -> dict[str, np.ndarray]:
    hint = "nothing was recorded or measured; with 'literal: true' every value is"
    raise wrong(
        "state", f"the values of this run were not followed to its end, as no update depends on them and {hint}"
    )


@dataclass(frozen=True)
class _Plan:
    """Which ticks stand still to be read: those that one of ``everies`` divides; ``norms`` of all are wanted."""

    everies: tuple[int, ...]
    norms: bool

    def due(self, tick: int, ticks: int) -> int:
        """Return the first tick from ``tick`` on that stands still; ``ticks`` where none does."""
        return min((-(-tick // every) * every for every in self.everies), default=ticks)


@dataclass
class _Play:
    """Plays runs: tick by tick where something is read, in blocks where nothing is."""

    joint: Joint
    parts: Sequence[_Part]
    scale: _Scale | None
    plan: _Plan
    asked: Callable[[], bool]
    progress: Progress | None
    block: int = 1

    def play(self) -> None:
        """Play all ticks, or until every run has ended."""
        tick, ticks = 0, self.joint.task.ticks
        while tick < ticks and self.live:
            interrupted = self.asked()
            due = min(self.plan.due(tick, ticks), ticks)
            end = tick + 1 if interrupted or due == tick else due
            tick = self.step(tick, interrupted) if due == tick else self.stretch(tick, end, interrupted)

    @property
    def live(self) -> list[_Part]:
        """The runs that have not ended."""
        return [part for part in self.parts if part.journal.run is None]

    def step(self, tick: int, interrupted: bool) -> int:
        """Play one tick, and read it while it stands still."""
        clock = self.joint.clock
        clock.predict(tick)
        clock.send(tick)
        if self.scale is not None:
            self.scale.follower.follow(tick)
        ends = {part.run: end for part in self.live if (end := self.ends(part, tick, interrupted))}
        last = len(ends) == len(self.live)
        self.joint.learn(tick, last=last)
        for run in () if last else ends:
            self.joint.end(run)
        for part in self.live:
            part.record(tick)
        found = {run: self.measures(run) for run in ends}
        clock.move()
        self.told(tick + 1)
        for run, (status, reason) in ends.items():
            self.parts[run].end(status, reason, found[run], alone=last)
        return tick + 1

    def ends(self, part: _Part, tick: int, interrupted: bool) -> tuple[str, str] | None:
        """Return how and why a run ends in this tick; None if it goes on."""
        stop, ticks = part.journal.scenario.document.stop, self.joint.task.ticks
        follower = self.scale.follower if self.scale else None
        if interrupted:
            return "interrupted", f"interrupted after tick {tick}"
        if stop is not None and follower is not None and follower.criterion_value[part.run] <= follower.tolerance:
            return "done", f"{follower.criterion} at or below {follower.tolerance:g} at tick {tick}"
        return ("done", f"all {ticks} ticks done") if tick == ticks - 1 else None

    def stretch(self, first: int, end: int, interrupted: bool) -> int:
        """Play ticks in which nothing is read, so many that Ctrl-C and progress are not kept waiting."""
        ticks, began = self.joint.task.ticks, time.perf_counter()
        width = sum(map(len, self.joint.clock.layout())) if self.plan.norms else 0
        if self.joint.task.literal:
            end = min(end, first + self.block, first + max(1, BLOCK_BYTES // (8 * width or 1)))
        last = interrupted or end == ticks
        norms = np.full((end - first, width), np.nan) if self.plan.norms else None
        try:
            self.joint.play(first, end, last=last, norms=norms)
        finally:
            self.note(first, norms)
        self.block = max(1, int((end - first) * min(8.0, BLOCK_SECONDS / (time.perf_counter() - began))))
        self.told(end)
        if last:
            reason = f"interrupted after tick {end - 1}" if interrupted else f"all {ticks} ticks done"
            for part in self.live:
                part.end("interrupted" if interrupted else "done", reason, {"warnings": []}, alone=True)
        return end

    def note(self, first: int, norms: np.ndarray | None) -> None:
        """Record the norms of a block; where numbers ended within it, those of the ticks before."""
        if norms is None:
            return
        done = len(norms) if not np.isnan(norms).any() else int(np.isnan(norms).any(axis=1).argmax())
        for part in self.live:
            part.extend(first, norms[:done])
            part.journal.done = first + done

    def told(self, done: int) -> None:
        """Tell how far the runs have come."""
        for part in self.live:
            part.journal.done = done
        if self.progress is not None:
            self.progress(done, self.joint.task.ticks)

    def measures(self, run: int) -> dict[str, Any]:
        """Return the measures of a run in its last tick."""
        if self.scale is None:
            return {"warnings": []}
        part = self.parts[run]
        found = Evidence(part.task, part.view, self.scale.follower.of(run), self.scale.references[run])
        wanted = part.journal.scenario.document.measure
        names = MEASURES if wanted is None else wanted
        return {**{name: MEASURES[name].take(found) for name in names}, "warnings": warnings(found)}


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that is asked after each tick; the second one is itself again."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
