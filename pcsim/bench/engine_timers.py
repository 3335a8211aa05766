"""The engines as candidates: what is run, timed and read of a session."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pcsim.bench.baselines import Candidate
from pcsim.bench.bench_results import Build
from pcsim.bench.families import TICKS, scenario_of
from pcsim.engines import open_engine

if TYPE_CHECKING:
    from pcsim.bench.families import Case, RuleRow, Size
    from pcsim.engines import Session, Task


@dataclass(frozen=True)
class EngineTimer:
    """A session that is ready, and what it took to make."""

    session: Session
    candidate: Candidate
    build: Build


def task_of(case: Case, rule: RuleRow, size: Size) -> Task:
    """Return the task of a case: only whole updates may leave out what reaches none."""
    return replace(scenario_of(case, rule, TICKS[size]).task(), exact_dynamics=not rule.whole)


def engine_timer(engine: str, task: Task, rule: RuleRow, task_seconds: float) -> EngineTimer:
    """Open a session and return it as a candidate."""
    start_engine = open_engine(engine)
    start = time.perf_counter()
    session = start_engine(task)
    build = Build(task_seconds, time.perf_counter() - start)
    return EngineTimer(session, updates(session, task) if rule.whole else ticks(session, task), build)


def ticks(session: Session, task: Task) -> Candidate:
    """Return all ticks of a task as a candidate: from tick 0, learning nothing, recording nothing."""

    def read() -> dict[str, np.ndarray]:
        session.predict(task.ticks)
        session.send(task.ticks)
        return errors(session)

    return Candidate(session.restart, lambda: session.advance(0, task.ticks, last=False), read)


def norms(session: Session, task: Task) -> Candidate:
    """Return the same ticks with the norm of every vertex's error recorded at each."""
    found = np.zeros((task.ticks, len(task.graph.active)))
    return Candidate(
        session.restart,
        lambda: session.advance(0, task.ticks, last=False, squares=found),
        lambda: {name: found[:, column] for column, name in enumerate(name for g in session.layout() for name in g)},
    )


def updates(session: Session, task: Task) -> Candidate:
    """Return a whole update as a candidate: new data, forward sweep, inference, learning."""

    def run() -> None:
        session.restart(inputs=task.inputs, targets=task.targets)
        session.advance(0, task.ticks, last=True)

    return Candidate(lambda: None, run, session.updates)


def errors(session: Session) -> dict[str, np.ndarray]:
    """Return {vertex: its error now}."""
    groups = [(names, session.reader("error", names)()) for names in session.layout()]
    return {name: np.array(rows[row]) for names, rows in groups for row, name in enumerate(names)}
