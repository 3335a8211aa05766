"""Who talks to whom: graphs, their levels, and where they come from."""

from pcsim.graph.build import graph_from
from pcsim.graph.graph import Edge, Graph, Parameter, Vertex
from pcsim.graph.interop import from_networkx, to_networkx
from pcsim.graph.level_forms import Levelling, level, levelling
from pcsim.graph.levels import levels, light_cone, uneven_edges, vertex_levels
from pcsim.graph.synapse_table import synapses

__all__ = [
    "Edge",
    "Graph",
    "Levelling",
    "Parameter",
    "Vertex",
    "graph_from",
    "level",
    "levelling",
    "levels",
    "light_cone",
    "uneven_edges",
    "vertex_levels",
]

# Methods, but set here: these modules need the class, so the class cannot import them.
Graph.to_networkx = to_networkx
Graph.from_networkx = staticmethod(from_networkx)
Graph.synapses = synapses
