"""What crossed channels in a run: numbers sent, lost, and their bytes, beside what a run without channels sends."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.graph.crossings import KINDS, crossings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.engines.base import Session, Task
    from pcsim.graph.crossings import Crossing, Kind


def channel_traffic(task: Task, session: Session, ticks: int) -> dict[str, dict[str, float]]:
    """Return what crossed edges between vertices that have errors, by direction.

    Returns
    -------
    dict
        ``sent``: messages of a number each (one unit, one sample, one tick); ``lost`` of these; ``dense``: as many as
        are sent where every unit sends at every tick; ``bytes`` and ``dense_bytes`` of their numbers. The scale of a
        quantised message, and addresses, are not counted.
    """
    return {kind: _of_kind(task, session, ticks, kind) for kind in KINDS}


def sent_share(traffic: Mapping[str, Mapping[str, float]]) -> float:
    """Return the share of all numbers that were sent, in both directions."""
    dense = sum(found["dense"] for found in traffic.values())
    return sum(found["sent"] for found in traffic.values()) / dense if dense else 1.0


def _of_kind(task: Task, session: Session, ticks: int, kind: Kind) -> dict[str, float]:
    found: dict[str, float] = dict.fromkeys(("sent", "lost", "dense", "bytes", "dense_bytes"), 0)
    known = crossings(task.graph)
    for edge in task.graph.edges:
        vertex = task.graph.vertices[edge.pre]
        if vertex.op.role != "function":
            continue
        dense = sent = task.batch * prod(vertex.shape) * ticks
        one = known.get((edge.name, kind))
        if one is not None:
            sent, lost = (int(session.reader(f"{kind} {what}", [edge.name])().sum()) for what in ("sent", "lost"))
            found["lost"] += lost
        found["sent"] += sent
        found["dense"] += dense
        found["bytes"] += sent * bits_of(task, one) / 8
        found["dense_bytes"] += dense * task.dtype.itemsize
    return found


def bits_of(task: Task, one: Crossing | None) -> int:
    """Return the bits of a number that is sent."""
    how = None if one is None else one.channel.quantise
    if how is None:
        return 8 * task.dtype.itemsize
    return {"sign": 1, "ternary": 2}[how] if isinstance(how, str) else how
