"""Compilation by Numba, typed: how kernels are compiled, cached, and reach memory.

No kernel is compiled with fast mathematics, so nothing is contracted and no sum reordered but by ``add_reordered``: an
element has the same bits wherever it lies in a loop.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pcsim import optimisers
from pcsim.interrupts import deferred_interrupt
from pcsim.resources import install

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Function = TypeVar("Function", bound="Callable[..., Any]")

try:
    NUMBA: Any = import_module("numba")
    EXTENDING: Any = import_module("numba.core.extending")
    TYPES: Any = import_module("numba.core.types")
    CGUTILS: Any = import_module("numba.core.cgutils")
    IR: Any = import_module("llvmlite.ir")
except ImportError as missing:
    message = f"engine 'numba' needs Numba: {install('numba')}"
    raise ImportError(message) from missing

OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": False}


def stamp() -> str:
    """Return a digest of this package's sources, and of formulas that it compiles.

    Numba takes cached code for fresh as long as the file of its own function is unchanged; kernels also
    contain what they call in other files.
    """
    digest = sha256()
    for path in (*sorted(Path(__file__).parent.glob("*.py")), Path(optimisers.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


STAMP = stamp()


def jit(function: Function) -> Function:
    """Compile a function for each signature it is called with, and keep the code on disk.

    The code lies beside the source, or in the user's cache folder where that cannot be written to; where
    neither can, it is compiled in every process.
    """
    try:
        compiled: Any = NUMBA.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:
        compiled = NUMBA.njit(**OPTIONS)(function)
    else:
        compiled._cache._cache_file._source_stamp = STAMP
    compiled.compile = deferred_interrupt()(compiled.compile)
    result: Function = compiled
    return result


def inline(function: Function) -> Function:
    """Compile a function into each of its callers, so that loops around it vectorise; none of it lies on disk."""
    result: Function = NUMBA.njit(forceinline=True, **OPTIONS)(function)
    return result


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of compiled code that is written in LLVM's terms.

    ``function`` takes the typing context and the types of the arguments, and returns a signature and a code generator.
    """
    result: Callable[..., Any] = EXTENDING.intrinsic(function)
    return result


def element(context: Any, builder: Any, array: Any, value: Any, index: Any) -> Any:
    """Return the pointer to an element of an array, or of a pointer's, counted in memory from the first one."""
    first = value if isinstance(array, TYPES.CPointer) else context.make_array(array)(context, builder, value).data
    return builder.gep(first, [index])


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the element at ``index``, counted in memory from the array's first one, whatever its dimensions.

    Neither wraps round nor checks bounds, and so, unlike indexing, stays out of the way of vectorisation.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(element(context, builder, array, *arguments))

    return array.dtype(array, TYPES.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Set the element at ``index``, counted in memory from the array's first one, whatever its dimensions."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], element(context, builder, array, *arguments[:2]))
        return context.get_dummy_value()

    return TYPES.void(array, TYPES.intp, array.dtype), generate


@intrinsic
def add_reordered(typing: Any, total: Any, more: Any) -> Any:
    """Return total + more as part of a sum that may be added in any one order, so that it vectorises."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("reassoc",))

    return total(total, total), generate


def switch(functions: Sequence[Any]) -> Any:
    """Return a function of compiled code that calls one of several, given its number and what all of them take."""

    def call(typing: Any, number: Any, arguments: Any) -> Any:
        kinds = [typing.resolve_value_type(function) for function in functions]
        signatures = [kind.get_call_type(typing, tuple(arguments), {}) for kind in kinds]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            numbers = CGUTILS.unpack_tuple(builder, values[1])
            end = builder.append_basic_block("end")
            chosen = builder.switch(values[0], end)
            for place, (kind, each) in enumerate(zip(kinds, signatures, strict=True)):
                block = builder.append_basic_block(f"case.{place}")
                chosen.add_case(IR.Constant(values[0].type, place), block)
                builder.position_at_end(block)
                function = context.get_function(kind, each)
                for library in getattr(function, "libs", ()):
                    context.active_code_library.add_linking_library(library)
                function(builder, numbers)
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return TYPES.void(number, arguments), generate

    return intrinsic(call)
