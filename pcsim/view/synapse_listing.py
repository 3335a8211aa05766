"""The synapses of a population as text: CSV for tables, plain data for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents import read
from pcsim.errors import wrong
from pcsim.graph.synapse_table import populations
from pcsim.scenario.document_kind import kind_of
from pcsim.scenario.graph_source import DocumentFile
from pcsim.scenario.reader import load, load_graph
from pcsim.simulate import synapses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import xarray as xr

    from pcsim.graph import Graph
    from pcsim.scenario.scenario import Scenario

ROWS = 10_000
"""Rows that are made into text at a time."""


def synapses_of(file: Path, vertex: str | None, overrides: Mapping[str, Any]) -> xr.Dataset:
    """Return the synapses of a population of a graph or a scenario; by default its only one."""
    source: Graph | Scenario
    document = DocumentFile(file, read(file))
    if kind_of(document.node) == "graph":
        if overrides:
            raise wrong((), f"--set changes a scenario, and {file} is a graph")
        source = graph = load_graph(document)
    else:
        source = scenario = load(document, overrides)
        graph = scenario.graph
    there = populations(graph)
    if vertex is None and len(there) != 1:
        have = f"which one: {', '.join(there)}" if there else "it has none"
        raise wrong("vertex", f"--vertex names a population of {file}; {have}")
    return synapses(source, there[0] if vertex is None else vertex)


def csv_of(table: xr.Dataset) -> Iterator[str]:
    """Yield a table as CSV, some rows at a time; numbers are written so that they come back exactly."""
    columns = [table[name].to_numpy() for name in table.data_vars]
    yield ",".join(map(str, table.data_vars)) + "\n"
    for start in range(0, table.sizes["synapse"], ROWS):
        texts = [[str(number) for number in column[start : start + ROWS].tolist()] for column in columns]
        yield "".join(",".join(row) + "\n" for row in zip(*texts, strict=True))


def plain_of(table: xr.Dataset) -> dict[str, Any]:
    """Return a table as plain data: its population, the edges that carry the synapses, and its columns."""
    columns = {str(name): np.asarray(table[name]).tolist() for name in table.data_vars}
    return {**table.attrs, "synapses": table.sizes["synapse"], "columns": columns}
