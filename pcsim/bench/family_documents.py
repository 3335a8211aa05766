"""Graph documents by size, for the benchmark families: random ones are drawn from a fixed seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Document = dict[str, Any]
Sizes = Mapping[str, int]


def chain(sizes: Sizes) -> Document:
    """Return a chain of ``depth`` layers of ``width`` units; ``delay`` ticks over each edge between layers."""
    return _layers([sizes["width"]] * (sizes["depth"] + 1), sizes.get("delay", 0))


def layered(sizes: Sizes) -> Document:
    """Return a net of 784 inputs, 32 and 16 hidden units and 10 outputs, ``times`` as wide."""
    return _layers(_widths(sizes), 0)


def units(sizes: Sizes) -> Document:
    """Return the same net with a scalar vertex for each of its units, and an edge for each of its weights."""
    vertices: Document = {}
    before: list[str] = []
    for number, width in enumerate(_widths(sizes)):
        here = [f"u{number}_{place}" for place in range(width)]
        source = {"op": "input", "shape": []}
        unit = {"op": "weighted_sum", "activation": "tanh", "inputs": before} if number else source
        vertices |= {name: dict(unit) for name in here}
        before = here
    return {"vertices": vertices, "outputs": before}


def _widths(sizes: Sizes) -> list[int]:
    return [width * sizes.get("times", 1) for width in (784, 32, 16, 10)]


def _layers(widths: list[int], delay: int) -> Document:
    vertices: Document = {"x": {"op": "input", "shape": [widths[0]]}}
    for number, width in enumerate(widths[1:], 1):
        pre = "x" if number == 1 else {"from": f"h{number - 1}", "delay": delay}
        vertices[f"h{number}"] = {"op": "affine", "units": width, "activation": "tanh", "inputs": [pre]}
    return {"vertices": vertices, "outputs": [f"h{len(widths) - 1}"]}


GATES = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}
"""Input gate, forget gate, candidate, output gate, in PyTorch's order."""


def long_short_term_memory(sizes: Sizes) -> Document:
    """Return an LSTM unrolled over ``steps``, each gate f(W x + b + U h + c), and an affine read-out at the end."""
    steps, inputs, units = sizes["steps"], sizes["inputs"], sizes["units"]
    init = {"uniform": [-(units**-0.5), units**-0.5]}
    shapes = {"W": [units, inputs], "b": [units], "U": [units, units], "c": [units]}
    zero = {"op": "constant", "value": 0.0, "shape": [units]}
    vertices: Document = {"h0": dict(zero), "c0": dict(zero)}
    for step in range(1, steps + 1):
        vertices |= {f"x{step}": {"op": "input", "shape": [inputs]}, **_cell(step, units)}
    vertices["y"] = {"op": "affine", "units": units, "inputs": [f"h{steps}"]}
    named = {f"{part}_{gate}": {"shape": shape, "init": init} for gate in GATES for part, shape in shapes.items()}
    return {"parameters": named, "vertices": vertices, "outputs": ["y"]}


def _cell(step: int, units: int) -> Document:
    """Return the vertices of one step: c = f c' + i g, h = o tanh(c)."""
    vertices: Document = {}
    for gate, activation in GATES.items():
        shared = ({"weight": f"W_{gate}", "bias": f"b_{gate}"}, {"weight": f"U_{gate}", "bias": f"c_{gate}"})
        for part, pre, params in zip(("wx", "uh"), (f"x{step}", f"h{step - 1}"), shared, strict=True):
            vertices[f"{part}_{gate}{step}"] = {"op": "affine", "units": units, "inputs": [pre], "params": params}
        vertices[f"s_{gate}{step}"] = {"op": "add", "inputs": [f"wx_{gate}{step}", f"uh_{gate}{step}"]}
        vertices[f"{gate}{step}"] = {"op": activation, "inputs": [f"s_{gate}{step}"]}
    vertices[f"kept{step}"] = {"op": "multiply", "inputs": [f"f{step}", f"c{step - 1}"]}
    vertices[f"new{step}"] = {"op": "multiply", "inputs": [f"i{step}", f"g{step}"]}
    vertices[f"c{step}"] = {"op": "add", "inputs": [f"kept{step}", f"new{step}"]}
    vertices[f"t{step}"] = {"op": "tanh", "inputs": [f"c{step}"]}
    vertices[f"h{step}"] = {"op": "multiply", "inputs": [f"o{step}", f"t{step}"]}
    return vertices


BOUNDED = ("tanh", "sigmoid", "sin", "cos")
"""Ops whose values stay within [-1, 1]: what others multiply and add."""
SCALAR_UNARY = (*BOUNDED, "softplus", "negate")
BINARY = ("add", "subtract", "multiply")
SCALAR_KINDS = (*SCALAR_UNARY, "square", *BINARY)
"""The ten kinds of the scalar graph."""
REACH = 100
"""How far back an input is sought, in vertices."""


@dataclass
class _Draft:
    """A random graph in the making: no value grows beyond 2, for what is added or multiplied is bounded."""

    rng: np.random.Generator
    most_delay: int = 0
    vertices: Document = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    bounded: list[str] = field(default_factory=list)
    fed: set[str] = field(default_factory=set)

    def source(self, op: str, shape: list[int]) -> None:
        """Add a source or a parameter vertex."""
        name = f"{op}{len(self.vertices)}"
        self.vertices[name] = {"op": op, "shape": shape}
        if op == "parameter":
            self.vertices[name]["init"] = {"uniform": [-1.0, 1.0]}
        self.names.append(name)
        self.bounded.append(name)

    def add(self, op: str, count: int, **attributes: Any) -> None:
        """Add a vertex with so many inputs."""
        names = self.names if op in (*SCALAR_UNARY, "affine") else self.bounded
        name = f"v{len(self.vertices)}"
        pres = [self._pick(names[-REACH:]) for _ in range(count)]
        self.vertices[name] = {"op": op, "inputs": [self._edge(pre) for pre in pres], **attributes}
        self.fed.update(pres)
        self.names.append(name)
        if op in (*BOUNDED, "affine"):
            self.bounded.append(name)

    def _pick(self, near: list[str]) -> str:
        """Return one of these, mostly one that feeds nothing yet: few vertices are outputs."""
        fresh = [name for name in near if name not in self.fed] if self.rng.random() < 0.7 else []
        found = fresh or near
        return found[int(self.rng.integers(len(found)))]

    def _edge(self, pre: str) -> Any:
        if not self.most_delay or self.vertices[pre]["op"] == "parameter":
            return pre
        return {"from": pre, "delay": int(self.rng.integers(0, self.most_delay + 1))}

    def document(self) -> Document:
        """Return what was drawn; what feeds nothing is an output, and sources that feed nothing go."""
        sources = ("input", "parameter")
        kept = {n: entry for n, entry in self.vertices.items() if entry["op"] not in sources or n in self.fed}
        outputs = [name for name, entry in kept.items() if name not in self.fed and entry["op"] not in sources]
        return {"vertices": kept, "outputs": outputs}


def tensor_dag(sizes: Sizes) -> Document:
    """Return a random graph of ``vertices`` vectors of ``width``, a third of them layers.

    Each edge takes 0 to ``most_delay`` ticks.
    """
    draft = _Draft(np.random.default_rng(sizes["vertices"]), sizes.get("most_delay", 0))
    for _ in range(4):
        draft.source("input", [sizes["width"]])
    layer = {"units": sizes["width"], "activation": "tanh"}
    for _ in range(sizes["vertices"]):
        kind = draft.rng.integers(6)
        if kind < 2:
            draft.add("affine", 1, **layer)
        else:
            ops = BOUNDED if kind < 4 else BINARY
            op = str(draft.rng.choice(ops))
            draft.add(op, 2 if op in BINARY else 1)
    return draft.document()


def scalar_dag(sizes: Sizes) -> Document:
    """Return a random graph of ``vertices`` scalars of ten kinds; a tenth as many inputs and parameters feed it."""
    draft = _Draft(np.random.default_rng(sizes["vertices"]))
    for number in range(max(2, sizes["vertices"] // 10)):
        draft.source("parameter" if number % 2 else "input", [])
    for _ in range(sizes["vertices"]):
        op = str(draft.rng.choice(SCALAR_KINDS))
        draft.add(op, 2 if op in BINARY else 1)
    return draft.document()


def population(sizes: Sizes) -> Document:
    """Return two populations of ``neurons`` each: tanh of the source, and a sparse projection of it.

    There are ``synapses`` in all, between pairs drawn at random, with delays of 0 to ``most_delay`` ticks.
    """
    delay: Any = {"uniform": [0, sizes["most_delay"]]} if sizes["most_delay"] else 0
    synapses = {"rule": "fixed_total_number", "number": sizes["synapses"], "multiple": True}
    projection = {"units": sizes["neurons"], "activation": "tanh", "bias": False, "connect": synapses, "delays": delay}
    vertices: Document = {
        "x": {"op": "input", "shape": [sizes["neurons"]]},
        "p": {"op": "tanh", "inputs": ["x"]},
        "q": {"op": "projection", "inputs": ["p"], **projection},
    }
    return {"vertices": vertices, "outputs": ["q"]}
