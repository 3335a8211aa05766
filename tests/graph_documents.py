"""The documents of ``graphs/`` as scenarios, with data drawn for every source and output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pcsim
from pcsim.graph.graph import number_format

if TYPE_CHECKING:
    from collections.abc import Mapping

GRAPHS, SCENARIOS = (Path(__file__).parents[1] / folder for folder in ("graphs", "scenarios"))
BATCH = 3

DIGITS = {"channels": 1, "size": 8, "kernel": 3, "units1": 9, "units2": 7}


def drawn_scenario(stem: str, args: Mapping[str, Any], **keys: Any) -> dict[str, Any]:
    """Return a scenario of a document with data drawn for every source and output."""
    path = GRAPHS / f"{stem}.yaml"
    graph, rng = pcsim.load_graph(path, args), np.random.default_rng(1)
    sources = [name for name, vertex in graph.vertices.items() if vertex.op.name == "input"]
    data = {name: _drawn(graph.vertices[name], rng) for name in (*sources, *graph.outputs)}
    return {
        "graph": {"file": str(path), "args": dict(args)},
        "inputs": {name: {"values": data[name]} for name in sources},
        "targets": {name: {"values": data[name]} for name in graph.outputs},
        "batch": BATCH, "rule": "zil", "level": "delay", "measure": ["divergence"],
        "record": [{"what": "prediction", "vertices": list(graph.outputs)}], **keys,
    }  # fmt: skip


def _drawn(vertex: Any, rng: np.random.Generator) -> np.ndarray:
    """Return data for a vertex: a mask is the same for all samples, tokens are whole numbers."""
    if number_format(vertex) == "whole":
        return rng.integers(0, 7, (BATCH, *vertex.shape))
    values = rng.standard_normal((BATCH, *vertex.shape))
    return np.broadcast_to(values[:1], values.shape) if vertex.name == "mask" else values


def norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array))
