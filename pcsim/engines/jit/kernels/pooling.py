"""Maxima and averages of windows, line by line; an image has one channel."""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.common import (
    INPUT,
    PREDICT,
    SAME,
    SEND,
    SWEEP,
    changes,
    clear,
    input_of,
    message_of,
    part_at,
    slot_at,
    step_at,
    take_prediction,
    weigh,
)
from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.records import Record, address, location, whole
from pcsim.engines.jit.kernels.sliding import line_start, reach, windows_at
from pcsim.engines.jit.kernels.vectors import choose

POOL = Record(
    "pooling",
    images=whole("images of a sample"),
    windows=location("how windows slide"),
    share=address("what each window's sum is multiplied by; nowhere for a maximum"),
)

pool_at = POOL.one()


@jit
def pool(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run vertices that take the maximum, or the average, of windows; a maximum keeps where it lies."""
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = pool_at(table, step.own), slot_at(table, step.slots, 0)
    samples, near = mine.high - mine.low, mine.scratch
    images, begin = samples * own.images, mine.low * slot.per_sample
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        saved = step.saved + row * step.saved_stride + mine.low * step.size
        if mode & (SWEEP | PREDICT):
            if change == INPUT:
                x = input_of(table, slot, row, mode) + begin
                if own.share >= 0:
                    averages(memory, table, step.own, x, images, near)
                else:
                    maxima(memory, table, step.own, x, images, near, saved)
            take_prediction(memory, table, at, row, part, mode, near, change == INPUT)
        message = message_of(table, slot, row)
        if mode & SEND and message >= 0:
            g = weigh(memory, step, row, mine, near)
            clear(memory, message + begin, samples * slot.per_sample, like(memory, 0))
            if own.share >= 0:
                spread_averages(memory, table, step.own, g, images, message + begin)
            else:
                spread_maxima(memory, table, step.own, g, saved, images, message + begin)


@inline
def elements(windows: Any) -> Any:
    """Return how many elements a window has."""
    return windows.kernel0 * windows.kernel1 * windows.kernel2


@inline
def part_of_line(windows: Any, line: int, element: int) -> Any:
    """Return where an element of the windows of a line lies, counted as if from the first one, and which have it."""
    size = windows.kernel1 * windows.kernel2
    at, begin, end = reach(windows, element % windows.kernel2)
    start = line_start(windows, 0, line, element // size, element % size // windows.kernel2)
    return start + at, begin, end if start >= 0 else begin


@inline
def plane(windows: Any) -> Any:
    """Return the elements of an image."""
    return windows.extent0 * windows.extent1 * windows.extent2


@jit
def maxima(memory: Any, table: Any, at: int, x: int, images: int, out: int, kept: int) -> None:
    """Set out to the maximum of each window, and ``kept`` to where it lies in its image: of equal ones the first."""
    windows = windows_at(table, pool_at(table, at).windows)
    count, step = windows.count2, windows.stride2
    for line in range(images * windows.lines):
        here, image = line * count, line // windows.lines * plane(windows)
        for i in range(count):
            store(memory, out + here + i, like(memory, -1) / like(memory, 0))
            store(memory, kept + here + i, like(memory, 0))
        for element in range(elements(windows)):
            first, begin, end = part_of_line(windows, line, element)
            for i in range(begin, end):
                value, best = load(memory, x + first + i * step), load(memory, out + here + i)
                larger = value > best or value != value
                store(memory, out + here + i, choose(larger, value, best))
                place, before = like(memory, first - image + i * step), load(memory, kept + here + i)
                store(memory, kept + here + i, choose(larger, place, before))


@jit
def spread_maxima(memory: Any, table: Any, at: int, g: int, kept: int, images: int, out: int) -> None:
    """Add g to where the maxima lie."""
    windows = windows_at(table, pool_at(table, at).windows)
    size = windows.lines * windows.count2
    for _ in range(images):
        for i in range(size):
            goal = out + int(load(memory, kept + i))
            store(memory, goal, load(memory, goal) + load(memory, g + i))
        out += plane(windows)
        g += size
        kept += size


@jit
def averages(memory: Any, table: Any, at: int, x: int, images: int, out: int) -> None:
    """Set out to the average of each window."""
    own = pool_at(table, at)
    windows = windows_at(table, own.windows)
    count, step = windows.count2, windows.stride2
    for line in range(images * windows.lines):
        here, share = out + line * count, own.share + line % windows.lines * count
        clear(memory, here, count, like(memory, 0))
        for element in range(elements(windows)):
            at_, begin, end = part_of_line(windows, line, element)
            for i in range(begin, end):
                store(memory, here + i, load(memory, here + i) + load(memory, x + at_ + i * step))
        for i in range(count):
            store(memory, here + i, load(memory, here + i) * load(memory, share + i))


@jit
def spread_averages(memory: Any, table: Any, at: int, g: int, images: int, out: int) -> None:
    """Add each window's share of g to all of its elements."""
    own = pool_at(table, at)
    windows = windows_at(table, own.windows)
    count, step = windows.count2, windows.stride2
    for line in range(images * windows.lines):
        here, share = g + line * count, own.share + line % windows.lines * count
        for element in range(elements(windows)):
            at_, begin, end = part_of_line(windows, line, element)
            for i in range(begin, end):
                goal = out + at_ + i * step
                store(memory, goal, load(memory, goal) + load(memory, here + i) * load(memory, share + i))
