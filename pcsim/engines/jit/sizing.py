"""How much work a tick is, and so how many threads share it, and in which way."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.engines.jit import pool
from pcsim.engines.threads import threads_said, threads_wanted
from pcsim.graph.levels import uneven_edges

if TYPE_CHECKING:
    from pcsim.engines.array.array_state import ArrayState
    from pcsim.program.program import Step

PRODUCTS = 16
"""Products of a weight and a number that take a nanosecond."""

PASSING = 25
"""Nanoseconds that a thread takes for a vertex that acts, however few its samples."""

FEWEST, BLOCKS, LARGE_BLOCK, MOST_BLOCKS = 1, 16, 1024, 64
"""Blocks into which a batch falls: at least, and at most, but where blocks of so many numbers of an average vertex are
more than that, and then at most."""

FIXED, MOVING = 0.3, 3
"""Nanoseconds for a number of a vertex that acts, where predictions are fixed, and where they move."""


def work_of(arrays: ArrayState) -> int:
    """Return about how many nanoseconds a tick takes on one thread."""
    batch, total = arrays.task.batch, 0.0
    each = MOVING if arrays.task.rule.moving else FIXED
    for step in arrays.program.steps:
        total += len(step.names) * (PASSING + batch * (each * prod(step.shape) + products_of(step) / PRODUCTS))
    return int(total)


def products_of(step: Step) -> float:
    """Return how many products of a weight and a number a vertex of a step takes for a sample."""
    return step.op.cost(step.call).multiply_adds


def threads_of(arrays: ArrayState, work: int) -> tuple[int, bool]:
    """Return how many threads run, and whether they share out the samples, or else the vertices, in step."""
    most = threads_wanted()
    if arrays.task.batch >= 2 * most:
        return min(threads_said() or sharers(arrays, most), blocks_of(arrays)), True
    return (most, False) if work > pool.WORTH_SHARING else (1, True)


def blocks_of(arrays: ArrayState) -> int:
    """Return into how many blocks the samples of the batch fall, of which squares are summed, each by one thread.

    It depends on the task alone, so that no sum depends on threads; no more threads share out samples.
    """
    steps, batch = arrays.program.steps, arrays.task.batch
    vertices = sum(len(step.names) for step in steps)
    row = batch * sum(len(step.names) * prod(step.shape) for step in steps) // max(1, vertices)
    most = sharers(arrays, min(MOST_BLOCKS, max(BLOCKS, row // LARGE_BLOCK)))
    return max(1, min(batch // 2, max(FEWEST, most)))


def sharers(arrays: ArrayState, most: int) -> int:
    """Return how many threads share out the samples.

    Each of them passes over all vertices that act; it is to be three times as long busy with its samples.
    """
    passing = numbers = 0.0
    moving = arrays.task.rule.moving
    for step in arrays.program.steps:
        sending = sum(slot.messages is not None for slot in step.slots) / max(1, len(step.slots))
        if moving or sending:
            passing += PASSING * len(step.names)
            each = (MOVING if moving else FIXED) * prod(step.shape)
            numbers += len(step.names) * (each + (moving + sending) * products_of(step) / PRODUCTS)
    return max(1, min(most, int(arrays.task.batch * numbers / (3 * passing)))) if passing else most


def errors_stay(arrays: ArrayState) -> bool:
    """Return whether each error, once it has come, stays: then learning at a vertex's level is learning at the end."""
    task = arrays.task
    plain = all(group.precision is None for group in arrays.program.groups.values())
    gentle = task.rule.step_size == 1 and not task.step_sizes and not task.initial
    return plain and gentle and not task.rule.moving and not uneven_edges(task.graph)
