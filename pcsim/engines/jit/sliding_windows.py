"""Convolutions and pooling as kernels see them: the records of what slides over what."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.array.rows import indices
from pcsim.engines.jit.kernels import convolution, pooling, sliding
from pcsim.engines.jit.kernels.functions import activation
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.kernels.products import packed_size
from pcsim.ops import sliding as slides
from pcsim.ops.pooling import share as share_of

if TYPE_CHECKING:
    from pcsim.arrays import Shape
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.table import WholeNumbers
    from pcsim.ops.op import Call
    from pcsim.ops.sliding import Windows
    from pcsim.program.program import ParameterSlot, Step

MOST_AXES = 3
"""Axes that windows may slide over."""

LAID = 1 << 16
"""Numbers that are laid side by side at once: they stay in the second cache."""

LEAST = 64
"""Windows that are laid side by side at once, at least: weights are read once for each block."""

SHORTEST = 16
"""Elements of an image along which what weights learn is summed, at least."""

LISTED, PACKED, COPIED, ADDED, LINE = 0.6, 0.5, 0.3, 0.5, 12
"""Cycles, about, of a vector of a listed product, and of a packed one; for a number that is laid side by side, or is
added back; and for a line of them."""


SIDE_BY_SIDE = {"forward": -1, "back": -1, "learn": -1}
"""What says that all windows are laid side by side."""

MOST_ELEMENTS = 1 << 24
"""Elements of an image that float32 counts."""


def why_not(call: Call) -> str:
    """Return why the kernels do not suit windows; empty if they do."""
    rank = len(call["kernel"])
    if rank > MOST_AXES:
        return f"windows slide over more than {MOST_AXES} axes"
    return "an image has more than 2^24 elements" if prod(call.shapes[0][-rank:]) > MOST_ELEMENTS else ""


def of_windows(layout: Layout, owner: str, windows: Windows, channels: int) -> int:
    """Write how windows slide; missing axes come first, with one window of one element."""
    missing = MOST_AXES - windows.rank
    before = tuple(side[0] for side in windows.padding)
    columns = {
        "extent": windows.extents, "count": windows.counts, "kernel": windows.kernel, "stride": windows.stride,
        "dilation": windows.dilation, "before": before,
    }  # fmt: skip
    fields = {
        f"{name}{axis}": value
        for name, values in columns.items()
        for axis, value in enumerate((int(name != "before"),) * missing + values)
    }
    return layout.table.write(sliding.WINDOWS, owner, channels=channels, lines=prod(windows.counts[:-1]), **fields)


def of_conv(layout: Layout, step: Step) -> int:
    """Write the sizes of a convolution, how its windows slide, and where its weights lie."""
    call, count, owner = step.call, len(step.names), step.names[0]
    front, inner = slides.slid_over(call, 1)
    windows, groups = slides.sliding(inner, call), call["groups"]
    before, behind, taps = front[-1] // groups, call["channels"] // groups, prod(call["kernel"])
    place, seen = only_seen(windows)
    images, depth = prod(front[:-1]), before * prod(seen.kernel)
    block, room = blocks(layout, seen, images, front[-1], depth, behind)
    ways = ways_of(layout, owner, windows, groups, before, behind) if seen is windows else SIDE_BY_SIDE
    slots = {slot.name: slot for slot in step.parameters}
    layout.fixed = max(layout.fixed, room, prod(slots["weight"].shape))
    users, starts = (layout.table.add(np.zeros(count + extra, np.int64)) for extra in (0, 1))
    return layout.table.write(
        convolution.CONV,
        owner,
        images=images,
        groups=groups,
        before=before,
        behind=behind,
        depth=depth,
        first=place,
        apart=1 if seen is windows else taps,
        across=before * taps,
        block=block,
        room=room,
        at_once=int(block >= images * layout.batch * prod(windows.counts[:-1])),
        windows=of_windows(layout, owner, seen, front[-1]),
        **ways,
        function=activation(call["activation"]),
        vertices=layout.table.write(convolution.CONV_VERTEX, owner, **_weights(layout, slots, count)),
        users=users,
        starts=starts,
    )


def only_seen(windows: Windows) -> tuple[int, Windows]:
    """Return the place of the only element of the kernel that is not always in the padding, and windows of it alone.

    Where several are not, all of them are used: 0, and the windows as they are.
    """
    found: list[int] = []
    for size, count, kernel, stride, dilation, sides in zip(
        windows.extents, windows.counts, windows.kernel, windows.stride, windows.dilation, windows.padding, strict=True
    ):
        starts = np.arange(count) * stride - sides[0]
        reached = [starts + tap * dilation for tap in range(kernel)]
        seen = [tap for tap, places in enumerate(reached) if ((places >= 0) & (places < size)).any()]
        if len(seen) != 1:
            return 0, windows
        found += seen
    if set(windows.kernel) == {1}:
        return 0, windows
    ones = (1,) * windows.rank
    moved = tuple(
        (before - tap * dilation, behind)
        for (before, behind), tap, dilation in zip(windows.padding, found, windows.dilation, strict=True)
    )
    place = int(np.ravel_multi_index(found, windows.kernel))
    return place, replace(windows, kernel=ones, dilation=ones, padding=moved)


def blocks(layout: Layout, windows: Windows, images: int, channels: int, depth: int, behind: int) -> tuple[int, int]:
    """Return how many lines are laid side by side at once, and the numbers that a block, or a padded image, takes.

    They are lines of one image, or whole images, of which each sample has ``images``.
    """
    count, lines = windows.counts[-1], prod(windows.counts[:-1])
    block = max(1, -(-LEAST // count), LAID // (depth * count))
    block = block if block < lines else block // lines * lines
    n, like = min(block, lines * images * layout.batch) * count, np.zeros(0, layout.dtype)
    sizes = (
        packed_size(like, depth, n),
        packed_size(like, behind, n),
        packed_size(like, n, behind),
        packed_size(like, n, depth),
    )
    return block, max(*sizes, channels * prod(windows.padded_extents()))


# -- windows that are read where they lie ---------------------------------------------------------------------


def ways_of(layout: Layout, owner: str, windows: Windows, groups: int, before: int, behind: int) -> dict[str, int]:
    """Write how windows are read where they lie; -1 where it costs less to lay them side by side, or cannot be."""
    lanes = packed_size(np.zeros(0, layout.dtype), 1, 1) // 2
    sizes = groups, before, behind
    lines, width = prod(windows.counts[:-1]), windows.counts[-1]
    extents, wide = prod(windows.extents[:-1]), windows.extents[-1]
    packed = PACKED * width * behind / lanes + LINE
    found = dict(SIDE_BY_SIDE)
    if windows.stride[-1] == 1 and LISTED * -(-width // lanes) * behind < packed + COPIED * width:
        found["forward"] = listed_forward(layout, owner, windows, *sizes)
    if mirrored(windows) and LISTED * extents * -(-wide // lanes) * behind < lines * (packed + ADDED * width):
        found["back"] = listed_back(layout, owner, windows, *sizes)
    if lines * width >= SHORTEST:
        found["learn"] = listed_learn(layout, owner, windows, *sizes)
    return found


def mirrored(windows: Windows) -> bool:
    """Return whether what windows send back is a convolution of errors: one step apart, no wider padding than that."""
    spans = [(size - 1) * gap for size, gap in zip(windows.kernel, windows.dilation, strict=True)]
    fits = all(max(side) <= span for side, span in zip(windows.padding, spans, strict=True))
    return fits and set(windows.stride) == {1}


def places(extents: Shape, counts: Shape, steps: Shape) -> WholeNumbers:
    """Return where elements lie in an array of these extents, so many along each axis, ``steps`` apart."""
    strides = [prod(extents[axis + 1 :]) for axis in range(len(extents))]
    axes = zip(counts, steps, strides, strict=True)
    found = np.zeros((), np.int64)
    for count, step, stride in axes:
        found = np.add.outer(found, np.arange(count) * step * stride)
    return np.asarray(found.ravel())


def outer_sum(a: WholeNumbers, b: WholeNumbers) -> WholeNumbers:
    """Return a + b for every pair, those of the first number of a first."""
    return np.asarray(np.add.outer(a, b).ravel())


def listed_forward(layout: Layout, owner: str, windows: Windows, groups: int, before: int, behind: int) -> int:
    """Write the product of the weights with the windows of an image."""
    around, taps = windows.padded_extents(), prod(windows.kernel)
    elements = outer_sum(np.arange(before) * prod(around), places(around, windows.kernel, windows.dilation))
    lists = {
        "starts": places(around, (*windows.counts[:-1], 1), windows.stride),
        "rows": np.arange(behind) * before * taps,
        "left": np.arange(before * taps),
        "right": elements,
    }
    image = (groups * before, windows.extents, tuple(side[0] for side in windows.padding), around)
    return _listed(layout, owner, image, lists, windows.counts, (behind, before))


def listed_back(layout: Layout, owner: str, windows: Windows, groups: int, before: int, behind: int) -> int:
    """Write the product of the weights with the errors that the windows around an element have."""
    spans = tuple((size - 1) * gap for size, gap in zip(windows.kernel, windows.dilation, strict=True))
    around = tuple(extent + span for extent, span in zip(windows.extents, spans, strict=True))
    taps, ones = prod(windows.kernel), (1,) * windows.rank
    lists = {
        "starts": places(around, (*windows.extents[:-1], 1), ones),
        "rows": np.arange(before) * taps,
        "left": np.arange(behind * before * taps).reshape(behind, before * taps)[:, :taps].ravel(),
        "right": outer_sum(np.arange(behind) * prod(around), places(around, windows.kernel, windows.dilation)[::-1]),
    }
    first = tuple(span - side[0] for span, side in zip(spans, windows.padding, strict=True))
    image = (groups * behind, windows.counts, first, around)
    return _listed(layout, owner, image, lists, windows.extents, (before, behind))


def listed_learn(layout: Layout, owner: str, windows: Windows, groups: int, before: int, behind: int) -> int:
    """Write the product of the windows of an image with its errors."""
    around = windows.padded_extents()
    columns = packed_size(np.zeros(0, layout.dtype), 1, 1)
    lists = {
        "starts": np.zeros(0, np.int64),
        "rows": outer_sum(np.arange(before) * prod(around), places(around, windows.kernel, windows.dilation)),
        "left": places(around, windows.counts, windows.stride),
        "right": np.arange(prod(windows.counts)) * columns,
    }
    image = (groups * before, windows.extents, tuple(side[0] for side in windows.padding), around)
    return _listed(layout, owner, image, lists, windows.counts, (behind, before))


def _listed(
    layout: Layout,
    owner: str,
    image: tuple[int, Shape, Shape, Shape],
    lists: dict[str, WholeNumbers],
    result: Shape,
    channels: tuple[int, int],
) -> int:
    """Write a listed product: the image's channels, extents, padding before and extents with padding; the result's."""
    many, extents, first, around = image
    missing = MOST_AXES - len(extents)
    shapes = {"extent": (1,) * missing + extents, "before": (0,) * missing + first, "padded": (1,) * missing + around}
    layout.fixed = max(layout.fixed, many * prod(around))
    return layout.table.write(
        convolution.LISTED,
        owner,
        channels=many,
        **{f"{name}{axis}": value for name, values in shapes.items() for axis, value in enumerate(values)},
        plane=prod(around),
        padding=int(around != extents),
        lines=prod(result[:-1]),
        width=result[-1],
        behind=channels[0],
        before=channels[1],
        depth=len(lists["left"]),
        **{name: layout.table.add(numbers) for name, numbers in lists.items()},
    )


def _weights(layout: Layout, slots: dict[str, ParameterSlot], count: int) -> dict[str, Any]:
    """Return where each vertex has its weight and bias, and what they learn."""
    arrays, weight, bias = layout.arrays, slots["weight"], slots.get("bias")

    def each(array: np.ndarray, slot: ParameterSlot) -> Any:
        return address_of(array) + np.broadcast_to(indices(slot.rows), count) * prod(slot.shape)

    return {
        "weight": each(arrays.theta[weight.shape], weight),
        "bias": -1 if bias is None else each(arrays.theta[bias.shape], bias),
        "weight_learnt": each(layout.learnt(weight.shape), weight),
        "bias_learnt": -1 if bias is None else each(layout.learnt(bias.shape), bias),
        "blank": layout.blanks(weight.shape) + np.broadcast_to(indices(weight.rows), count),
    }


def of_pool(layout: Layout, step: Step) -> int:
    """Write how the windows of a pooling slide, and what an average's element counts."""
    call, owner = step.call, step.names[0]
    front, inner = slides.slid_over(call, 0)
    windows = slides.sliding(inner, call)
    share = -1
    if "count_padding" in dict(call.attributes):
        kept = layout.memory.new(f"shares of {owner}", *windows.counts)
        kept[...] = share_of(np, call, layout.dtype)
        share = address_of(kept)
    slid = of_windows(layout, owner, windows, 1)
    return layout.table.write(pooling.POOL, owner, images=prod(front), windows=slid, share=share)
