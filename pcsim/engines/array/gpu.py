"""The array engine on a CUDA device, by CuPy.

A tick is queued without waiting for the device, but where a parameter learns at the arrival of its first error
(``fa-zil``): which vertices those are is asked of the device at every tick. In ``advance`` the host reads nothing
before the last tick; where a number was not finite by then, those ticks are run again one by one, to name the vertex.
Sums of messages run in one fixed order, without atomic operations. Products are of full precision, unless CuPy's own
setting ``CUPY_TF32`` says otherwise. Memory comes from CuPy's pool, which asks the driver only while it grows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcsim.engines.array.memory import DeviceMemory
from pcsim.engines.array.session import ArraySession
from pcsim.engines.updates_only import updates_only
from pcsim.resources import install

if TYPE_CHECKING:
    from pcsim.engines.base import Session, Task


def cupy_on_a_device() -> Any:
    """Return CuPy; raises ImportError where it, or a device, is missing."""
    try:
        cupy: Any = import_module("cupy")
    except ImportError as missing:
        message = f"engine 'cupy' needs CuPy: {install('cuda')}"
        raise ImportError(message) from missing
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        message = f"engine 'cupy' needs a CUDA device: {error}"
        raise ImportError(message) from error
    if not count:
        raise ImportError("engine 'cupy' needs a CUDA device: there is none")
    return cupy


CUPY = cupy_on_a_device()


def start(task: Task) -> Session:
    """Start a run on the device; raises RunError where it does not fit there."""
    return updates_only(task, lambda wanted: ArraySession(wanted, CUPY, DeviceMemory(CUPY)))
