"""Sums of rows by segment on a device, in one fixed order.

Sparse products of a device library may add up by atomic operations, or in an order of their own choice, and so differ
from run to run. Here one thread adds up one element, one term after the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace

THREADS = 256
"""Threads of a block."""

NAMES = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long"}

SOURCE = """
extern "C" __global__ void segment_sums(
    const PLACE* places, const START* first, const START* after, const REAL* x, const REAL* weight, REAL* out,
    const long long segments, const long long width)
{
    const long long element = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (element >= segments * width) return;
    const long long segment = element / width, column = element % width;
    REAL sum = 0;
    for (START n = first[segment]; n < after[segment]; ++n) sum += TERM;
    out[element] = sum;
}
"""

PLAIN, WEIGHTED = "x[places[n] * width + column]", "weight[n] * x[places[n] * width + column]"


def source(place: str, start: str, real: str, *, weighted: bool) -> str:
    """Return the kernel for these number formats; ``weight`` is read only where it is ``weighted``."""
    types = f"typedef {NAMES[place]} PLACE;\ntypedef {NAMES[start]} START;\ntypedef {NAMES[real]} REAL;\n"
    return types + SOURCE.replace("TERM", WEIGHTED if weighted else PLAIN)


@lru_cache(maxsize=32)
def _kernel(xp: Namespace, place: str, start: str, real: str, weighted: bool) -> Any:
    return xp.RawKernel(source(place, start, real, weighted=weighted), "segment_sums")


def segment_sums(
    xp: Namespace, places: Array, first: Array, after: Array, x: Array, weight: Array | None = None
) -> Array:
    """Return for each segment s the sum of ``x[places[n]]`` over ``first[s] <= n < after[s]``, in this order.

    Parameters
    ----------
    places : (terms,), rows of x
    first, after : (segments,), int32 or int64 as ``places`` are
    x : (rows, width), float32 or float64; the number format of the sums
    weight : (terms,), what each term is multiplied by

    Returns
    -------
    (segments, width)
    """
    x, places, first, after = (xp.ascontiguousarray(array) for array in (x, places, first, after))
    weight = x if weight is None else xp.ascontiguousarray(weight)
    out = xp.empty((first.shape[0], x.shape[1]), x.dtype)
    if out.size:
        kernel = _kernel(xp, str(places.dtype), str(first.dtype), str(x.dtype), weight is not x)
        sizes = np.int64(out.shape[0]), np.int64(out.shape[1])
        kernel((-(-out.size // THREADS),), (THREADS,), (places, first, after, x, weight, out, *sizes))
    return out
