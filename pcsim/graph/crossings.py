"""Which messages of a graph cross channels, how late they may be, and graphs with other channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pcsim.errors import InputError, Problem, nearest
from pcsim.graph.channels import Acts, Channel
from pcsim.graph.graph import kept
from pcsim.graph.names import chosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.graph.graph import Edge, Graph

Kind = Literal["value", "error"]
KINDS: tuple[Kind, Kind] = ("value", "error")

PLAIN, ALWAYS = Channel(), Acts()

LEAST_CHANCE = 1e-6
"""What chance keeps back for longer than this often is left out of account."""
MOST_TRIES = 10_000


@dataclass(frozen=True)
class Crossing:
    """One kind of message over one edge that is not simply sent at every tick and delivered."""

    edge: Edge
    kind: Kind
    channel: Channel
    acts: Acts
    """When the sender acts."""

    @property
    def delay(self) -> int:
        """Ticks that a message travels at least."""
        return self.edge.value_delay if self.kind == "value" else self.edge.error_delay

    @property
    def ticks(self) -> int:
        """Ticks for which a message may be under way, the one at which it is sent left out."""
        return self.delay + self.channel.jitter

    @property
    def arrays(self) -> int:
        """Arrays of the size of a message that an engine keeps."""
        return FACTS + 2 * self.ticks

    @property
    def stream(self) -> str:
        """What names its random numbers: the place of the edge in the document, and the kind of message."""
        post, slot = self.edge.key
        return f"{post}[{slot}] {self.kind}"


FACTS = 5
"""Arrays beside what is under way: held, when that was sent, what was sent last, and how often sent and lost."""


@kept
def crossings(graph: Graph) -> Mapping[tuple[str, Kind], Crossing]:
    """Return {(edge, kind of message): how it crosses}, of those that are not simply delivered.

    What a source holds never changes, and what a parameter receives waits: neither crosses a channel.
    """
    if not graph.has_channels:
        return {}
    found = ((edge.name, kind, _crossing(graph, edge, kind)) for edge in graph.edges for kind in KINDS)
    return {(name, kind): each for name, kind, each in found if each is not None}


def _crossing(graph: Graph, edge: Edge, kind: Kind) -> Crossing | None:
    channel = edge.value_channel if kind == "value" else edge.error_channel
    acts = graph.vertices[edge.pre if kind == "value" else edge.post].acts
    if (channel is None and acts is None) or graph.vertices[edge.pre].op.role != "function":
        return None
    return Crossing(edge, kind, channel or PLAIN, acts or ALWAYS)


def latest(graph: Graph, edge: Edge, kind: Kind) -> int:
    """Return the ticks after which what an edge carries is there, but for cases rarer than one in a million."""
    one = crossings(graph).get((edge.name, kind))
    if one is None:
        return edge.value_delay if kind == "value" else edge.error_delay
    waits = one.acts.every * (1 + _in_a_row(1 - one.acts.chance)) - 1
    return one.ticks + _in_a_row(one.channel.loss) + waits


def _in_a_row(chance: float) -> int:
    """Return how often something may happen in a row."""
    count, left = 0, chance
    while left > LEAST_CHANCE and count < MOST_TRIES:
        count, left = count + 1, left * chance
    return count


def why_channels(graph: Graph) -> str:
    """Return in a few words that messages are not simply delivered; empty where they are."""
    found = next(iter(crossings(graph)), None)
    if found is None:
        return "a vertex does not act at every tick" if graph.has_channels else ""
    return f"what {found[0]} carries crosses a channel, or comes from a vertex that does not act at every tick"


def with_channels(
    graph: Graph, channels: Mapping[str, tuple[Channel | None, Channel | None]], acts: Mapping[str, Acts | None]
) -> Graph:
    """Return a graph with channels on edges, and vertices that do not act at every tick, both by name or pattern.

    Parameters
    ----------
    channels : {edge such as ``h1->h2``, or a pattern such as ``h*->*``: (channel of values, of errors)}
    acts : {vertex or pattern: when it acts}

    What a later entry says takes the place of what an earlier one, or the graph, has said. Raises InputError for what
    matches nothing.
    """
    edges = {edge.name: edge for edge in graph.edges if graph.vertices[edge.pre].op.role == "function"}
    free = list(graph.active)
    vertices, problems = dict(graph.vertices), []
    for pattern, (value, error) in channels.items():
        found = chosen(pattern, edges)
        problems += _unmatched(("channels", pattern), found, "edge from a vertex that has errors", edges)
        edges |= {name: replace(edges[name], value_channel=value, error_channel=error) for name in found}
    for pattern, when in acts.items():
        found = chosen(pattern, free)
        problems += _unmatched(("acts", pattern), found, "vertex that has errors", free)
        vertices |= {name: replace(vertices[name], acts=when and replace(when, name=name)) for name in found}
    if problems:
        raise InputError(problems)
    return replace(graph, vertices=vertices, edges=tuple(edges.get(edge.name, edge) for edge in graph.edges))


def _unmatched(path: tuple[str, str], found: list[str], what: str, known: Iterable[str]) -> list[Problem]:
    return [] if found else [Problem(path, f"no {what} is named {path[1]!r}" + nearest(path[1], known))]
