"""The convolution f(W * x + b): products whose windows are read where they lie, or are laid side by side before.

Windows are read where they lie if lines are long: a line of the result is a row of a product, whose lists say where the
elements of the kernel lie in an image that has its padding around it. So are what windows send back, where they are one
step apart, from the image of errors, and what weights learn, where the sum runs along an image.

Other windows are laid side by side, a block of lines at a time: a row for each element of the kernel. They are then
multiplied as they are by the weights; and what they send back is such a matrix, which is added back to where it lies.
Where all but one element of the kernel see nothing but padding, that one is all that is laid and multiplied.
"""

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
    edge_at,
    input_of,
    message_of,
    part_at,
    scale_into,
    slot_at,
    step_at,
    take_prediction,
    unbounded,
    weigh,
)
from pcsim.engines.jit.kernels.compiled import add_reordered, inline, jit, load, store
from pcsim.engines.jit.kernels.dense import SLICES
from pcsim.engines.jit.kernels.functions import apply
from pcsim.engines.jit.kernels.native import like
from pcsim.engines.jit.kernels.products import ROWS, panel_width, product_listed, product_packed, slab_of_tiles
from pcsim.engines.jit.kernels.records import Record, address, location, whole
from pcsim.engines.jit.kernels.runs import copy_run, lay_run
from pcsim.engines.jit.kernels.sliding import add_windows, lay_windows, windows_at

CONV = Record(
    "convolution",
    images=whole("images of a sample"),
    groups=whole("groups of channels"),
    before=whole("channels of a group before"),
    behind=whole("channels of a group behind"),
    depth=whole("steps of a sum: channels of a group before times the elements of the kernel that are used"),
    first=whole("place in a weight of the first element that is used"),
    apart=whole("numbers of a weight from one step of the sum to the next"),
    across=whole("numbers of a weight from one channel behind to the next"),
    block=whole("lines that are laid side by side at once"),
    room=whole("numbers that these take"),
    at_once=whole("whether such a block has the windows of all samples"),
    windows=location("how windows slide"),
    forward=location("how windows are read where they lie; -1: they are laid side by side"),
    back=location("how the errors that windows see are read where they lie; -1: windows are added back"),
    learn=location("how what weights learn is summed along an image; -1: windows are laid side by side"),
    function=whole("activation; 0: none"),
    vertices=location("what each vertex has of its own"),
    users=location("the vertices that contribute to gradients, by weight"),
    starts=location("which of these is the first of each weight"),
)

CONV_VERTEX = Record(
    "convolution vertex",
    weight=address("the weight"),
    bias=address("bias; nowhere if there is none"),
    weight_learnt=address("what the weight has learnt"),
    bias_learnt=address("what the bias has learnt"),
    blank=location("whether what lies there is to be replaced, not added to"),
)

LISTED = Record(
    "listed product",
    channels=whole("channels of an image"),
    **{
        f"{name}{axis}": whole(f"{text} of axis {axis}")
        for name, text in {"extent": "extent", "before": "padding before", "padded": "extent with padding"}.items()
        for axis in range(3)
    },
    plane=whole("elements of a channel with its padding"),
    padding=whole("whether there is any"),
    starts=location("where each line of the result begins"),
    lines=whole("lines of the result"),
    width=whole("elements of a line"),
    behind=whole("channels of a group of the result"),
    before=whole("channels of a group of the image"),
    rows=location("where each row of the left operand lies"),
    left=location("where each step of the sum lies in the left operand"),
    right=location("likewise in the right one"),
    depth=whole("steps of the sum"),
)
"""Of what learns, the left operand is the image, and lines are those of the errors; else the right one is."""

TOGETHER = 16
"""Channels whose weights are written at once, row after row of the sums: these lie together, weights do not."""

BAND = 2 * ROWS
"""Channels whose weights are written, and then looked at, at once: they are still near."""

conv_at, vertex_at, listed_at = CONV.one(), CONV_VERTEX.each(), LISTED.one()


@jit
def conv(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Run vertices of one convolution."""
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = conv_at(table, step.own), slot_at(table, step.slots, 0)
    images, n = (mine.high - mine.low) * own.images, (mine.high - mine.low) * step.size
    near, begin = mine.scratch, mine.low * slot.per_sample
    constant = load(memory, step.attribute)
    for row in range(low, high):
        change = changes(table, step, row, mine, mode)
        if change == SAME:
            continue
        saved = step.saved + row * step.saved_stride + mine.low * step.size
        if mode & (SWEEP | PREDICT):
            if change == INPUT:
                x = input_of(table, slot, row, mode) + begin
                if own.forward >= 0:
                    fill_bias(memory, table, step.own, row, near, images)
                    weight = vertex_at(table, own.vertices, row).weight
                    multiply(memory, table, step.own, own.forward, weight, x, images, near, near + mine.region)
                else:
                    convolve(memory, table, step.own, row, x, images, near, near + mine.region)
                if own.function:
                    apply(own.function, constant, memory, near, memory, near, memory, saved, n)
            take_prediction(memory, table, at, row, part, mode, near, change == INPUT)
        message = message_of(table, slot, row)
        if mode & SEND and message >= 0:
            g = weigh(memory, step, row, mine, near)
            if own.function:
                scale_into(memory, saved, g, near, n)
                g = near
            clear(memory, message + begin, (mine.high - mine.low) * slot.per_sample, like(memory, 0))
            if own.back >= 0:
                weight = vertex_at(table, own.vertices, row).weight
                multiply(memory, table, step.own, own.back, weight, g, images, message + begin, near + mine.region)
            else:
                convolve_back(memory, table, step.own, row, g, images, message + begin, near + mine.region)


# -- windows where they lie -----------------------------------------------------------------------------------


@jit
def fill_bias(memory: Any, table: Any, at: int, row: int, out: int, images: int) -> None:
    """Set every channel of a number of images to its bias."""
    own = conv_at(table, at)
    windows, bias = windows_at(table, own.windows), vertex_at(table, own.vertices, row).bias
    size, channels = windows.lines * windows.count2, own.groups * own.behind
    for _ in range(images):
        for channel in range(channels):
            clear(memory, out, size, load(memory, bias + channel) if bias >= 0 else like(memory, 0))
            out += size


@jit
def multiply(memory: Any, table: Any, at: int, how: int, weight: int, x: int, images: int, out: int, near: int) -> None:
    """Add the product of a weight with a number of images, as listed, to ``out``."""
    own, listed = conv_at(table, at), listed_at(table, how)
    size, plane = listed.lines * listed.width, listed.plane
    for _ in range(images):
        source = padded(memory, listed, x, 0, listed.channels, near)
        for group in range(own.groups):
            left = weight + group * own.behind * own.depth
            right = source + group * listed.before * plane
            for line in range(listed.lines):
                product_listed(
                    memory, table, left, listed.rows, listed.left, right + table[listed.starts + line],
                    panel_width(memory), listed.right, listed.depth, listed.width, listed.behind,
                    out + line * listed.width, size,
                )  # fmt: skip
            out += listed.behind * size
        x += listed.channels * listed.extent0 * listed.extent1 * listed.extent2


@jit
def padded(memory: Any, listed: Any, x: int, first: int, last: int, near: int) -> int:
    """Return where an image lies with its padding: as it is, or some channels copied to ``near``."""
    if not listed.padding:
        return x
    a, b, c = listed.extent0, listed.extent1, listed.extent2
    wide = listed.padded2
    clear(memory, near + first * listed.plane, (last - first) * listed.plane, like(memory, 0))
    for channel in range(first, last):
        for outer in range(a):
            deep = (listed.before0 + outer) * listed.padded1 + listed.before1
            target = near + channel * listed.plane + deep * wide + listed.before2
            source = x + (channel * a + outer) * b * c
            for line in range(b):
                copy_run(memory, source + line * c, target + line * wide, c)
    return near


# -- windows side by side -------------------------------------------------------------------------------------


@inline
def block_end(own: Any, windows: Any, first: int, lines: int) -> Any:
    """Return where the block ends that begins with a line: of whole images, or of a part of one."""
    if own.block >= windows.lines:
        return min(lines, first + own.block)
    return min(first + own.block, (first // windows.lines + 1) * windows.lines)


@inline
def bits_of(memory: Any) -> Any:
    """Return the logarithm of the columns of a panel."""
    width, bits = panel_width(memory), 0
    while 1 << bits < width:
        bits += 1
    return bits


@jit
def convolve(memory: Any, table: Any, at: int, row: int, x: int, images: int, out: int, near: int) -> None:
    """Set out = W * x + b for a number of images."""
    own = conv_at(table, at)
    windows, vertex = windows_at(table, own.windows), vertex_at(table, own.vertices, row)
    width, bits, lines = panel_width(memory), bits_of(memory), images * windows.lines
    far, depth, behind = near + own.room, own.depth, own.behind
    first = 0
    while first < lines:
        last = block_end(own, windows, first, lines)
        n = (last - first) * windows.count2
        for group in range(own.groups):
            before = group * own.before
            lay_windows(memory, windows, x, before, 0, depth, first, last, near, bits, depth * width, width)
            weight = vertex.weight + group * behind * own.across + own.first
            product_packed(memory, weight, own.across, own.apart, memory, near, depth, n, behind, memory, far, n, False)
            spread(memory, table, at, row, group, far, first, last, out)
        first = last


@jit
def spread(
    memory: Any, table: Any, at: int, row: int, group: int, source: int, first: int, last: int, out: int
) -> None:
    """Copy a block (channels of a group, lines) to its images, and add the bias."""
    own = conv_at(table, at)
    windows, vertex = windows_at(table, own.windows), vertex_at(table, own.vertices, row)
    size, channels = windows.lines * windows.count2, own.groups * own.behind
    n = (last - first) * windows.count2
    line = first
    while line < last:
        image = line // windows.lines
        end = min(last, (image + 1) * windows.lines)
        inside, count = (line - image * windows.lines) * windows.count2, (end - line) * windows.count2
        for channel in range(own.behind):
            target = out + (image * channels + group * own.behind + channel) * size + inside
            here = source + channel * n + (line - first) * windows.count2
            if vertex.bias >= 0:
                bias = load(memory, vertex.bias + group * own.behind + channel)
                for i in range(count):
                    store(memory, target + i, load(memory, here + i) + bias)
            else:
                copy_run(memory, here, target, count)
        line = end


@jit
def convolve_back(memory: Any, table: Any, at: int, row: int, g: int, images: int, out: int, near: int) -> None:
    """Add what windows receive, W^T g, to where they lie in a number of images."""
    own = conv_at(table, at)
    windows, vertex = windows_at(table, own.windows), vertex_at(table, own.vertices, row)
    width, lines = panel_width(memory), images * windows.lines
    far, depth, behind = near + own.room, own.depth, own.behind
    first = 0
    while first < lines:
        last = block_end(own, windows, first, lines)
        n = (last - first) * windows.count2
        for group in range(own.groups):
            for channel in range(behind):
                source = group * behind + channel
                lay_errors(memory, table, at, source, g, first, last, far + channel * width, behind * width)
            weight = vertex.weight + group * behind * own.across + own.first
            product_packed(memory, weight, own.apart, own.across, memory, far, behind, n, depth, memory, near, n, False)
            add_windows(memory, windows, near, group * own.before, depth, first, last, out, n)
        first = last


@jit
def lay_errors(
    memory: Any, table: Any, at: int, channel: int, g: int, first: int, last: int, out: int, distance: int
) -> None:
    """Copy a channel of g, of a block of lines, to a row of panels."""
    own = conv_at(table, at)
    windows, bits = windows_at(table, own.windows), bits_of(memory)
    size, channels = windows.lines * windows.count2, own.groups * own.behind
    line = first
    while line < last:
        image = line // windows.lines
        end = min(last, (image + 1) * windows.lines)
        inside, count = (line - image * windows.lines) * windows.count2, (end - line) * windows.count2
        source, column = g + (image * channels + channel) * size + inside, (line - first) * windows.count2
        lay_run(memory, source, 1, out, column, count, bits, distance)
        line = end


# -- learning ----------------------------------------------------------------------------------------------


@jit
def conv_learn(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Add what vertices contribute to the gradients of weight and bias, over all samples of the part.

    ``low`` to ``high`` count slices of weights, ``SLICES`` each: all users of a slice add to it one after the other. A
    slice has some of the elements of the kernel, of all channels behind.
    """
    own = conv_at(table, step_at(table, at).own)
    rows, channels = own.groups * own.depth, own.groups * own.behind
    for number in range(low // SLICES, (high + SLICES - 1) // SLICES):
        first, last = max(low - number * SLICES, 0), min(high - number * SLICES, SLICES)
        begin = table[own.starts + number]
        for listed in range(begin, table[own.starts + number + 1]):
            row = table[own.users + listed]
            vertex = vertex_at(table, own.vertices, row)
            add = listed != begin or table[vertex.blank] == 0
            accumulate(memory, table, at, row, part, first * rows // SLICES, last * rows // SLICES, add)
            if vertex.bias_learnt >= 0:
                sum_channels(memory, table, at, row, part, first * channels // SLICES, last * channels // SLICES)


@inline
def error_and_slope(memory: Any, step: Any, own: Any, row: int, mine: Any) -> Any:
    """Return where the weighted error of a vertex lies, and its slope; -1 where that is 1."""
    slope = step.saved + row * step.saved_stride if own.function else -1
    return weigh(memory, step, row, mine, mine.scratch), slope


@jit
def accumulate(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int, add: bool) -> None:
    """Take what a vertex contributes to rows ``left`` to ``right`` - 1 of its weight, counted through groups.

    The sums are kept as (rows, channels behind of a group) until all lines are added up.
    """
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = conv_at(table, step.own), slot_at(table, step.slots, 0)
    windows, depth, behind = windows_at(table, own.windows), own.depth, own.behind
    if own.apart > 1 and not add:
        clear_slices(memory, table, at, row, left, right)
        add = True
    if own.learn < 0 and own.at_once and own.apart == 1:
        multiply_at_once(memory, table, at, row, part, left, right, add)
        return
    lines = (mine.high - mine.low) * own.images * windows.lines
    g, slope = error_and_slope(memory, step, own, row, mine)
    near = mine.scratch + mine.region
    turned, sums = near + own.room, mine.scratch + 3 * mine.region
    x = edge_at(table, slot.inputs, row).value
    clear(memory, sums, (right - left) * behind, like(memory, 0))
    if own.learn >= 0:
        sum_along(memory, table, at, row, part, left, right)
        write_sums(memory, table, at, row, part, left, right, add)
        return
    first = 0
    while first < lines:
        last = block_end(own, windows, first, lines)
        n = (last - first) * windows.count2
        for group in range(left // depth, (right + depth - 1) // depth):
            low, high = max(left - group * depth, 0), min(right - group * depth, depth)
            turn_errors(memory, table, at, group, g, slope, first, last, turned, panel_width(memory))
            lay_windows(memory, windows, x, group * own.before, low, high, first, last, near, 60, 0, n)
            here = sums + (group * depth + low - left) * behind
            product_packed(memory, near, n, 1, memory, turned, n, behind, high - low, memory, here, behind, True)
        first = last
    write_sums(memory, table, at, row, part, left, right, add)


@jit
def clear_slices(memory: Any, table: Any, at: int, row: int, left: int, right: int) -> None:
    """Set rows ``left`` to ``right`` - 1 of what a weight has learnt to zero, with all that lies between them."""
    own = conv_at(table, step_at(table, at).own)
    learnt, depth, behind = vertex_at(table, own.vertices, row).weight_learnt, own.depth, own.behind
    for group in range(left // depth, (right + depth - 1) // depth):
        low, high = max(left - group * depth, 0), min(right - group * depth, depth)
        for channel in range(group * behind, (group + 1) * behind):
            begin = learnt + channel * own.across + low * own.apart
            clear(memory, begin, (high - low) * own.apart, like(memory, 0))


@jit
def multiply_at_once(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int, add: bool) -> None:
    """Take the same sums over the windows of all samples, written as they are: (channels behind, depth)."""
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = conv_at(table, step.own), slot_at(table, step.slots, 0)
    windows, vertex = windows_at(table, own.windows), vertex_at(table, own.vertices, row)
    depth, behind, width, x = own.depth, own.behind, panel_width(memory), edge_at(table, slot.inputs, row).value
    lines = (mine.high - mine.low) * own.images * windows.lines
    n, near = lines * windows.count2, mine.scratch + mine.region
    g, slope = error_and_slope(memory, step, own, row, mine)
    for group in range(left // depth, (right + depth - 1) // depth):
        low, high = max(left - group * depth, 0), min(right - group * depth, depth)
        turn_errors(memory, table, at, group, g, slope, 0, lines, near + own.room, 1)
        for first in range(low, high, width):
            last, panel = min(high, first + width), near + (first - low) * n
            lay_windows(memory, windows, x, group * own.before, first, last, 0, lines, panel, 0, width, 1)
        for channel in range(0, behind, BAND):
            count, errors = min(BAND, behind - channel), near + own.room + channel * n
            learnt = vertex.weight_learnt + (group * behind + channel) * depth + low
            slab_of_tiles(memory, errors, n, 1, memory, near, n, high - low, count, memory, learnt, depth, add)
            for _ in range(count):
                mine.fault |= unbounded(memory, learnt, high - low)
                learnt += depth


@jit
def sum_along(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int) -> None:
    """Add up the same sums along each image, whose windows are read where they lie."""
    step, mine = step_at(table, at), part_at(table, part)
    own, slot = conv_at(table, step.own), slot_at(table, step.slots, 0)
    windows, listed = windows_at(table, own.windows), listed_at(table, own.learn)
    depth, behind, count, taps = own.depth, own.behind, windows.count2, own.depth // own.before
    g, slope = error_and_slope(memory, step, own, row, mine)
    near, sums = mine.scratch + mine.region, mine.scratch + 3 * mine.region
    x = edge_at(table, slot.inputs, row).value
    for image in range((mine.high - mine.low) * own.images):
        source = padded(memory, listed, x, left // taps, (right + taps - 1) // taps, near)
        for first in range(image * windows.lines, (image + 1) * windows.lines, own.block):
            last = min(first + own.block, (image + 1) * windows.lines)
            n, begin = (last - first) * count, (first - image * windows.lines) * count
            for group in range(left // depth, (right + depth - 1) // depth):
                low, high = max(left - group * depth, 0), min(right - group * depth, depth)
                turn_errors(memory, table, at, group, g, slope, first, last, near + own.room, panel_width(memory))
                product_listed(
                    memory, table, source + group * own.before * listed.plane, listed.rows + low, listed.left + begin,
                    near + own.room, n * panel_width(memory), listed.right, n, behind, high - low,
                    sums + (group * depth + low - left) * behind, behind,
                )  # fmt: skip
        x += listed.channels * listed.extent0 * listed.extent1 * listed.extent2


@jit
def turn_errors(
    memory: Any, table: Any, at: int, group: int, g: int, slope: int, first: int, last: int, out: int, width: int
) -> None:
    """Set out = gain slope g, (lines, channels of a group) in panels of ``width`` channels, for a block of lines."""
    step = step_at(table, at)
    own = conv_at(table, step.own)
    windows, gain = windows_at(table, own.windows), load(memory, step.gain)
    size, channels = windows.lines * windows.count2, own.groups * own.behind
    n = (last - first) * windows.count2
    for channel in range(own.behind):
        target = out + channel // width * width * n + channel % width
        for line in range(first, last):
            image = line // windows.lines
            inside = (line - image * windows.lines) * windows.count2
            here = (image * channels + group * own.behind + channel) * size + inside
            for i in range(windows.count2):
                value = load(memory, g + here + i)
                if slope >= 0:
                    value = load(memory, slope + here + i) * value
                store(memory, target, gain * value)
                target += width


@jit
def write_sums(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int, add: bool) -> None:
    """Add the sums to what the weight has learnt, or replace that."""
    step, mine = step_at(table, at), part_at(table, part)
    own = conv_at(table, step.own)
    learnt, depth, behind = vertex_at(table, own.vertices, row).weight_learnt, own.depth, own.behind
    sums, bad = mine.scratch + 3 * mine.region, False
    for block in range(0, behind, TOGETHER):
        for number in range(left, right):
            group = number // depth
            target = learnt + own.first + group * behind * own.across + (number - group * depth) * own.apart
            for channel in range(block, min(block + TOGETHER, behind)):
                value = load(memory, sums + (number - left) * behind + channel)
                if add:
                    value += load(memory, target + channel * own.across)
                bad |= value - value != 0
                store(memory, target + channel * own.across, value)
    mine.fault |= int(bad)


@jit
def sum_channels(memory: Any, table: Any, at: int, row: int, part: int, left: int, right: int) -> None:
    """Add up what reaches channels ``left`` to ``right`` - 1, line by line, and add it to what the bias has learnt."""
    step, mine = step_at(table, at), part_at(table, part)
    own = conv_at(table, step.own)
    windows, bias = windows_at(table, own.windows), vertex_at(table, own.vertices, row).bias_learnt
    size, channels = windows.lines * windows.count2, own.groups * own.behind
    g, slope = error_and_slope(memory, step, own, row, mine)
    gain = load(memory, step.gain)
    for channel in range(left, right):
        total = load(memory, bias + channel)
        for image in range((mine.high - mine.low) * own.images):
            here, some = (image * channels + channel) * size, like(memory, 0)
            if slope >= 0:
                for i in range(size):
                    some = add_reordered(some, load(memory, slope + here + i) * load(memory, g + here + i))
            else:
                for i in range(size):
                    some = add_reordered(some, load(memory, g + here + i))
            total += gain * some
        store(memory, bias + channel, total)
