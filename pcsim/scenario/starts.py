"""Where values begin: a row for each way to say it under ``initial``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """One way to begin, as a row of facts.

    Attributes
    ----------
    acyclic : values follow from the sources, vertex after vertex: a vertex on a cycle would wait for itself. A value
        delay on the cycle does not help: before tick 0 value lines hold the very values that are sought
    needs_run : values come from the batch before, which a single run has not
    needs_call : values are given with the call that runs the scenario
    """

    name: str
    summary: str
    acyclic: bool = False
    needs_run: bool = False
    needs_call: bool = False


_ROWS = (
    Start("feedforward", "those of a feedforward sweep; on an acyclic graph only", acyclic=True),
    Start("zeros", "all zero"),
    Start("carried", "those at which the batch before has ended, in training; the first batch begins with zeros",
          needs_run=True),
    Start("given", "those that a call is given: simulate(initial=run.state); or from a file: {file: state.npz}",
          needs_call=True),
    Start("normal", "drawn with mean 0: {normal: STANDARD DEVIATION}"),
)  # fmt: skip

STARTS: dict[str, Start] = {row.name: row for row in _ROWS}
