"""Messages that cross channels, as arrays: those of one kind and shape together, and which vertices act."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.transmission import Clocks, changed, extra_ticks, lost, quantised, streams_of, threshold_of
from pcsim.program.program import delay_buffer

if TYPE_CHECKING:
    from pcsim.arrays import Array, Shape
    from pcsim.engines.array.memory import Memory
    from pcsim.engines.base import Task
    from pcsim.program.program import Channels, Program, ShapeGroup


class ChannelLines:
    """What crosses channels; arrays are (crossings, batch, *shape).

    Attributes
    ----------
    held, stamp : what each receiver holds, and the tick at which it was sent; -1 before anything has come
    last : what each unit has sent last
    sent, lost : how often each unit has sent, and how often that was lost
    content, sends : (messages under way, batch, *shape), what was sent, and which units sent
    """

    def __init__(self, channels: Channels, shape: Shape, task: Task, memory: Memory) -> None:
        self.crossings, self.memory, self.xp = channels.crossings, memory, memory.xp
        self.rows = memory.at(channels.rows)
        self.delay = np.array([one.delay for one in self.crossings], np.intp)
        self.jitter = np.array([one.channel.jitter for one in self.crossings], np.intp)
        self.chance = np.array([one.channel.loss for one in self.crossings])
        self.buffer = delay_buffer(self.delay + self.jitter + 1)
        self.clocks = Clocks([one.acts for one in self.crossings])
        thresholds = np.array([threshold_of(one) for one in self.crossings], task.dtype)
        self.threshold = self.xp.asarray(thresholds.reshape(-1, *[1] * (1 + len(shape))))
        self.formats = self._formats()
        whole = (len(self.crossings), task.batch, *shape)
        flying = (self.buffer.slots, task.batch, *shape)
        self.held, self.last = (self.xp.zeros(whole, task.dtype) for _ in range(2))
        self.stamp, self.sent, self.lost = (self.xp.zeros(whole, np.int64) for _ in range(3))
        self.content, self.sends = self.xp.zeros(flying, task.dtype), self.xp.zeros(flying, bool)
        self.begin(task)

    def _formats(self) -> list[tuple[int | str, np.ndarray]]:
        """Return how some crossings quantise, and which."""
        found: dict[int | str, list[int]] = defaultdict(list)
        for place, one in enumerate(self.crossings):
            if one.channel.quantise is not None:
                found[one.channel.quantise].append(place)
        return [(how, np.array(places, np.intp)) for how, places in found.items()]

    def begin(self, task: Task) -> None:
        """Forget a run, and take the random numbers of another."""
        for array in (self.held, self.last, self.sent, self.lost, self.content, self.sends):
            array[...] = 0
        self.stamp[...] = -1
        self.clocks.begin(task)
        self.streams = streams_of(task, self.crossings)

    def carry(self, tick: int, messages: Array) -> Array:
        """Send messages at a tick, and return what receivers hold once what is due has come."""
        self._send(tick, messages)
        for more in range(int(self.jitter.max(initial=0)), -1, -1):  # the oldest first: the newest stays
            self._arrive(tick, more)
        return self.held

    def _send(self, tick: int, messages: Array) -> None:
        at = self.memory.at
        for how, places in self.formats:
            messages[at(places)] = quantised(self.xp, how, messages[at(places)])
        sends = changed(messages, self.last, self.threshold)
        if not (acting := self.clocks.acting(tick)).all():
            sends[at(np.nonzero(~acting)[0])] = False
        self.last = self.xp.where(sends, messages, self.last)
        self.sent += sends
        if (missing := np.nonzero(lost(self.streams, self.chance, tick))[0]).size:
            self.lost[at(missing)] += sends[at(missing)]
        here = at(self.buffer.at(tick))
        self.content[here], self.sends[here] = messages, sends

    def _arrive(self, tick: int, more: int) -> None:
        """Take what was sent so many ticks before the latest that can be due."""
        when = tick - self.delay - more
        arrives = (when >= 0) & (extra_ticks(self.streams, self.jitter, when) == more)
        lines = np.nonzero(arrives & ~lost(self.streams, self.chance, when))[0]
        if not len(lines):
            return
        here, at = self.memory.at(lines), self.memory.at(self.buffer.at(tick, lines, self.delay[lines] + more))
        sent_at = self.xp.asarray(when[lines]).reshape(-1, *[1] * (self.held.ndim - 1))
        new = self.sends[at] & (sent_at > self.stamp[here])
        self.held[here] = self.xp.where(new, self.content[at], self.held[here])
        self.stamp[here] = self.xp.where(new, sent_at, self.stamp[here])

    def saved(self, place: int, tick: int) -> np.ndarray:
        """Return a crossing before a tick, (arrays, batch, *shape), as ``State`` has it."""
        one, host, dtype = self.crossings[place], self.memory.host, self.held.dtype
        facts = [host(array[place]) for array in (self.held, self.stamp, self.last, self.sent, self.lost)]
        when = np.arange(tick - one.ticks, tick)
        at = self.buffer.offset[place] + when % self.buffer.length[place]
        alive = (when >= 0) & self._to_come(place, when, tick)
        mask = host(self.sends[self.memory.at(at)]) & alive.reshape(-1, *[1] * (self.held.ndim - 1))
        content = np.where(mask, host(self.content[self.memory.at(at)]), 0)
        return np.concatenate([np.stack(facts).astype(dtype), content, mask.astype(dtype)])

    def _to_come(self, place: int, when: np.ndarray, tick: int) -> np.ndarray:
        """Return whether what was sent at some ticks is still to arrive."""
        stream = self.streams[place]
        due = when + self.delay[place] + extra_ticks(stream, self.jitter[place], when)
        return np.asarray((due >= tick) & ~lost(stream, self.chance[place], when))

    def put(self, place: int, tick: int, saved: np.ndarray) -> None:
        """Put a crossing back as ``saved`` returned it."""
        ticks = self.crossings[place].ticks
        parts = (self.held, self.stamp, self.last, self.sent, self.lost)
        for array, row in zip(parts, saved, strict=False):
            array[place] = self.xp.asarray(row.astype(array.dtype))
        when = np.arange(tick - ticks, tick)
        at = self.memory.at(self.buffer.offset[place] + when % self.buffer.length[place])
        content, mask = saved[len(parts) : len(parts) + ticks], saved[len(parts) + ticks :]
        self.content[at], self.sends[at] = self.xp.asarray(content), self.xp.asarray(mask != 0)


def _clocks(program: Program, group: ShapeGroup) -> tuple[np.ndarray, Clocks] | None:
    """Return the free rows of a group that do not act at every tick, and when they do; None for none."""
    rows = ((row, program.graph.vertices[name].acts) for row, name in enumerate(group.names[: group.free]))
    found = [(row, acts) for row, acts in rows if acts is not None]
    return (np.array([row for row, _ in found], np.intp), Clocks([acts for _, acts in found])) if found else None


class Inactive:
    """Which vertices do not act at a tick, by shape."""

    def __init__(self, program: Program, memory: Memory) -> None:
        self.memory = memory
        self.free = {shape: found for shape, group in program.groups.items() if (found := _clocks(program, group))}

    def begin(self, task: Task) -> None:
        """Take the random numbers of a run."""
        for _, clocks in self.free.values():
            clocks.begin(task)

    def rows(self, tick: int) -> dict[Shape, np.ndarray]:
        """Return the rows of the free vertices that stay as they are."""
        found = {shape: rows[~clocks.acting(tick)] for shape, (rows, clocks) in self.free.items()}
        return {shape: self.memory.at(rows) for shape, rows in found.items() if len(rows)}
