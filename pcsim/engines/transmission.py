"""The formulas of channels, one for all engines: what is drawn at a tick, what is sent, what a number becomes.

Random numbers are a function of the seed, the batch number, the edge (or the vertex) and the tick: no generator is
drawn from, so that nothing depends on the order in which an engine does things, and a run goes on from any tick with
the numbers that it would have had. A number is the 64-bit hash of its place in a sequence of its stream (SplitMix64,
Steele, Lea & Flood 2014).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcsim.arrays import Array, Namespace
    from pcsim.engines.base import Task
    from pcsim.graph.channels import Acts
    from pcsim.graph.crossings import Crossing

COUNTS = ("sent", "lost", "stamp")
"""What can be read of a crossing beside its messages, as ``value sent``: how often each unit has sent, how often that
was lost, and the tick at which what its receiver holds was sent (-1: before tick 0)."""

JITTER, LOSS, ACTS = range(3)
"""What a number is drawn for."""
DRAWS = 4
"""Numbers of a stream for each tick; one is to spare."""


def stream_of(task: Task, name: str, seed: int | None) -> np.uint64:
    """Return the stream of an edge or a vertex; ``seed`` takes the place of the run's."""
    text = f"{task.seed if seed is None else seed} {task.batch_number} {name}"
    return np.uint64(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little"))


def streams_of(task: Task, crossings: Iterable[Crossing]) -> np.ndarray:
    """Return the stream of each crossing, uint64."""
    return np.array([stream_of(task, one.stream, one.channel.seed) for one in crossings], np.uint64)


def drawn(streams: Any, what: int, tick: Any) -> np.ndarray:
    """Return a number in [0, 1) for each stream at a tick (or each at its own), float64."""
    place = np.maximum(np.asarray(tick, np.int64), 0).astype(np.uint64) * np.uint64(DRAWS) + np.uint64(what + 1)
    with np.errstate(over="ignore"):
        z: np.ndarray = np.asarray(streams, np.uint64) + place * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(11)
    return np.asarray(z, np.float64) * 2.0**-53


def extra_ticks(streams: Any, jitter: Any, tick: Any) -> np.ndarray:
    """Return the jitter of what is sent at a tick: 0 to ``jitter``, equally likely."""
    if not np.any(jitter):
        return np.zeros(np.shape(jitter), np.intp)
    return np.asarray(np.floor(drawn(streams, JITTER, tick) * (np.asarray(jitter) + 1)), np.intp)


def lost(streams: Any, loss: Any, tick: Any) -> np.ndarray:
    """Return whether what is sent at a tick is lost."""
    if not np.any(loss):
        return np.zeros(np.shape(loss), bool)
    return np.asarray(drawn(streams, LOSS, tick) < np.asarray(loss))


class Clocks:
    """When some vertices act."""

    def __init__(self, acts: Sequence[Acts]) -> None:
        self.acts = acts
        self.every, self.offset = (
            np.array([getattr(row, key) for row in acts], np.intp) for key in ("every", "offset")
        )
        self.chance = np.array([row.chance for row in acts])
        self.streams = np.zeros(len(acts), np.uint64)
        self.every_tick = np.ones(len(acts), bool)
        self.always = bool((self.every == 1).all() and (self.offset == 0).all() and (self.chance == 1).all())

    def begin(self, task: Task) -> None:
        """Take the random numbers of a run."""
        self.streams = np.array([stream_of(task, row.name, row.seed) for row in self.acts], np.uint64)

    def acting(self, tick: int) -> np.ndarray:
        """Return which of them act at a tick."""
        if self.always:
            return self.every_tick
        due = (tick >= self.offset) & ((tick - self.offset) % self.every == 0)
        return np.asarray(due & (drawn(self.streams, ACTS, tick) < self.chance))


def quantised(xp: Namespace, how: int | str | None, content: Array) -> Array:
    """Return what messages (rows, batch, *shape) become: multiples of a scale of their own for each row and sample.

    With n bits the scale is the greatest magnitude over ``2^(n-1) - 1``; ``ternary`` has one step to either side.
    ``sign`` keeps signs, times the mean magnitude. A zero stays zero.
    """
    if how is None:
        return content
    flat = content.reshape(*content.shape[:2], -1)
    size = abs(flat)
    if how == "sign":
        found = xp.sign(flat) * (size.sum(axis=-1, keepdims=True) / max(1, flat.shape[-1]))
    else:
        steps = content.dtype.type(1 if how == "ternary" else 2 ** (int(how) - 1) - 1)
        scale = size.max(axis=-1, keepdims=True) / steps
        found = xp.rint(flat / xp.where(scale > 0, scale, content.dtype.type(1))) * scale
    return found.reshape(content.shape)


def changed(content: Array, last: Array, threshold: Any) -> Array:
    """Return which units send: those that differ from what they sent last by more than a threshold, and NaN.

    A threshold of -1 is that of units that send at every tick.
    """
    return ~(abs(content - last) <= threshold)


EVERY_TICK = -1.0


def threshold_of(one: Crossing) -> float:
    """Return the threshold that ``changed`` takes for a crossing."""
    return EVERY_TICK if one.channel.threshold is None else one.channel.threshold
