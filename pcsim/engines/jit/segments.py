"""Segments: lists of instructions, each a kernel, what it works on, and the rows that each thread has of it."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.kernels.jobs import INSTRUCTION, RANGE
from pcsim.engines.jit.kernels.native import entry
from pcsim.engines.jit.projections import shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.engines.jit.table import WholeNumbers


@dataclass(frozen=True, eq=False)
class Instruction:
    """One kernel on one thing.

    Attributes
    ----------
    kernel : the compiled function; None: all threads wait for each other
    operands : the place of its record
    ranges : (threads, 2), first row and last + 1 of each thread
    """

    kernel: Any
    operands: int
    ranges: WholeNumbers

    @property
    def name(self) -> str:
        """The name of the kernel."""
        return "wait" if self.kernel is None else str(self.kernel.py_func.__name__)


@dataclass(frozen=True, eq=False)
class Compiled:
    """Instructions, and the same as numbers: (instructions, numbers of one)."""

    instructions: tuple[Instruction, ...]
    numbers: WholeNumbers


@dataclass(frozen=True)
class ArrayCall:
    """One array call over the whole batch: what a step without a kernel does, given a mode; and which step that is.

    ``act`` returns whether all numbers are finite.
    """

    label: str
    act: Callable[[Any, int], bool]


Segment = Compiled | ArrayCall
"""A part of a tick."""


@dataclass(frozen=True)
class Sharing:
    """How threads share out work: samples, where each has all rows, or else rows, where they wait for each other."""

    threads: int
    by_sample: bool
    dtype: np.dtype[Any]
    barrier: Instruction = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "barrier", Instruction(None, 0, np.zeros((self.threads, 2), np.int64)))

    def each(
        self,
        kernel: Any,
        operands: int,
        last: int = 0,
        first: int = 0,
        loads: WholeNumbers | None = None,
        *,
        whole: bool = False,
    ) -> Instruction:
        """Return the instruction that runs a kernel for some rows, shared out among the threads.

        ``loads`` is the work of each row, where they are not alike; ``whole``: one thread has all rows.
        """
        if loads is None:
            ends = np.linspace(first, last, self.threads + 1).astype(np.int64)
        else:
            last, ends = first + len(loads), first + shares(loads, self.threads)
        if whole:
            ends[1:] = last
        if self.by_sample:
            return Instruction(kernel, operands, np.array([[first, last]] * self.threads))
        return self.between(kernel, operands, ends)

    def between(self, kernel: Any, operands: int, ends: WholeNumbers) -> Instruction:
        """Return the instruction that runs a kernel for the rows between these (threads + 1,) bounds."""
        return Instruction(kernel, operands, np.stack([ends[:-1], ends[1:]], axis=1))

    def segment(self, *phases: Sequence[Instruction]) -> list[Compiled]:
        """Return instructions as one segment, none if there are none.

        Where threads share rows out, all wait for each other after each phase.
        """
        wait = [] if self.by_sample else [self.barrier]
        lines = [line for phase in phases if len(phase) for line in (*phase, *wait)]
        return [self.compiled(lines)] if lines else []

    def compiled(self, lines: Sequence[Instruction]) -> Compiled:
        """Return instructions, and as numbers; kernels are compiled or taken from the disk."""
        codes = [0 if line.kernel is None else entry(line.kernel, self.dtype) for line in lines]
        heads = INSTRUCTION.rows(kernel=codes, operands=[line.operands for line in lines])
        ranges = np.stack([line.ranges for line in lines]).reshape(len(lines), RANGE.size * self.threads)
        return Compiled(tuple(lines), np.ascontiguousarray(np.concatenate([heads, ranges], axis=1)))
