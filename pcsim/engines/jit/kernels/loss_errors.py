"""Losses other than squared error: kernels that set the error of an output, and its value to match, within a tick."""

from __future__ import annotations

from math import exp
from typing import Any

from pcsim.engines.jit.kernels.common import output_at, part_at, step_at
from pcsim.engines.jit.kernels.compiled import jit, load, store
from pcsim.engines.jit.kernels.native import like


@jit
def cross_entropy(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Set the errors of outputs to target - softmax(mu) sum(target), at the prediction mu of this tick."""
    step, mine = step_at(table, at), part_at(table, part)
    n = (mine.high - mine.low) * step.size
    for row in range(low, high):
        offset = row * step.stride + mine.low * step.size
        start, shift, value = step.start + offset, step.shift + offset, step.value + offset
        error, deviation = step.error + offset, step.deviation + offset
        for i in range(n):
            store(memory, value + i, load(memory, start + i) + load(memory, shift + i))
        target = output_at(table, step.outputs, row).target + mine.low * step.size
        cross_entropy_error(memory, value, memory, target, memory, error, n, step.classes)
        for i in range(n):
            store(memory, deviation + i, load(memory, error + i) + load(memory, shift + i))
            store(memory, value + i, load(memory, value + i) + load(memory, error + i))


@jit
def cross_entropy_error(mu: Any, om: int, target: Any, ot: int, error: Any, oe: int, n: int, classes: int) -> None:
    """Set n errors to target - softmax(mu) sum(target), by groups of classes."""
    for first in range(0, n, classes):
        highest, whole, total = load(mu, om + first), like(mu, 0), like(mu, 0)
        for i in range(first, first + classes):
            highest = max(highest, load(mu, om + i))
            whole += load(target, ot + i)
        for i in range(first, first + classes):
            weight = exp(load(mu, om + i) - highest)
            store(error, oe + i, weight)
            total += weight
        for i in range(first, first + classes):
            store(error, oe + i, load(target, ot + i) - load(error, oe + i) / total * whole)
