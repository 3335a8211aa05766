"""Runs of numbers that are copied, added or cleared a vector at a time, the last one cut."""

from __future__ import annotations

from typing import Any

from pcsim.engines.jit.kernels.compiled import IR, TYPES, element, inline, intrinsic, load, store
from pcsim.engines.jit.kernels.products import Vectors, lanes, panel_width


def vector_mover(*, reads: bool, adds: bool) -> Any:
    """Return a function (array, source, target, n) that sets, adds, or where it reads nothing clears, n numbers.

    n is at most what a vector holds.
    """

    def move(typing: Any, array: Any, source: Any, target: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            memory, source_, target_, width = arguments
            real = context.get_data_type(array.dtype)
            vectors = Vectors(builder, real, lanes(context, real), width)
            where = element(context, builder, array, memory, target_)
            value = IR.Constant(vectors.type, [0.0] * vectors.count)
            if reads:
                value = vectors.load(element(context, builder, array, memory, source_), cut=True)
            if adds:
                value = builder.fadd(vectors.load(where, cut=True), value)
            vectors.store(value, where, cut=True)
            return context.get_dummy_value()

        return TYPES.void(array, TYPES.intp, TYPES.intp, TYPES.intp), generate

    return intrinsic(move)


copy_vector = vector_mover(reads=True, adds=False)
add_vector = vector_mover(reads=True, adds=True)
clear_vector = vector_mover(reads=False, adds=False)


@inline
def copy_run(memory: Any, source: int, target: int, n: int) -> None:
    """Copy n numbers."""
    count = panel_width(memory) // 2
    for i in range(0, n, count):
        copy_vector(memory, source + i, target + i, min(count, n - i))


@inline
def add_run(memory: Any, source: int, target: int, n: int) -> None:
    """Add n numbers to what is there."""
    count = panel_width(memory) // 2
    for i in range(0, n, count):
        add_vector(memory, source + i, target + i, min(count, n - i))


@inline
def clear_run(memory: Any, target: int, n: int) -> None:
    """Set n numbers to zero."""
    count = panel_width(memory) // 2
    for i in range(0, n, count):
        clear_vector(memory, target, target + i, min(count, n - i))


@inline
def lay_run(memory: Any, source: int, apart: int, out: int, first: int, n: int, bits: int, distance: int) -> None:
    """Copy n numbers, ``apart`` from each other, to the columns from ``first`` on of a row of panels.

    Panels have 2^``bits`` columns; a row of one lies ``distance`` from the same row of the next.
    """
    while n > 0:
        panel = first >> bits
        inside = first - (panel << bits)
        count = min(n, (1 << bits) - inside)
        target = out + panel * distance + inside
        if apart == 1:
            copy_run(memory, source, target, count)
        else:
            for i in range(count):
                store(memory, target + i, load(memory, source + i * apart))
        source += count * apart
        first += count
        n -= count


@inline
def lay_zeros(memory: Any, out: int, first: int, n: int, bits: int, distance: int) -> None:
    """Set the columns from ``first`` on of a row of panels to zero, n of them."""
    while n > 0:
        panel = first >> bits
        inside = first - (panel << bits)
        count = min(n, (1 << bits) - inside)
        clear_run(memory, out + panel * distance + inside, count)
        first += count
        n -= count
