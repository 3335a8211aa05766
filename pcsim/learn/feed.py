"""The samples of training: which of them, in which order, and the arrays of a batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pcsim.errors import wrong
from pcsim.graph.initialise import stream
from pcsim.scenario.datasets.dataset import at
from pcsim.scenario.sample_reader import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pcsim.scenario.scenario import Scenario
    from pcsim.scenario.train_document import TrainEntry

Array = np.ndarray
Arrays = dict[str, Array]
Take = Callable[[Array], Array]

WHOLE_BYTES = 2**30
"""Samples of up to so many bytes are loaded at once; of more, each batch is read when it is due."""


class Reader(Protocol):
    """Whatever has samples: which there are, and the arrays of some."""

    def available(self, split: str | None = None) -> int | None:
        """Return how many samples there are; None: as many as are asked for."""

    def columns(self, section: str, split: str | None = None, /) -> Mapping[str, Column]:
        """Return {source or output: what takes its samples}; ``section`` is ``inputs`` or ``targets``."""


@dataclass(frozen=True)
class GivenSamples:
    """Samples that a call brings: {source or output: (samples, *shape)}."""

    given: Mapping[str, Array]
    wanted: Mapping[str, Array]

    def available(self, split: str | None = None) -> int | None:
        """Return how many samples there are; raises InputError for a split: there are no others."""
        if split is not None:
            raise wrong(("train",), f"split {split!r} is of data sets, and the samples are given as arrays: use start")
        return len(next(iter(self.wanted.values())))

    def columns(self, section: str, _split: str | None = None) -> Mapping[str, Column]:
        """Return {source or output: what takes its samples}."""
        arrays = self.given if section == "inputs" else self.wanted
        return {name: Column(partial(at, array), at_hand=True) for name, array in arrays.items()}


@dataclass(frozen=True)
class Split:
    """Samples that belong together: those of training, or those that are judged by."""

    reader: Reader
    places: range
    split: str | None = None

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, order: Array) -> tuple[Arrays, Arrays]:
        """Return inputs and targets of some samples, by their number within the split."""
        places = np.asarray(order)
        inputs, targets = ({name: take(places) for name, take in column.items()} for column in self._columns)
        return inputs, targets

    @property
    def at_hand(self) -> bool:
        """Whether a batch costs little more than a copy of its numbers; reads what is read once."""
        return all(column.at_hand or self._few for each in self._sections for column in each.values())

    @cached_property
    def _sections(self) -> tuple[Mapping[str, Column], Mapping[str, Column]]:
        return self.reader.columns("inputs", self.split), self.reader.columns("targets", self.split)

    @cached_property
    def _few(self) -> bool:
        """Whether what is not at hand is so little that it is all read at once."""
        first = [column.take(self.places[:1]) for each in self._sections for column in each.values()]
        return sum(array.nbytes for array in first) * len(self) <= WHOLE_BYTES

    @cached_property
    def _columns(self) -> tuple[dict[str, Take], dict[str, Take]]:
        """Inputs and targets: {name: what takes samples by their number within the split}."""
        inputs, targets = ({name: self._column(column) for name, column in each.items()} for each in self._sections)
        return inputs, targets

    def _column(self, column: Column) -> Take:
        if not column.at_hand and self._few:
            return column.take(self.places).__getitem__
        return lambda places: column.take(places + self.places.start)


@contextmanager
def read_meanwhile(split: Split) -> Iterator[None]:
    """Read what is read once in a thread of its own; in the end raises InputError where it cannot be read."""
    with ThreadPoolExecutor(1, thread_name_prefix="pcsim-feed") as pool:
        reading = pool.submit(split.batch, np.zeros(1, np.intp))
        yield
        reading.result()


def fed(split: Split, batches: Iterable[Array]) -> Iterator[tuple[Array, Arrays, Arrays]]:
    """Yield each batch: its places, inputs and targets.

    Where samples are not at hand, the next batch is read in a thread of its own while the one before ticks.
    """
    if split.at_hand:
        for places in batches:
            yield places, *split.batch(places)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="pcsim-feed") as pool:
        reading = ((places, pool.submit(split.batch, places)) for places in batches)
        ahead = next(reading, None)
        while ahead is not None:
            (places, read), ahead = ahead, next(reading, None)
            yield places, *read.result()


def splits(reader: Reader, entry: TrainEntry) -> dict[str, Split]:
    """Return the samples of training, and those that ``validate`` and ``test`` keep apart.

    Raises InputError where there are too few.
    """
    apart = {"validation": entry.validate_, "test": entry.test}
    here = {name: split for name, split in apart.items() if split is not None}
    kept = sum(split.samples for split in here.values() if split.start is None and split.split is None)
    first = min((split.start for split in here.values() if split.start and split.split is None), default=None)
    samples = entry.samples or _left(reader, kept, first)
    found = {"train": Split(reader, range(samples))}
    behind = samples
    for name, split in here.items():
        start = split.start if split.start is not None else 0 if split.split else behind
        found[name] = Split(reader, range(start, start + split.samples), split.split)
        behind = max(behind, start + split.samples) if split.split is None else behind
    _check(reader, found)
    return found


def _left(reader: Reader, kept: int, first: int | None) -> int:
    """Return how many samples there are to train on where nothing says how many."""
    available = reader.available() if first is None else first
    if available is None:
        raise wrong(
            ("train", "samples"), "the data have no end: say how many samples to train on, such as samples: 1000"
        )
    if available <= kept:
        before = "" if first is None else " before those that have a start"
        what = f"there are {available} samples{before}, and validate and test keep {kept} apart: none is left"
        raise wrong(("train",), what)
    return available - kept


def _check(reader: Reader, found: Mapping[str, Split]) -> None:
    for name, split in found.items():
        available = reader.available(split.split)
        if available is not None and split.places.stop > available:
            key = {"train": "samples", "validation": "validate", "test": "test"}[name]
            of = f" of split {split.split!r}" if split.split else ""
            wants = f"samples {split.places.start} to {split.places.stop - 1}"
            raise wrong(("train", key), f"{name} takes {wants}, and there are {available}{of}, counted from 0")


def overlaps(found: Mapping[str, Split]) -> list[str]:
    """Return in sentences which samples are judged that are also learnt, or judged twice."""
    pairs = [("validation", "train"), ("test", "train"), ("test", "validation")]
    both = [(one, other) for one, other in pairs if one in found and other in found]
    shared = {
        pair: len(range(max(a.places.start, b.places.start), min(a.places.stop, b.places.stop)))
        for pair in both
        for a, b in [(found[pair[0]], found[pair[1]])]
        if a.split == b.split
    }
    return [f"{count} samples of {one} are also of {other}" for (one, other), count in shared.items() if count]


@dataclass(frozen=True)
class Order:
    """In which order samples are seen: a permutation for each epoch, named by the seed and the epoch alone."""

    seed: int
    samples: int
    batch: int
    shuffle: bool
    keep_remainder: bool

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-self.samples // self.batch) if self.keep_remainder else self.samples // self.batch

    @property
    def sizes(self) -> set[int]:
        """How many samples a batch may have."""
        rest = self.samples % self.batch if self.keep_remainder else 0
        return ({self.batch} if self.samples >= self.batch else set()) | ({rest} if rest else set())

    def batches(self, epoch: int, first: int = 0) -> Iterator[Array]:
        """Yield the samples of each batch of an epoch, from the batch ``first`` on."""
        drawn = stream(self.seed, "order", str(epoch)).permutation(self.samples) if self.shuffle else None
        order = np.arange(self.samples) if drawn is None else drawn
        for number in range(first, self.steps):
            yield order[number * self.batch : (number + 1) * self.batch]


def order_of(scenario: Scenario, entry: TrainEntry, samples: int) -> Order:
    """Return the order of training; raises InputError where not one batch is full and none may be smaller."""
    batch = scenario.document.batch
    order = Order(scenario.document.seed, samples, batch, entry.shuffle, entry.remainder == "keep")
    if not order.steps:
        raise wrong(("train", "remainder"), f"{samples} samples fill no batch of {batch}, and smaller ones are dropped")
    return order
