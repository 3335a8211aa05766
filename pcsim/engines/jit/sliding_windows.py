"""Convolutions and pooling as kernels see them: the records of what slides over what."""

from __future__ import annotations

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
    from pcsim.engines.base import Task
    from pcsim.engines.jit.layout import Layout
    from pcsim.ops.sliding import Windows
    from pcsim.program.program import ParameterSlot, Step

MOST_AXES = 3
"""Axes that windows may slide over."""

LAID = 1 << 16
"""Numbers that are laid side by side at once: they stay in the second cache."""


def why_not(task: Task, step: Step) -> str:
    """Return why the kernels do not suit a step; empty if they do."""
    if any(slot.is_parameter for slot in step.slots):
        return "an input is a parameter"
    return f"windows slide over more than {MOST_AXES} axes" if len(step.call["kernel"]) > MOST_AXES else ""


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
    before, behind = front[-1] // groups, call["channels"] // groups
    images, depth = prod(front[:-1]), before * prod(call["kernel"])
    block, room = blocks(layout, windows, images, depth, behind)
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
        block=block,
        room=room,
        windows=of_windows(layout, owner, windows, front[-1]),
        function=activation(call["activation"]),
        vertices=layout.table.write(convolution.CONV_VERTEX, owner, **_weights(layout, slots, count)),
        users=users,
        starts=starts,
    )


def blocks(layout: Layout, windows: Windows, images: int, depth: int, behind: int) -> tuple[int, int]:
    """Return how many lines are laid side by side at once, and the numbers that a block of them takes at most.

    They are lines of one image, or whole images, of which each sample has ``images``.
    """
    count, lines = windows.counts[-1], prod(windows.counts[:-1])
    block = max(1, LAID // (depth * count))
    block = block if block < lines else block // lines * lines
    n, like = min(block, lines * images * layout.batch) * count, np.zeros(0, layout.dtype)
    return block, max(packed_size(like, depth, n), packed_size(like, behind, n), packed_size(like, n, behind))


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
        kept[...] = share_of(np, call, kept)
        share = address_of(kept)
    slid = of_windows(layout, owner, windows, 1)
    return layout.table.write(pooling.POOL, owner, images=prod(front), windows=slid, share=share)
