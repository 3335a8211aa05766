"""A model made elsewhere: its graph, its weights, and what its maker calls them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pcsim.errors import clipped
from pcsim.graph.build import graph_from
from pcsim.graph.names import without_templates
from pcsim.models.document import started, write_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from pathlib import Path

    import numpy as np

    from pcsim.arrays import Shape
    from pcsim.graph.graph import Graph

    Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True, eq=False)
class Model:
    """A graph with its weights, made of a model of another tool. It may stand for the graph of a scenario.

    >>> from pcsim.models.builder import Builder
    >>> builder = Builder("two numbers")
    >>> x = builder.input("x", (2,))
    >>> model = builder.model({"y": builder.vertex("tanh", [x], name="y")})
    >>> model
    Model('two numbers', inputs x (2,), outputs y, 2 vertices, 0 parameters of 0 numbers)

    Attributes
    ----------
    plain : the graph document without templates; its parameters name no file
    parameters : {name: (*shape)}, read-only: weights by their maker's names, and what vertices keep from batch to
        batch (running statistics) as ``VERTEX.NAME``
    inputs : {vertex: shape} of what is fed, in the maker's order, without the batch
    outputs : the vertices that are read, in the maker's order
    """

    plain: Mapping[str, Any] = field(repr=False)
    parameters: Arrays
    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name} {shape}" for name, shape in self.inputs.items())
        numbers = sum(array.size for array in self.parameters.values())
        return (
            f"Model({self.title!r}, inputs {clipped(inputs)}, outputs {clipped(', '.join(self.outputs))}, "
            f"{len(self.plain['vertices'])} vertices, {len(self.parameters)} parameters of {numbers:,} numbers)"
        )

    @property
    def title(self) -> str:
        """A name for people."""
        return str(self.plain.get("title", ""))

    @property
    def document(self) -> dict[str, Any]:
        """The graph document, as ``pcsim.load_graph`` takes it; parameters start at the model's values."""
        return without_templates(self._with_values)

    @cached_property
    def graph(self) -> Graph:
        """The graph. Outputs that feed others are observed at ``NAME.observed``."""
        return graph_from(self._with_values)

    def save(self, path: str | PathLike[str]) -> list[Path]:
        """Write the graph document, such as ``graph.yaml``, and the parameters beside it as ``graph.npz``."""
        return write_model(self, path)

    @property
    def _with_values(self) -> dict[str, Any]:
        return started(self.plain, {name: {"values": array} for name, array in self.parameters.items()})
