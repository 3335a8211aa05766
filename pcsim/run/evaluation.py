"""What runs are measured against while they advance: the meter that follows them, and backprop."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from pcsim.analysis.backprop import Reference, reference
from pcsim.analysis.measures import MEASURES, Evidence, measures_of, warnings
from pcsim.analysis.meter import Meter, start_meter
from pcsim.engines.array.memory import HostMemory
from pcsim.run.task import looks_at_every_tick, recorded
from pcsim.scenario.scenario_document import StopEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from pcsim.engines import Task
    from pcsim.engines.ensembles import Ensemble
    from pcsim.run.recorder import RunRecorder
    from pcsim.scenario.scenario import Scenario


@dataclass(frozen=True)
class Evaluation:
    """What follows the runs, and the references that they are measured against."""

    meter: Meter
    references: Sequence[Reference]

    def reached(self, recorder: RunRecorder) -> bool:
        """Return whether a run is where its criterion wants it."""
        return bool(self.meter.criterion_value[recorder.run] <= self.meter.tolerance)

    def compared(self, ensemble: Ensemble) -> dict[str, np.ndarray]:
        """Return the backprop errors by the names that the clock of all runs knows."""
        pairs = zip(ensemble.names, self.references, strict=True)
        return {names[name]: error for names, reference in pairs for name, error in reference.errors.items()}

    def measures(self, recorder: RunRecorder) -> dict[str, Any]:
        """Return the measures of a run in its last tick."""
        found = Evidence(recorder.task, recorder.member, self.meter.of(recorder.run), self.references[recorder.run])
        wanted = recorder.keeper.scenario.document.measure
        names = measures_of(recorder.task.graph) if wanted is None else wanted
        said = [*warnings(found), *recorder.keeper.scenario.warnings()]
        return {**{name: MEASURES[name].take(found) for name in names}, "warnings": said}


def evaluation_of(scenario: Scenario, ensemble: Ensemble) -> Evaluation | None:
    """Return what measures runs of a scenario; None where nothing that is recorded or wanted needs it."""
    asked = {what for entry in recorded(scenario) for what in entry.what}
    if not (looks_at_every_tick(scenario) or asked & {"energy", "divergence"}):
        return None
    kept: Evaluation | None = ensemble.evaluation
    if kept is not None:
        kept.meter.reset()
        return kept
    made = ensemble.evaluation = _evaluation_of(scenario, ensemble, everywhere="divergence" in asked)
    return made


def _evaluation_of(scenario: Scenario, ensemble: Ensemble, *, everywhere: bool) -> Evaluation:
    HostMemory().admit({"backprop, which the run is measured against": sum(map(_backprop_bytes, ensemble.tasks))})
    references = [reference(task) for task in ensemble.tasks]
    criterion, tolerance = criterion_of(scenario)
    meter = start_meter(ensemble, references, criterion, tolerance, everywhere=everywhere)
    made = Evaluation(meter, references)
    if meter.follows_blocks:
        ensemble.clock.compare_with(made.compared(ensemble))
    return made


def _backprop_bytes(task: Task) -> int:
    """Return what backprop holds at least: the value and the error of each vertex, and the gradients."""
    graph = task.graph
    numbers = 2 * task.batch * sum(prod(vertex.shape) for vertex in graph.vertices.values())
    return task.dtype.itemsize * (numbers + sum(prod(row.shape) for row in graph.parameters.values()))


def criterion_of(scenario: Scenario) -> tuple[str, float]:
    """Return what converging means: what the scenario says, else what its stop says, else what suits the rule."""
    document, stop = scenario.document, scenario.document.stop
    if isinstance(stop, StopEntry):
        return stop.measure, stop.below
    natural = "gradient" if scenario.rule.compares_with_backprop else "settled"
    return document.converged or natural, document.tolerance
