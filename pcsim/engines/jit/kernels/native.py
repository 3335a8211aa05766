"""What the compiled engine needs below Numba's language: memory by address, calls by address, a barrier."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pcsim.engines.jit.kernels.compiled import IR, NUMBA, TYPES, element, intrinsic, jit

if TYPE_CHECKING:
    import numpy as np

ARGUMENTS = 6
"""Whole numbers that a kernel takes after its two pointers."""


def address_of(array: np.ndarray) -> int:
    """Return where an array lies, in elements of its own size."""
    return int(array.ctypes.data) // array.itemsize


@cache
def entry(kernel: Any, dtype: np.dtype[Any]) -> int:
    """Compile a kernel for a number format, or take it from the disk, and return its address."""
    pointers = (TYPES.CPointer(NUMBA.from_dtype(dtype)), TYPES.CPointer(TYPES.int64))
    arguments = (*pointers, *[TYPES.int64] * ARGUMENTS)
    kernel.compile(TYPES.void(*arguments))
    compiled = kernel.overloads[arguments]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def invoke(
    context: Any, address: Any, base: Any, ints: Any, at: Any, low: Any, high: Any, part: Any, mode: Any, tick: Any
) -> Any:
    """Call the kernel at an address."""
    signature = TYPES.void(address, base, ints, at, low, high, part, mode, tick)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = context.call_conv.get_function_type(TYPES.void, signature.args[1:])
        kernel = builder.inttoptr(values[0], kind.as_pointer())
        context.call_conv.call_function(builder, kernel, TYPES.void, signature.args[1:], values[1:])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pointer(context: Any, address: Any, like: Any) -> Any:
    """Return an address in bytes as a pointer to numbers of an array's format."""
    kind = TYPES.CPointer(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(kind))

    return kind(address, like), generate


@intrinsic
def count_up(context: Any, table: Any, place: Any) -> Any:
    """Add 1 to a whole number that other threads read, and return what it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        where = builder.gep(values[0], [values[1]])
        return builder.atomic_rmw("add", where, IR.Constant(IR.IntType(64), 1), "seq_cst")

    return TYPES.int64(table, place), generate


@intrinsic
def look(context: Any, table: Any, place: Any) -> Any:
    """Read a whole number that other threads write."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(builder.gep(values[0], [values[1]]), "acquire", 8)

    return TYPES.int64(table, place), generate


@intrinsic
def swap(context: Any, table: Any, place: Any, value: Any) -> Any:
    """Set a whole number that other threads read and write, and return what it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("xchg", builder.gep(values[0], [values[1]]), values[2], "seq_cst")

    return TYPES.int64(table, place, TYPES.int64), generate


@intrinsic
def onwards(context: Any, array: Any, place: Any) -> Any:
    """Return a pointer to an element of an array, or of what a pointer points to."""
    kind = TYPES.CPointer(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return element(context, builder, array, *values)

    return kind(array, TYPES.intp), generate


@intrinsic
def note(context: Any, table: Any, place: Any, value: Any) -> Any:
    """Set a place of the table to the bits of a double."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        where = builder.gep(values[0], [values[1]])
        builder.store(values[2], builder.bitcast(where, values[2].type.as_pointer()))
        return context.get_dummy_value()

    return TYPES.void(table, place, TYPES.float64), generate


give_way = TYPES.ExternalFunction("sched_yield", TYPES.intc())
"""Lets another thread have the core."""

PATIENCE = 2000
"""Looks before a waiting thread gives way: threads may be more than cores."""


@jit
def wait_for_all(table: Any, place: int, threads: int) -> None:
    """Wait until all threads have come here; ``place`` counts those that ever came."""
    before = count_up(table, place)
    goal = (before // threads + 1) * threads
    looks = 0
    while look(table, place) < goal:
        looks += 1
        if looks > PATIENCE:
            give_way()


@intrinsic
def like(context: Any, memory: Any, value: Any) -> Any:
    """Return a number in the format of the memory, or of another number."""
    kind, wanted = TYPES.unliteral(value), getattr(memory, "dtype", memory)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.cast(builder, values[1], kind, wanted)

    return wanted(memory, kind), generate
