"""A device played by the host: arrays that NumPy cannot reach unasked, as strict as CuPy's, with every look counted.

Kernels are compiled from their CUDA source by the C++ compiler of the machine, which plays the threads one by one.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.special

if TYPE_CHECKING:
    from pathlib import Path

OPERATORS = """
    add sub mul truediv pow mod radd rsub rmul rtruediv rpow rmod iadd isub imul itruediv iand ior
    and or xor eq ne lt le gt ge neg invert abs
"""
METHODS = "reshape astype copy any all sum max min transpose swapaxes ravel"
FUNCTIONS = """
    zeros empty ones zeros_like ones_like full_like empty_like add subtract multiply divide matmul einsum square sqrt
    exp log sin cos tan tanh logaddexp maximum minimum isfinite logical_and where broadcast_to concatenate stack sum max
    ascontiguousarray sign floor ceil rint expm1 log1p arcsin arccos arctan sinh cosh arcsinh arccosh arctanh
    min prod mean cumsum cumprod moveaxis flip pad mod fmod take tile full triu tril arange eye argsort sort
    searchsorted take_along_axis
"""

LAUNCH = """
struct Index { long long x; };
static thread_local Index blockIdx, blockDim, threadIdx;
#define __global__
%s
extern "C" void launch(long long blocks, long long threads, void** a, long long segments, long long width) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
            segment_sums(
                (PLACE*)a[0], (START*)a[1], (START*)a[2], (REAL*)a[3], (REAL*)a[4], (REAL*)a[5], segments, width);
}
"""

BUILT: dict[str, Any] = {}
"""Kernels by their source, for the whole test run."""


class DeviceArray:
    """An array that only its own namespace may touch."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, device: Device, inner: np.ndarray) -> None:
        self.device, self.inner = device, inner

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion of a device array to NumPy")

    def __bool__(self) -> bool:
        self.device.seen["look"] += 1
        return bool(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Any:
        return (self[row] for row in range(len(self.inner)))

    def __getitem__(self, index: Any) -> DeviceArray:
        return self.device.wrap(self.inner[self._index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.inner[self._index(index)] = self.device.unwrap(value)

    def _index(self, index: Any) -> Any:
        if isinstance(index, tuple):
            return tuple(map(self._index, index))
        if isinstance(index, np.ndarray):
            self.device.seen["host index"] += 1
        if isinstance(index, DeviceArray) and index.dtype == bool:
            self.device.seen["look"] += 1
        return index.inner if isinstance(index, DeviceArray) else index

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "dtype", "size"):
            return getattr(self.inner, name)
        if name == "T":
            return self.device.wrap(self.inner.T)
        if name in METHODS.split():
            return lambda *args, **kwargs: self.device.call(getattr(self.inner, name), args, kwargs)
        raise AttributeError(name)


def _operator(name: str) -> Any:
    def apply(self: DeviceArray, *others: Any) -> Any:
        with np.errstate(all="ignore"):
            found = getattr(self.inner, f"__{name}__")(*map(self.device.unwrap, others))
        if found is NotImplemented:
            return found
        return self if found is self.inner else self.device.wrap(found)

    return apply


for operator in OPERATORS.split():
    setattr(DeviceArray, f"__{operator}__", _operator(operator))


class Device:
    """The namespace: NumPy's functions on device arrays alone; ``seen`` counts looks, copies and host indices."""

    __name__ = "cupy"
    ndarray = DeviceArray

    def __init__(self, folder: Path, free: int = 1 << 40) -> None:
        self.folder, self.seen = folder, Counter()
        for name in FUNCTIONS.split():
            setattr(self, name, self._function(getattr(np, name)))
        window_view = self._function(np.lib.stride_tricks.sliding_window_view)
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(sliding_window_view=window_view))
        self.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (free, 1 << 40)))

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_bytes=lambda: 0)

    def wrap(self, found: Any) -> Any:
        return DeviceArray(self, np.asarray(found)) if isinstance(found, np.ndarray | np.generic) else found

    def unwrap(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if isinstance(value, list | tuple):
            return type(value)(map(self.unwrap, value))
        return value.inner if isinstance(value, DeviceArray) else value

    def call(self, function: Any, args: Any, kwargs: Any) -> Any:
        kwargs = {key: self.unwrap(value) for key, value in kwargs.items()}
        with np.errstate(all="ignore"):  # a device never warns
            return self.wrap(function(*map(self.unwrap, args), **kwargs))

    def _function(self, function: Any) -> Any:
        return lambda *args, **kwargs: self.call(function, args, kwargs)

    def asarray(self, value: Any, dtype: Any = None) -> DeviceArray:
        self.seen["brought"] += isinstance(value, np.ndarray)
        inner = value.inner if isinstance(value, DeviceArray) else np.array(value)
        return DeviceArray(self, np.asarray(inner, dtype))

    def asnumpy(self, array: DeviceArray) -> np.ndarray:
        self.seen["copy"] += 1
        return array.inner.copy()

    def RawKernel(self, code: str, name: str) -> Any:
        if code not in BUILT:
            path = self.folder / f"{name}{len(BUILT)}"
            path.with_suffix(".cpp").write_text(LAUNCH % code)
            command = ["c++", "-O1", "-shared", "-fPIC", "-o", f"{path}.so", f"{path}.cpp"]
            subprocess.run(command, check=True)
            BUILT[code] = ctypes.CDLL(f"{path}.so").launch
        return lambda grid, block, args: self._launch(BUILT[code], grid, block, args)

    def _launch(self, kernel: Any, grid: Any, block: Any, args: Any) -> None:
        arrays = [array.inner for array in args[:-2]]
        assert all(array.flags.c_contiguous for array in arrays)
        assert all(isinstance(size, np.int64) for size in args[-2:])
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        kernel(
            *map(ctypes.c_longlong, (*grid, *block)), pointers, *(ctypes.c_longlong(int(size)) for size in args[-2:])
        )


def make_device(folder: Path, patch: pytest.MonkeyPatch, **how: int) -> Device:
    """Return a device, or skip the test where nothing compiles its kernels."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler plays the kernels of the device")
    device = Device(folder, **how)
    special = ModuleType("cupyx.scipy.special")
    for name in ("erf", "expit", "ndtr"):
        setattr(special, name, device._function(getattr(scipy.special, name)))
    patch.setitem(sys.modules, "cupyx.scipy.special", special)
    return device
