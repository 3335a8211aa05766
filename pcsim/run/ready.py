"""Sessions that stand ready: a scenario that is run again begins again, and nothing is checked or laid out anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import ref

from pcsim.engines.ensembles import Ensemble, alone
from pcsim.run.grouping import state_bytes
from pcsim.run.task import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from pcsim.engines import Engine, Task
    from pcsim.run.outcome import Outcome
    from pcsim.scenario.scenario import Scenario

MOST_BYTES = 256 * 2**20
"""A session of more than this is not kept when its run has ended."""


@dataclass
class Ready:
    """The session of a run that has ended, and what of it may still be read."""

    ensemble: Ensemble
    outcome: ref[Outcome] | None = None

    def begin(self, _start: Engine, /) -> Ensemble:
        """Return the session at tick 0; what may still be read of its last run is copied before."""
        if self.outcome is not None and (outcome := self.outcome()) is not None:
            outcome.release()
        self.ensemble.forget()
        self.ensemble.clock.restart()
        return self.ensemble


@dataclass
class Prepared:
    """A task with everything in it checked, for which no session stands ready."""

    task: Task

    def begin(self, start: Engine) -> Ensemble:
        """Start a session; raises RunError where a value of the feedforward sweep is NaN or infinite."""
        return alone(self.task, start)


def prepare(scenario: Scenario, name: str, initial: Mapping[str, np.ndarray] | None) -> Ready | Prepared:
    """Return what begins the session of a run: one that stands ready, or a task.

    Raises InputError with every problem of the scenario, each with its place.
    """
    ready: Ready | None = scenario.sessions.get(name) if initial is None else None
    if ready is None:
        return Prepared(task_of(scenario, initial))
    scenario.sessions[name] = None  # taken, until the run has ended well
    return ready


def keep(scenario: Scenario, name: str, ensemble: Ensemble, outcome: Outcome | None) -> None:
    """Let a session stand ready for the next run of a scenario, if it is not too large."""
    if not ensemble.task.initial and (name in scenario.sessions or state_bytes(scenario) <= MOST_BYTES):
        scenario.sessions[name] = Ready(ensemble, None if outcome is None else ref(outcome))
