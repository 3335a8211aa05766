"""A message-passing simulator for predictive coding on arbitrary computation graphs.

``load`` reads a scenario, ``validate`` checks one, ``plan`` tells what it costs; ``simulate`` runs it, ``sweep`` a grid
of them; ``compare`` tells where two runs differ, ``plot`` draws a run or a sweep, ``open_run`` reads one from its
folder. ``gradients`` are those of backprop. What is wrong in the input raises ``InputError``.

>>> import pcsim
>>> scenario = pcsim.load({"graph": {"formula": "sin(theta * x)", "parameters": {"theta": {"init": {"constant": 2}}}},
...                        "inputs": {"x": 0.5}, "targets": {"v2": 1.0}, "rule": "zil"})
>>> run = pcsim.simulate(scenario)
>>> bool(abs(run.updates["theta"] - pcsim.gradients(scenario)["theta"]) < 1e-15)
True
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcsim.analysis.delay_learning import DelayLearning, learn_delays
    from pcsim.claims.advice import Advice, advise
    from pcsim.claims.cost_report import CostReport, cost
    from pcsim.claims.locality_report import LocalityReport, locality
    from pcsim.claims.plasticity_report import PlasticityReport, plasticity
    from pcsim.claims.reproduce import Reproduction, reproduce
    from pcsim.errors import InputError, PcsimError, RunError
    from pcsim.graph import Graph, Levelling, level, levelling
    from pcsim.graph.crossings import with_channels
    from pcsim.graph.dot import to_dot
    from pcsim.graph.edge_delays import delays_by_distance, delays_by_hops, drawn_delays, with_delays
    from pcsim.learn.training import Training, open_training
    from pcsim.models.export import export
    from pcsim.models.model import Model
    from pcsim.models.nir_reader import from_nir
    from pcsim.models.nir_writer import to_nir
    from pcsim.models.onnx_reader import from_onnx
    from pcsim.models.onnx_writer import to_onnx
    from pcsim.models.torch_reader import from_torch
    from pcsim.rules import RULES, Rule
    from pcsim.run.compare_runs import Comparison, compare
    from pcsim.run.result import Run, open_run
    from pcsim.run.validate import validate
    from pcsim.scenario.reader import load, load_graph
    from pcsim.scenario.scenario import Scenario
    from pcsim.simulate import gradients, parameters, simulate, simulate_many, synapses
    from pcsim.sweep import Sweep, open_sweep, sweep
    from pcsim.train import train
    from pcsim.view.plots import plot
    from pcsim.view.scenario_plan import plan

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "Advice",
    "Comparison",
    "CostReport",
    "DelayLearning",
    "Graph",
    "InputError",
    "Levelling",
    "LocalityReport",
    "Model",
    "PcsimError",
    "PlasticityReport",
    "Reproduction",
    "Rule",
    "Run",
    "RunError",
    "Scenario",
    "Sweep",
    "Training",
    "advise",
    "compare",
    "cost",
    "delays_by_distance",
    "delays_by_hops",
    "drawn_delays",
    "export",
    "from_nir",
    "from_onnx",
    "from_torch",
    "gradients",
    "learn_delays",
    "level",
    "levelling",
    "load",
    "load_graph",
    "locality",
    "open_run",
    "open_sweep",
    "open_training",
    "parameters",
    "plan",
    "plasticity",
    "plot",
    "reproduce",
    "simulate",
    "simulate_many",
    "sweep",
    "synapses",
    "to_dot",
    "to_nir",
    "to_onnx",
    "train",
    "validate",
    "with_channels",
    "with_delays",
]

_MODULES = {
    "pcsim.claims.advice": ("Advice", "advise"),
    "pcsim.claims.reproduce": ("Reproduction", "reproduce"),
    "pcsim.claims.cost_report": ("CostReport", "cost"),
    "pcsim.analysis.delay_learning": ("DelayLearning", "learn_delays"),
    "pcsim.claims.locality_report": ("LocalityReport", "locality"),
    "pcsim.claims.plasticity_report": ("PlasticityReport", "plasticity"),
    "pcsim.errors": ("InputError", "PcsimError", "RunError"),
    "pcsim.graph": ("Graph", "Levelling", "level", "levelling"),
    "pcsim.models.model": ("Model",),
    "pcsim.graph.crossings": ("with_channels",),
    "pcsim.graph.dot": ("to_dot",),
    "pcsim.graph.edge_delays": ("delays_by_distance", "delays_by_hops", "drawn_delays", "with_delays"),
    "pcsim.models.export": ("export",),
    "pcsim.models.nir_reader": ("from_nir",),
    "pcsim.models.nir_writer": ("to_nir",),
    "pcsim.models.onnx_reader": ("from_onnx",),
    "pcsim.models.torch_reader": ("from_torch",),
    "pcsim.models.onnx_writer": ("to_onnx",),
    "pcsim.rules": ("RULES", "Rule"),
    "pcsim.run.compare_runs": ("Comparison", "compare"),
    "pcsim.run.result": ("Run", "open_run"),
    "pcsim.run.validate": ("validate",),
    "pcsim.scenario.reader": ("load", "load_graph"),
    "pcsim.scenario.scenario": ("Scenario",),
    "pcsim.simulate": ("gradients", "parameters", "simulate", "simulate_many", "synapses"),
    "pcsim.sweep": ("Sweep", "open_sweep", "sweep"),
    "pcsim.learn.training": ("Training", "open_training"),
    "pcsim.train": ("train",),
    "pcsim.view.plots": ("plot",),
    "pcsim.view.scenario_plan": ("plan",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what a public name stands for when it is first used: all of it takes a third of a second."""
    if name not in _MODULE_OF:
        message = f"module 'pcsim' has no attribute {name!r}"
        raise AttributeError(message)
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, in which ``simulate`` and ``sweep`` stay functions once modules of those names are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
