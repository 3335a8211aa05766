"""A message-passing simulator for predictive coding on arbitrary computation graphs.

>>> import pcsim
>>> scenario = pcsim.load({"graph": {"formula": "sin(theta * x)", "parameters": {"theta": {"init": {"constant": 2}}}},
...                        "inputs": {"x": 0.5}, "targets": {"v2": 1.0}, "rule": "zil"})
>>> run = pcsim.simulate(scenario)
>>> bool(abs(run.updates["theta"] - pcsim.gradients(scenario)["theta"]) < 1e-15)
True
"""

from __future__ import annotations

from pcsim.errors import InputError, PcsimError, RunError
from pcsim.graph import Graph, level
from pcsim.rules import RULES, Rule
from pcsim.run.result import Run, open_run
from pcsim.scenario.reader import load, load_graph
from pcsim.scenario.scenario import Scenario
from pcsim.simulate import gradients, parameters, simulate, simulate_many
from pcsim.sweep import sweep

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "Graph",
    "InputError",
    "PcsimError",
    "Rule",
    "Run",
    "RunError",
    "Scenario",
    "gradients",
    "level",
    "load",
    "load_graph",
    "open_run",
    "parameters",
    "simulate",
    "simulate_many",
    "sweep",
]
