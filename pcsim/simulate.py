"""The whole flow on one screen: a scenario in, a run out."""

from __future__ import annotations

import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import Reference, backprop
from pcsim.analysis.measures import MEASURES, Evidence, warnings
from pcsim.analysis.meter import Meter, meter
from pcsim.engines import AUTO, Session, Task, open_engine
from pcsim.errors import InputError, Problem, RunError, nearest
from pcsim.graph.levels import levels
from pcsim.probes import channels, check_record, learnt
from pcsim.run import TRACE, Run, new_folder, write_manifest
from pcsim.scenario.models import RecordEntry, StopEntry
from pcsim.scenario.reader import Source, load
from pcsim.scenario.scenario import Scenario
from pcsim.trace.writer import TraceWriter

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int, int], None]
"""Called after each tick with (ticks done, horizon)."""

FLUSH_EVERY = 5.0
"""Seconds after which what is recorded is written, full chunk or not: that much of a run can be lost."""

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
    engine : ``actors``, ``numpy`` or ``auto``; default: the scenario's
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
    name = engine or scenario.document.engine
    start = open_engine(name)
    record = DEFAULT_RECORD if scenario.document.record is None else tuple(scenario.document.record)
    task = _task(scenario, record, initial)
    folder = None if out is None else new_folder(out)
    journal = _Journal(scenario, AUTO if name == "auto" else name, folder, time.perf_counter())
    with journal.keeping():
        journal.note("running", "not ended", 0, {})
        session = start(task)
        scale = _measuring(scenario, task, session, record)
        with np.errstate(all="ignore"):
            return journal.follow(task, session, scale, record, progress)


def _task(scenario: Scenario, record: tuple[RecordEntry, ...], initial: Mapping[str, np.ndarray] | None) -> Task:
    """Return what the engine needs; raises InputError with every problem, each with its place in the scenario."""
    try:
        check(scenario, record)
        if initial is not None:
            _check_initial(scenario, initial)
        return scenario.task(initial=initial, keep_values=any("message" in entry.what for entry in record))
    except InputError as error:
        raise scenario.places(error) from None


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
    """The meter of a run and the reference it measures against."""

    meter: Meter
    reference: Reference


def _measuring(scenario: Scenario, task: Task, session: Session, record: tuple[RecordEntry, ...]) -> _Scale | None:
    document = scenario.document
    needed = (
        document.measure != [] or document.stop or any({"energy", "norm", "divergence"} & set(e.what) for e in record)
    )
    if not needed:
        return None
    reference = backprop(task)
    criterion, tolerance = _criterion(scenario)
    return _Scale(meter(task, session, reference, criterion, tolerance), reference)


def _criterion(scenario: Scenario) -> tuple[str, float]:
    """Return what converging means: what the scenario says, else what its stop says, else what suits the rule."""
    document, stop = scenario.document, scenario.document.stop
    if isinstance(stop, StopEntry):
        return stop.measure, stop.below
    natural = "gradient" if scenario.rule.compares_with_backprop else "settled"
    return document.converged or natural, document.tolerance


def _stops(scenario: Scenario, followed: Meter | None) -> str | None:
    """Return why a run ends at this tick, if its stop says so."""
    stop = scenario.document.stop
    if stop is None or followed is None or not followed.criterion_value <= followed.tolerance:
        return None
    return f"{followed.criterion} at or below {followed.tolerance:g} at tick {followed.tick}"


@dataclass
class _Journal:
    """Keeps the manifest of a run true, whatever happens."""

    scenario: Scenario
    engine: str
    folder: Path | None
    clock: float
    writer: TraceWriter | None = None
    done: int = 0
    flushed: float = 0.0

    def follow(
        self,
        task: Task,
        session: Session,
        scale: _Scale | None,
        record: tuple[RecordEntry, ...],
        progress: Progress | None,
    ) -> Run:
        followed = scale.meter if scale else None
        self.writer = TraceWriter(
            self.folder / TRACE if self.folder else None, channels(task, session, followed, record), ticks=task.ticks
        )
        self.flushed = time.perf_counter()
        with _interrupts() as asked:
            status, reason = self._ticks(task, session, followed, progress, asked)
        for row in learnt(session.updates()):
            self.writer.static(*row)
        self.writer.close()
        return self._run(status, reason, self._measures(task, session, scale), session, task)

    def _ticks(
        self, task: Task, session: Session, followed: Meter | None, progress: Progress | None, asked: Callable[[], bool]
    ) -> tuple[str, str]:
        assert self.writer is not None
        for tick in range(task.ticks):
            session.predict(tick)
            session.send(tick)
            if followed is not None:
                followed.follow(tick)
            converged = _stops(self.scenario, followed)
            interrupted = asked()
            last = converged is not None or interrupted or tick == task.ticks - 1
            session.learn(tick, last=last)
            self._record(tick)
            session.move()
            self.done = tick + 1
            if progress is not None:
                progress(self.done, task.ticks)
            if interrupted:
                return "interrupted", f"interrupted after tick {tick}"
            if converged is not None:
                return "done", converged
        return "done", f"all {task.ticks} ticks done"

    def _record(self, tick: int) -> None:
        assert self.writer is not None
        self.writer.record(tick)
        if self.folder is not None and (now := time.perf_counter()) - self.flushed > FLUSH_EVERY:
            self.writer.flush()
            self.flushed = now

    def _measures(self, task: Task, session: Session, scale: _Scale | None) -> dict[str, Any]:
        if scale is None:
            return {"warnings": []}
        found = Evidence(task, session, scale.meter, scale.reference)
        wanted = self.scenario.document.measure
        names = MEASURES if wanted is None else wanted
        return {**{name: MEASURES[name].take(found) for name in names}, "warnings": warnings(found)}

    def _run(self, status: str, reason: str, found: dict[str, Any], session: Session, task: Task) -> Run:
        free = [name for name in task.graph.active if task.graph.role(name) == "free"]
        manifest = self.note(status, reason, self.done, found)
        assert self.writer is not None
        return Run(manifest, self.writer.store, lambda: {name: session.reader("value", [name])()[0] for name in free})

    def note(self, status: str, reason: str, ticks: int, found: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest as things stand."""
        manifest = self._manifest(status, reason, ticks, found)
        self._keep(manifest)
        return manifest

    def _keep(self, manifest: dict[str, Any]) -> None:
        try:
            if self.folder is not None:
                write_manifest(self.folder, manifest)
        except OSError as error:
            msg = f"cannot write the manifest in {self.folder}: {error.strerror or error}"
            raise RunError(msg) from error

    def _manifest(self, status: str, reason: str, ticks: int, found: dict[str, Any]) -> dict[str, Any]:
        scenario, rule = self.scenario, self.scenario.rule
        summary = {
            "title": scenario.document.title,
            "rule": rule.name,
            "step_size": rule.step_size,
            "ticks": ticks,
            "horizon": scenario.ticks,
            "levels": levels(scenario.levelled),
            "feedforward_ticks": max(scenario.levelled.depths.values(), default=0),
            "stop_reason": reason,
            **found,
        }
        return {
            "pcsim": "run/1",
            "title": scenario.document.title,
            "status": status,
            "engine": self.engine,
            "seed": scenario.document.seed,
            "dtype": scenario.document.dtype,
            "digest": scenario.digest,
            "versions": versions(),
            "seconds": round(time.perf_counter() - self.clock, 3),
            "summary": summary,
            "scenario": scenario.plain,
        }

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what was recorded when a run fails or is ended at once, and say why."""
        try:
            yield
        except RunError as error:
            manifest = self._end("failed", str(error), [str(error)])
            if self.writer is not None:
                error.run = Run(manifest, self.writer.store)
            raise
        except KeyboardInterrupt:
            self._end("interrupted", f"ended at once, in tick {self.done}", [])
            raise
        except BaseException as error:
            self._end("failed", f"{type(error).__name__}: {error}", [])
            raise

    def _end(self, status: str, reason: str, said: list[str]) -> dict[str, Any]:
        """Close the trace and note the end; what cannot be written any more stays as it is."""
        manifest = self._manifest(status, reason, self.done, {"warnings": said})
        with suppress(RunError):
            if self.writer is not None:
                self.writer.close()
        with suppress(RunError):
            self._keep(manifest)
        return manifest


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


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in ("pcsim", "numpy", "scipy", "xarray", "zarr"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
