"""What a run will take, estimated before anything is allocated: time, memory, and the size of its trace."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.analysis.conditions import has_closed_form
from pcsim.analysis.cost import tick_work
from pcsim.analysis.theory import greatest_floor
from pcsim.engines import ENGINES
from pcsim.engines.array import memory
from pcsim.engines.base import Task
from pcsim.errors import RunError, wrong
from pcsim.program.lower import lower
from pcsim.resources import ALWAYS_THERE, mebibytes
from pcsim.run.grouping import state_bytes
from pcsim.run.probes import record_bytes
from pcsim.run.task import engine_name, recorded, updates_alone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.program.program import Program
    from pcsim.scenario.scenario import Scenario

LONG = 30.0
"""Seconds from which a run is announced with what it will take."""

LARGE = 2**30
"""Bytes of traces from which a sweep is announced with what it will write; a tenth of the free disk is much too."""

FLOPS = 4e10
"""Operations of matrix products that a core does in a second, about."""


DRAW = 3e-8
"""Seconds that it takes to draw a number, and to look whether it is finite."""


@dataclass(frozen=True)
class Pace:
    """About how long an engine takes, in seconds: to start, for each step or actor of a tick, for each number."""

    start: float
    step: float
    number: float


PACES = {"numpy": Pace(0.1, 6e-5, 4e-9), "numba": Pace(1.5, 2e-5, 3e-9), "actors": Pace(0.1, 4e-5, 5e-9)}
"""Measured on multilayer perceptrons of 4 to 256 layers, everything measured at every tick; right within a factor of
three, about, where ops are as costly as those."""


@dataclass(frozen=True)
class Forecast:
    """Estimates for one run; what stops early takes less.

    Attributes
    ----------
    engine : what will execute it
    ticks : how many ticks it will run at most
    """

    scenario: Scenario
    engine: str
    ticks: int

    @cached_property
    def task(self) -> Task:
        """The task without its data."""
        scenario = self.scenario
        return Task(
            scenario.levelled, scenario.rule, self.ticks, scenario.document.batch, scenario.dtype, {}, {}, {}, {}
        )

    @cached_property
    def program(self) -> Program:
        """The program of a tick."""
        return lower(self.task.graph, self.task.rule)

    @cached_property
    def seconds(self) -> float | None:
        """About how long the run takes; None where nothing is known: closed forms, devices."""
        pace = PACES.get(self.engine)
        if pace is None or self.scenario.document.solve != "simulate":
            return None
        work = tick_work(self.task)
        active = [self.task.graph.vertices[name] for name in self.task.graph.active]
        kinds = {(vertex.op.name, vertex.shape, vertex.call.shapes) for vertex in active}
        steps = len(active) if self.engine == "actors" else len(kinds)
        tick = pace.step * steps + pace.number * work.elementwise + work.products / FLOPS
        drawn = sum(self.scenario.memory.values()) / self.task.dtype.itemsize
        return pace.start + DRAW * drawn + self.ticks * tick

    @cached_property
    def memory(self) -> dict[str, int]:
        """Return the bytes that a run holds on an array engine: those of the engine, and of the task it is given."""
        graph, batch, itemsize = self.task.graph, self.task.batch, self.task.dtype.itemsize
        held = self.program.memory(batch, itemsize)
        data = [name for name in graph.vertices if graph.role(name) == "source"] + list(graph.outputs)
        given = sum(prod(graph.vertices[name].shape) for name in data) * batch * itemsize
        # where parameters change within the run, what was applied already is held too
        updates = 2 if self.task.rule.fires.applies else 1
        return {**held, "updates": updates * held["parameters"], "task": held["parameters"] + given}

    @property
    def least(self) -> dict[str, int]:
        """The part of ``memory`` that its engine cannot do without."""
        spared = ("work", "messages") if self.engine not in ("numpy", "actors") else ()
        row = ENGINES.get(self.engine)
        if row is not None and row.sweeps_back and updates_alone(self.scenario, self.task):
            spared = (*spared, "in flight")
        return {name: size for name, size in self.memory.items() if name not in spared}

    @cached_property
    def trace(self) -> tuple[float, int]:
        """The bytes of the trace, before compression: a tick on average, and in all."""
        task = self.task
        probes = recorded(self.scenario)
        sizes = [(record_bytes(task, entry), -(-self.ticks // entry.every)) for entry in probes]
        return sum(size / entry.every for (size, _), entry in zip(sizes, probes, strict=True)), sum(
            size * records for size, records in sizes
        )

    @cached_property
    def floor(self) -> float:
        """How far from backprop rounding may keep errors for ever, relative to them; 0 where it does not."""
        return greatest_floor(self.task, self.task.graph.active) if has_closed_form(self.task) else 0.0

    @cached_property
    def refused(self) -> str:
        """Why there is no memory for the run; empty where there is."""
        try:
            admit(self.scenario, self.engine)
        except RunError as error:
            return str(error)
        return ""

    def warnings(self) -> list[str]:
        """Return in sentences what the run will not do well: fit into memory, come within its tolerance."""
        found = [self.refused] if self.refused else []
        tolerance = self.scenario.document.tolerance
        if self.floor > tolerance:
            found.append(
                f"above step size 1 roundings grow on their way, here perhaps to {self.floor:.1g} of the error: more "
                f"than the tolerance, {tolerance:g}, however many ticks there are; a smaller step_size keeps them small"
            )
        return found


def forecast(scenario: Scenario, engine: str | None = None, until: int | None = None) -> Forecast:
    """Return what a run will take; ``engine`` goes before what the scenario says, as in ``simulate``."""
    return Forecast(scenario, engine_name(scenario, engine), min(scenario.ticks, until or scenario.ticks))


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def admit(scenario: Scenario, engine: str | None) -> None:
    """Raise RunError where a run does not fit into the memory that is left; nothing has been drawn or read yet.

    A scenario for which a session stands ready has its memory already.
    """
    if engine is not None and scenario.sessions.get(engine) is not None:
        return
    try:
        memory.HostMemory().admit(scenario.memory)
        if state_bytes(scenario) > ALWAYS_THERE // 4:
            memory.HostMemory().admit(forecast(scenario, engine).least)
    except RunError as error:
        if scenario.document.level != "identity":
            raise
        message = f"{error}, and so does level: delay, which adds no vertices"
        raise RunError(message) from None


def with_room(out: str | Path | None, scenario: Scenario, engine: str, until: int | None) -> str | Path | None:
    """Return the folder of a run, if it has one.

    Raises
    ------
    InputError
        Where the trace of the whole run would be larger than what is free of the disk.
    RunError
        Where the run does not fit into memory.
    """
    admit(scenario, engine)
    # nobody knows how long a run is that stops early
    if out is None or scenario.document.stop is not None:
        return out
    folder = Path(out)
    (tick, total), free = forecast(scenario, engine, until).trace, free_disk(folder)
    if total > free:
        what = f"the trace will take about {mebibytes(total)} ({tick:,.0f} bytes a tick)"
        remedy = "record fewer quantities or vertices, or with 'every' fewer ticks"
        raise scenario.located(wrong("record", f"{what}, and {folder} has {mebibytes(free)} of disk free; {remedy}"))
    return out


def announcement(found: Forecast, folder: Path | None) -> str:
    """Return a line on a run that will take long; empty for all others, and for one that will be refused at once."""
    if found.seconds is None or found.seconds < LONG or found.refused:
        return ""
    held, (_, trace) = sum(found.memory.values()), found.trace
    room = "in memory" if folder is None else f"{mebibytes(free_disk(folder))} of disk free"
    return (
        f"estimate: about {duration(found.seconds)} on {found.engine}, {mebibytes(held)} of memory, a trace of "
        f"{mebibytes(trace)} ({room})"
    )


@dataclass(frozen=True)
class SweepForecast:
    """What a sweep keeps: of how many ``runs``, how many are ``kept`` with their traces, and the bytes of these in all.

    Bytes are those before compression; runs that stop early take less.
    """

    runs: int
    kept: int = 0
    trace: int = 0


def sweep_forecast(scenarios: Iterable[Scenario]) -> SweepForecast:
    """Return what a sweep over these scenarios keeps: the traces of those that say what to record."""
    traces = [forecast(scenario).trace[1] if scenario.document.record else None for scenario in scenarios]
    kept = [trace for trace in traces if trace is not None]
    return SweepForecast(len(traces), len(kept), sum(kept))


def sweep_announcement(found: SweepForecast, folder: Path) -> str:
    """Return a line on a sweep that will write much to a folder; empty for all others."""
    free = free_disk(folder)
    if not found.kept or found.trace < min(LARGE, free / 10):
        return ""
    return (
        f"estimate: {found.kept:,} of {found.runs:,} runs are kept with their traces, about {mebibytes(found.trace)} "
        f"in all before compression ({mebibytes(free)} of disk free)"
    )


def duration(seconds: float) -> str:
    """Return a time as people write it.

    >>> duration(95), duration(7200)
    ('2 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
