"""Windows that slide over up to three axes, laid side by side as a matrix, and such a matrix added back.

An image is (channels, *extents), of a sample or of an axis before the channels. A line is a row of windows along the
last axis; lines are counted through all images. What has fewer than three axes has extents of 1 in front.
"""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.engines.jit.kernels.records import Record, whole
from pcsim.engines.jit.kernels.runs import add_run, lay_run, lay_zeros

AXES = ("extent", "count", "kernel", "stride", "dilation", "before")

WINDOWS = Record(
    "windows",
    channels=whole("channels of an image"),
    lines=whole("lines of an image"),
    **{
        f"{name}{axis}": whole(f"{text} of axis {axis}")
        for name, text in zip(
            AXES,
            ("extent", "windows", "extent of the kernel", "stride", "dilation", "padding before the first element"),
            strict=True,
        )
        for axis in range(3)
    },
)

windows_at = WINDOWS.one()


@inline
def reach(windows: Any, element: int) -> Any:
    """Return where an element of the kernel lies along the last axis for the first window, and which windows see it.

    These are the first window whose element lies in the image, and the last + 1.
    """
    step, extent, count = windows.stride2, windows.extent2, windows.count2
    at = element * windows.dilation2 - windows.before2
    low = min(count, max(0, (step - 1 - at) // step))
    high = min(count, max(low, (extent - 1 - at) // step + 1)) if at < extent else low
    return at, low, high


@inline
def line_start(windows: Any, channel: int, line: int, first: int, second: int) -> Any:
    """Return where the elements of a kernel's row lie that a line sees, in images that begin at 0; -1: in the padding.

    ``first`` and ``second`` are the kernel's indices of the two axes before the last.
    """
    image = line // windows.lines
    inside = line - image * windows.lines
    outer = inside // windows.count1
    a = outer * windows.stride0 + first * windows.dilation0 - windows.before0
    b = (inside - outer * windows.count1) * windows.stride1 + second * windows.dilation1 - windows.before1
    if a < 0 or a >= windows.extent0 or b < 0 or b >= windows.extent1:
        return -1
    plane = (image * windows.channels + channel) * windows.extent0 + a
    return (plane * windows.extent1 + b) * windows.extent2


@jit
def lay_windows(
    memory: Any,
    windows: Any,
    x: int,
    channel: int,
    low: int,
    high: int,
    first: int,
    last: int,
    out: int,
    bits: int,
    distance: int,
    row: int,
) -> None:
    """Lay the windows of lines ``first`` to ``last`` - 1 side by side: a row for each element of each channel.

    Of the rows, which begin with those of ``channel``, ``low`` to ``high`` - 1 are laid, ``row`` numbers apart, in
    panels of 2^``bits`` columns, ``distance`` apart.
    """
    size, count = windows.kernel1 * windows.kernel2, windows.count2
    taps = windows.kernel0 * size
    for number in range(low, high):
        at, begin, end = reach(windows, number % windows.kernel2)
        own, tap = channel + number // taps, number % taps
        column = 0
        for line in range(first, last):
            start = line_start(windows, own, line, tap // size, tap % size // windows.kernel2)
            if start < 0:
                lay_zeros(memory, out, column, count, bits, distance)
            else:
                source = x + start + at + begin * windows.stride2
                lay_zeros(memory, out, column, begin, bits, distance)
                lay_run(memory, source, windows.stride2, out, column + begin, end - begin, bits, distance)
                lay_zeros(memory, out, column + end, count - end, bits, distance)
            column += count
        out += row


@jit
def add_windows(
    memory: Any, windows: Any, columns: int, channel: int, rows: int, first: int, last: int, x: int, row: int
) -> None:
    """Add such a matrix back to where its windows lie; its rows are ``row`` numbers apart, its columns are not cut."""
    size, count, step = windows.kernel1 * windows.kernel2, windows.count2, windows.stride2
    taps = windows.kernel0 * size
    for number in range(rows):
        at, begin, end = reach(windows, number % windows.kernel2)
        own, tap = channel + number // taps, number % taps
        source = columns + number * row
        for line in range(first, last):
            start = line_start(windows, own, line, tap // size, tap % size // windows.kernel2)
            if start >= 0:
                target = x + start + at + begin * step
                if step == 1:
                    add_run(memory, source + begin, target, end - begin)
                else:
                    for i in range(end - begin):
                        goal = target + i * step
                        store(memory, goal, load(memory, goal) + load(memory, source + begin + i))
            source += count
