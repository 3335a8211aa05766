"""Sessions that stand ready: a scenario that is run again begins again, and nothing is checked or laid out anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import ref

from pcsim.engines.ensembles import Ensemble, alone
from pcsim.resources import available
from pcsim.run.grouping import state_bytes
from pcsim.run.task import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from pcsim.engines import Engine, Task
    from pcsim.engines.base import Given
    from pcsim.run.outcome import Outcome
    from pcsim.scenario.scenario import Scenario

MOST_BYTES, MOST_SHARE = 256 * 2**20, 1 / 8
"""A session of more than this, and more than this share of the memory that is left, is not kept when its run ends."""


@dataclass
class Ready:
    """The session of a run that has ended, and what of it may still be read."""

    ensemble: Ensemble
    outcome: ref[Outcome] | None = None
    scenario: Scenario | None = None
    """What is run next: what the session is of, or one that begins with other parameters or data."""

    def begin(self, _start: Engine, /) -> Ensemble:
        """Return the session at tick 0; what may still be read of its last run is copied before."""
        assert self.scenario is not None
        if self.outcome is not None and (outcome := self.outcome()) is not None:
            outcome.release()
        self.ensemble.begin_again(self._changed(self.scenario.task()))
        return self.ensemble

    def serves(self, scenario: Scenario) -> bool:
        """Return whether the session can begin with what a scenario begins with: buffers are not taken back."""
        return set(self.ensemble.task.buffers) <= set(scenario.task().buffers)

    def _changed(self, wanted: Task) -> Given:
        """Return what a task does not begin with as the last run did."""
        before = self.ensemble.task

        def changed(key: str) -> Mapping[str, np.ndarray] | None:
            then, now = getattr(before, key), getattr(wanted, key)
            return {name: array for name, array in now.items() if array is not then.get(name)} or None

        return {
            "inputs": changed("inputs"),
            "targets": changed("targets"),
            "parameters": changed("parameters"),
            "buffers": changed("buffers"),
        }


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
    if ready is None or not ready.serves(scenario):
        return Prepared(task_of(scenario, initial))
    scenario.sessions[name] = None  # taken, until the run has ended well
    ready.scenario = scenario
    return ready


def keep(scenario: Scenario, name: str, ensemble: Ensemble, outcome: Outcome | None) -> None:
    """Let a session stand ready for the next run of a scenario, if it is not too large."""
    if not ensemble.task.initial and (name in scenario.sessions or _may_stay(scenario, ensemble.task)):
        scenario.sessions[name] = Ready(ensemble, None if outcome is None else ref(outcome))


def _may_stay(scenario: Scenario, task: Task) -> bool:
    """Return whether a session is small, for itself or beside the memory that is left."""
    size = state_bytes(scenario, in_flight=task.exact_dynamics)
    return size <= MOST_BYTES or size <= MOST_SHARE * (available() or 0)
