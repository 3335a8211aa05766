"""Which ticks of a run are run now: where it is taken up, where it stops, and when it is checkpointed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from pcsim.engines import ENGINES
from pcsim.errors import whole, wrong
from pcsim.run.result import Run, open_run, settle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from pcsim.run.checkpoint import Checkpoint
    from pcsim.scenario.scenario import Scenario


class Stretch(TypedDict, total=False):
    """Which ticks of a run are asked for; what is not given is the whole run.

    Attributes
    ----------
    until : stop before this tick; what was to be learnt in the last tick of the run is not learnt yet
    checkpoint : in the folder of the run, write every so many ticks what the run can go on from
    resume : a run of the same scenario, or its folder: go on where it was paused, interrupted, or last checkpointed
    """

    until: int | None
    checkpoint: int | None
    resume: Run | str | Path | None


class Beginning(Stretch, total=False):
    """What a run begins with in place of what its scenario says, and which of its ticks are asked for.

    Attributes
    ----------
    parameters : {parameter: (*shape)}, values to start from
    inputs, targets : {source or output: (batch, *shape)}, data
    """

    parameters: Mapping[str, np.ndarray] | None
    inputs: Mapping[str, np.ndarray] | None
    targets: Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class Resumed:
    """What a run goes on from: the checkpoint, and the run that it is of, with its trace."""

    checkpoint: Checkpoint
    run: Run


@dataclass(frozen=True)
class Span:
    """Which ticks of a run are run now.

    Attributes
    ----------
    until : no tick from here on; None: all of the run's
    checkpoint : a checkpoint is written every so many ticks; None: only where the run stops before its end
    resumed : where the run is taken up; None: at its beginning
    """

    until: int | None = None
    checkpoint: int | None = None
    resumed: Resumed | None = None

    @property
    def engine(self) -> str | None:
        """The engine of the run that is taken up: another one would go on with other last bits."""
        engine = None if self.resumed is None else self.resumed.run.manifest["engine"]
        return engine if engine in ENGINES else None

    @property
    def before(self) -> Mapping[str, Any] | None:
        """The manifest of the run that is taken up."""
        return None if self.resumed is None else self.resumed.run.manifest


WHOLE = Span()
"""A run from its first tick to its last."""


def span_of(
    scenario: Scenario,
    out: str | Path | None,
    *,
    until: Any = None,
    checkpoint: Any = None,
    resume: Run | str | Path | None = None,
) -> Span:
    """Return the span that is asked for; raises InputError where it is none, or the run to resume is another's.

    ``out`` is the folder of the run, where it has one; where it goes on in it, what a killed run left is put in order.
    """
    until, checkpoint = _ticks("until", until), _ticks("checkpoint", checkpoint)
    if checkpoint is not None and out is None:
        raise wrong("checkpoint", "checkpoints are kept in the folder of a run: say out= (--out) as well")
    settle(out, resume)
    resumed = None if resume is None else _resumed(scenario, resume)
    if resumed is not None and until is not None and until <= resumed.checkpoint.state.tick:
        raise wrong("until", f"the run goes on from tick {resumed.checkpoint.state.tick}; it cannot stop at {until}")
    return Span(until, checkpoint, resumed)


def _ticks(key: str, value: Any) -> int | None:
    """Return a number of ticks, also one written 3.0; raises InputError where it is none."""
    if value is None:
        return None
    with suppress(ValueError):
        if whole(value) >= 1:
            return whole(value)
    raise wrong(key, f"expected a whole number of ticks, at least 1, got {value!r}")


def digest_of(scenario: Scenario) -> str:
    """Return a fingerprint of a scenario and of the values that its parameters start from."""
    return f"{scenario.digest}-{scenario.parameters_digest}"


def _check_files(scenario: Scenario, run: Run) -> None:
    """Raise InputError where a file of the scenario is not what it was when the run began."""
    known = run.manifest.get("files", {})
    changed = [name for name, content in known.items() if scenario.files.get(name, content) != content]
    if changed:
        names = ", ".join(str(scenario.folder / name) for name in changed)
        verb = "has" if len(changed) == 1 else "have"
        hint = "a run goes on with the data it began with: put them back, or begin a new run"
        raise wrong("resume", f"{names} {verb} changed since the run began; {hint}")


def _resumed(scenario: Scenario, resume: Run | str | Path) -> Resumed:
    run = resume if isinstance(resume, Run) else open_run(resume)
    checkpoint = run.checkpoint()
    _check_files(scenario, run)
    if checkpoint.digest != digest_of(scenario):
        text = "the run is of another scenario, or began with other parameters; a run goes on with those it began with"
        raise wrong("resume", text)
    return Resumed(checkpoint, run)
