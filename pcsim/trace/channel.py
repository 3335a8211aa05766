"""What is recorded: one channel is one variable of a trace, read at every so many ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import Any

import numpy as np

from pcsim.errors import wrong

Coordinates = Mapping[str, tuple[str, np.ndarray]]
"""Further coordinates of a node: {name: (dimension, values along it)}."""

NONE: Coordinates = MappingProxyType({})


Static = tuple[str, str, tuple[str, ...], "np.ndarray", tuple[str, ...]]
"""An array of a trace that has no ticks: path, variable, dims, array, names along its first dimension."""


@dataclass(frozen=True)
class Channel:
    """One variable of a trace, and how to read it.

    Attributes
    ----------
    path : the node that holds it, such as ``error/16``; channels of a node share their ticks and names
    variable : its name in the node
    dims : its dimensions after ``tick``, such as ``("vertex", "batch", "axis_0")``
    shape : the shape of one record, along ``dims``
    dtype : what is stored; what is read is converted to it
    read : returns one record; called at each recorded tick, and copied at once
    names : labels along ``dims[0]``, kept as the coordinate of that name
    coords : further coordinates, {name: (dimension, values)}
    every : recorded at the ticks that this divides
    """

    path: str
    variable: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]
    names: tuple[str, ...] = ()
    coords: Coordinates = field(default_factory=lambda: NONE)
    every: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of one record."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def records(self, ticks: int) -> int:
        """Return how many of the ticks 0 .. ticks - 1 are recorded."""
        return -(-ticks // self.every)


def shape_key(shape: Sequence[int]) -> str:
    """Return the name of the node that stacks everything of a shape.

    >>> shape_key(()), shape_key((16,)), shape_key((4, 5))
    ('scalar', '16', '4x5')
    """
    return "x".join(map(str, shape)) or "scalar"


def forecast(channels: Iterable[Channel], ticks: int) -> dict[str, int]:
    """Return the bytes that so many ticks take, before compression: by path, and as ``total``."""
    sizes: dict[str, int] = {}
    for channel in channels:
        sizes[channel.path] = sizes.get(channel.path, 0) + channel.nbytes * channel.records(ticks)
    return {**sizes, "total": sum(sizes.values())}


def by_node(channels: Iterable[Channel]) -> dict[str, list[Channel]]:
    """Return {path: its channels}; raises InputError where channels of a node do not go together."""
    order = sorted(channels, key=lambda channel: channel.path)
    nodes = {path: list(group) for path, group in groupby(order, key=lambda channel: channel.path)}
    for path, group in nodes.items():
        _agree(path, group)
    return nodes


def _agree(path: str, group: list[Channel]) -> None:
    everies = sorted({channel.every for channel in group})
    if everies[0] < 1 or len(everies) > 1:
        given = " and ".join(map(str, everies))
        raise wrong("record", f"{path} is recorded every {given} ticks; expected one whole number from 1 on")
    if len({channel.variable for channel in group}) < len(group):
        raise wrong("record", f"{path} is recorded twice; give each quantity of a vertex or an edge once")
    labels: dict[str, tuple[str, ...]] = {}
    for channel in group:
        if channel.names and labels.setdefault(channel.dims[0], channel.names) != channel.names:
            raise wrong("record", f"{path} is recorded for two lists of names along {channel.dims[0]}; expected one")
