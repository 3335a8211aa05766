"""What can be read from an array engine between ``send`` and ``move``: units by vertex, messages by edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pcsim.engines.array.rows import indices, rows_in
from pcsim.program.program import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.channel_lines import ChannelLines
    from pcsim.engines.array.units import Units
    from pcsim.engines.base import Read
    from pcsim.graph.crossings import Kind
    from pcsim.graph.graph import Edge
    from pcsim.program.program import DelayBuffer, Program, Rows


@dataclass(frozen=True)
class Readers:
    """Makes readers; what they return is on the host, and a view where the rows are consecutive."""

    program: Program
    units: Mapping[Shape, Units]
    histories: Mapping[Shape, Array]
    messages: Mapping[Shape, Array]
    channels: Mapping[tuple[Kind, Shape], ChannelLines]
    host: Callable[[Array], np.ndarray]
    clock: Callable[[], int]
    at: Callable[[Rows], Any]
    """Brings rows to where the arrays are."""
    delay_buffers: Mapping[Shape, DelayBuffer]
    """Of the histories, with rows that index them."""

    def of_vertices(self, quantity: str, names: Sequence[str]) -> Read:
        """Read ``value``, ``prediction``, ``error``, ``credit`` or ``multiplier`` of vertices of one shape.

        They are all sources or none.
        """
        units = self.units[self.program.location[names[0]][0]]
        wanted, host = rows_in(self.program, names), self.host
        source = bool((indices(wanted) >= units.group.active).any())
        rows = self.at(wanted)
        if quantity == "error":
            return lambda: host(units.error[rows])
        if quantity == "credit":
            return lambda: host(units.weighted(rows))
        if quantity == "multiplier":
            return lambda: host(units.error[rows] * 0 if units.multiplier is None else units.multiplier[rows])
        if source or (quantity == "prediction" and units.shift is None):
            return lambda: host(units.start[rows])
        moved = units.deviation if quantity == "value" else units.shift
        return lambda: host(units.start[rows] + moved[rows])

    def of_errors(self, edges: Sequence[Edge]) -> Read:
        """Read the error messages that are due, over edges from vertices of one shape."""
        shape = self.program.location[edges[0].pre][0]
        places = {edge.name: number for number, edge in enumerate(self.program.inboxes[shape].edges)}
        index = self.at(rows_of(np.array([places[edge.name] for edge in edges], np.intp)))
        return lambda: self.host(self.messages[shape][index])

    def of_values(self, edges: Sequence[Edge]) -> Read:
        """Read the values that arrive, over edges from vertices of one shape: now, or as they were when sent.

        A vertex that is frozen while it predicts has sent before that.
        """
        shape = self.program.location[edges[0].pre][0]
        units, rows = self.units[shape], indices(rows_in(self.program, [edge.pre for edge in edges]))
        active = np.nonzero(rows < units.group.active)[0]
        late, crossing = self._late(shape, edges, rows), self._crossing(shape, edges)
        every, moving, moved = self.at(rows), self.at(active), self.at(rows[active])

        def read() -> np.ndarray:
            values: Any = units.value[every]
            if units.shift is None:
                values[moving] += units.deviation[moved]
            if late is not None:
                positions, sources, at = late
                values[positions] = units.start[sources] + self.histories[shape][at(self.clock())]
            if crossing is not None:
                positions, lines = crossing
                channels = self.channels["value", shape]
                values[positions] = units.start[channels.rows[lines]] + channels.held[lines]
            return self.host(values)

        return read

    def of_counts(self, quantity: str, edges: Sequence[Edge]) -> Read:
        """Read one of ``COUNTS`` of edges that are crossings, such as ``value sent``."""
        kind, _, what = quantity.partition(" ")
        shape = self.program.location[edges[0].pre][0]
        found = self.channels[cast("Kind", kind), shape]
        places = {one.edge.name: place for place, one in enumerate(found.crossings)}
        index = self.at(np.array([places[edge.name] for edge in edges], np.intp))
        return lambda: self.host(getattr(found, what)[index])

    def _crossing(self, shape: Shape, edges: Sequence[Edge]) -> tuple[Any, Any] | None:
        """Return the places of edges whose values cross channels, and which crossings these are."""
        found = self.program.channels.get(("value", shape))
        if found is None:
            return None
        lines = {one.edge.name: line for line, one in enumerate(found.crossings)}
        places = [place for place, edge in enumerate(edges) if edge.name in lines]
        index = np.array([lines[edges[place].name] for place in places], np.intp)
        return self.at(np.array(places, np.intp)), self.at(index)

    def _late(self, shape: Shape, edges: Sequence[Edge], rows: np.ndarray) -> Any:
        """Return the places of edges that delay, and which rows of the history hold what arrives at a tick."""
        history = self.program.histories.get(shape)
        kept = {int(row): line for line, row in enumerate(history.rows)} if history else {}
        found = [place for place, edge in enumerate(edges) if edge.value_delay and int(rows[place]) in kept]
        if history is None or not found:
            return None
        positions = np.array(found, np.intp)
        lines = self.at(np.array([kept[int(row)] for row in rows[positions]], np.intp))
        delays = self.at(np.array([edges[place].value_delay for place in found], np.intp))
        return (
            self.at(positions),
            self.at(rows[positions]),
            lambda tick: self.delay_buffers[shape].at(tick, lines, delays),
        )
