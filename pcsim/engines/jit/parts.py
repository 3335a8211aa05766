"""What each thread has of its own: samples, scratch, and flags of what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.jit import pool
from pcsim.engines.jit.kernels.common import PART
from pcsim.engines.jit.kernels.native import address_of
from pcsim.engines.jit.sizing import blocks_of, work_of

if TYPE_CHECKING:
    from pcsim.engines.jit.layout import Layout
    from pcsim.engines.jit.segments import Sharing
    from pcsim.engines.jit.table import WholeNumbers

LONG_AGO = -(1 << 40)
"""A tick before every run."""

REGIONS = 4
"""Regions of scratch."""


class Parts:
    """The parts of a session: one for each thread, with its samples, and one for each thread with all samples.

    Threads that share out the samples note what has changed for themselves; others share their notes.

    Attributes
    ----------
    shared, whole : (threads,), places of the records, with the samples of the thread and with all
    faults : (2, threads), where in the table it is noted that some number became NaN or infinite
    """

    def __init__(self, layout: Layout, sharing: Sharing) -> None:
        self.layout, self.batch = layout, layout.batch
        threads, by_sample = sharing.threads, sharing.by_sample
        self.blocks = blocks_of(layout.arrays)
        # one thread has all of it, whatever the threads: it may sum squares while it moves
        self.alone = self.blocks == 1 and work_of(layout.arrays) <= pool.WORTH_SHARING
        self.bounds = layout.table.add(np.arange(self.blocks + 1) * self.batch // self.blocks)
        self.sums = -(-self.blocks // threads) if by_sample else self.blocks
        self.notes = [self._write_notes() for _ in range(threads if by_sample else 1)]
        region = self.batch * layout.widest + layout.fixed
        shared, whole = [], []
        for thread in range(threads):
            scratch = address_of(layout.memory.new(f"scratch of thread {thread}", REGIONS * region))
            notes = self.notes[thread if by_sample else 0]
            ends = (thread, thread + 1) if by_sample else (0, threads)
            blocks = [end * self.blocks // threads for end in ends]
            shared.append(self._write_part(thread, blocks, scratch, region, notes))
            whole.append(self._write_part(thread, [0, self.blocks], scratch, region, notes))
        self.shared, self.whole = np.array(shared, np.int64), np.array(whole, np.int64)
        self.faults = np.array([self.shared, self.whole]) + PART.offset("fault")
        self.table: WholeNumbers = np.zeros(0, np.int64)

    def _write_notes(self) -> dict[str, int]:
        """Make room for notes: who has moved, whose error may have changed, when delay lines last changed."""
        layout = self.layout
        counts = {
            "moved": layout.numbers,
            "changed": layout.numbers,
            "late": layout.late_messages,
            "buffers": layout.buffer_notes,
        }
        return {name: layout.table.add(np.zeros(count, np.int64)) for name, count in counts.items()}

    def _write_part(self, thread: int, blocks: list[int], scratch: int, region: int, notes: dict[str, int]) -> int:
        low, high = (block * self.batch // self.blocks for block in blocks)
        samples = {"low": low, "high": high, "scratch": scratch, "region": region}
        samples |= {"blocks": self.bounds + blocks[0], "last_block": self.bounds + blocks[1] + 1}
        samples["single"] = self.alone
        noted = {"fault": 0, "squares": 0, "apart": 0, "since": 0, "active": self.layout.active, "sums": self.sums}
        return self.layout.table.write(PART, f"thread {thread}", **samples, **notes, **noted)

    def use(self, table: WholeNumbers) -> None:
        """Take the table, now that it is complete."""
        self.table = table

    # -- faults -------------------------------------------------------------------------------------------

    def faulty(self) -> bool:
        """Return whether some number became NaN or infinite in a tick."""
        return bool(self.table[self.faults[0]].any())

    def faulty_update(self) -> bool:
        """Return whether something learnt became NaN or infinite."""
        return bool(self.table[self.faults[1]].any())

    def note_fault(self) -> None:
        """Note that some number became NaN or infinite in a tick."""
        self.table[self.faults[0, 0]] = 1

    def forget_faults(self) -> None:
        """Forget all faults."""
        self.table[self.faults] = 0

    # -- what has changed -----------------------------------------------------------------------------------

    def moved(self, vertices: WholeNumbers) -> np.ndarray:
        """Return which vertices have moved for some thread, of the shape of ``vertices``; none for -1."""
        return self._any("moved", vertices)

    def changed(self, vertices: WholeNumbers) -> np.ndarray:
        """Return which vertices have an error that may have changed for some thread; none for -1."""
        return self._any("changed", vertices)

    def _any(self, name: str, vertices: WholeNumbers) -> np.ndarray:
        flags = [self.table[notes[name] + vertices] != 0 for notes in self.notes]
        return np.asarray(np.logical_or.reduce(flags) & (vertices >= 0))

    def mark_changed(self, vertices: WholeNumbers, changed: np.ndarray) -> None:
        """Note for all threads whose error may have changed."""
        for notes in self.notes:
            self.table[notes["changed"] + vertices] = changed

    def mark_buffers(self, tick: int) -> None:
        """Note that delay buffers last changed at this tick, and that nothing in them is zero where it is later."""
        for notes in self.notes:
            self.table[notes["buffers"] :][: self.layout.buffer_notes] = tick

    def mark_all(self, tick: int) -> None:
        """Note that everything may have moved, and that late messages last changed at this tick."""
        self._mark(everyone=True, tick=tick)

    def mark_start(self) -> None:
        """Note that nothing has moved but what is not at its feedforward value."""
        self._mark(everyone=False, tick=LONG_AGO)
        arrays = self.layout.arrays
        for shape, units in arrays.units.items():
            first = 0 if arrays.task.initial else units.group.free
            away = (units.deviation[first:] != 0).any(axis=tuple(range(1, units.deviation.ndim)))
            for notes in self.notes:
                self.table[notes["moved"] + self.layout.first[shape] + first :][: len(away)] = away

    def _mark(self, *, everyone: bool, tick: int) -> None:
        layout = self.layout
        for notes in self.notes:
            self.table[notes["moved"] :][: layout.numbers] = everyone
            self.table[notes["changed"] :][: layout.numbers] = everyone
            self.table[notes["late"] :][: layout.late_messages] = tick
