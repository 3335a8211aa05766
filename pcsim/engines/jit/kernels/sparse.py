"""Sparse products: the synapses of a projection in blocks of receivers, summed in one order whatever the threads.

A block is a range of receiving neurons whose sums stay in a core's near cache. Its synapses lie sorted by delay, then
by sending neuron: what is sent is read front to back, and only sums are reached at random. So each sum runs by delay,
then by sender, which is the order of ``Synapses``, on any number of threads; a block is written by one thread, and
nothing is atomic. Forward, neurons after receive values; backward, neurons before receive errors, from a delay buffer
of past ticks.

A synapse takes 4 bytes and its weight: place in the block times 2^16 plus place in a segment of 2^16 senders.
"""
# Numba compiles most of these: plain loops over arrays, which are flat and read from an offset on.

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.kernels.compiled import IR, TYPES, inline, intrinsic, jit, load, store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcsim.ops.synapses.synapse import Synapses

RECEIVERS = 16384
"""Most receivers of a block: 64 KiB of float32 sums."""

RECEIVERS_DELAYED = 65536
"""Most receivers of a block where there are several delays, so that most of what is read is still used."""

SENDERS = 65536
"""Senders of a segment, as many as 16 bits tell apart."""

LEAST = 4096
"""Synapses that make a block worth having."""

BLOCKS = 64
"""Blocks that a projection is cut into where it has synapses enough, so that threads share it evenly."""


FLUSHING = {"x86_64": 0x8040, "amd64": 0x8040, "aarch64": 1 << 24, "arm64": 1 << 24}
"""Bits of the floating-point control of a core that take subnormal numbers, read or computed, for zero."""

MACHINE = platform.machine().lower()


def read_control(builder: Any) -> Any:
    """Return this core's floating-point control; 0 on a machine that is not in ``FLUSHING``."""
    whole = IR.IntType(64)
    if MACHINE in ("x86_64", "amd64"):
        place = builder.alloca(IR.IntType(32))
        byte = IR.IntType(8).as_pointer()
        _call(builder, "llvm.x86.sse.stmxcsr", IR.VoidType(), [builder.bitcast(place, byte)])
        return builder.zext(builder.load(place), whole)
    if MACHINE in FLUSHING:
        return _call(builder, "llvm.aarch64.get.fpcr", whole, [])
    return IR.Constant(whole, 0)


def write_control(builder: Any, control: Any) -> None:
    """Set this core's floating-point control."""
    if MACHINE in ("x86_64", "amd64"):
        place = builder.alloca(IR.IntType(32))
        builder.store(builder.trunc(control, IR.IntType(32)), place)
        byte = IR.IntType(8).as_pointer()
        _call(builder, "llvm.x86.sse.ldmxcsr", IR.VoidType(), [builder.bitcast(place, byte)])
    elif MACHINE in FLUSHING:
        _call(builder, "llvm.aarch64.set.fpcr", IR.VoidType(), [control])


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = IR.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(builder.module.declare_intrinsic(name, (), kind), arguments)


@intrinsic
def flush(typing: Any, array: Any) -> Any:
    """Take float32 numbers below 1.2e-38 for zero on this thread, which then are not slower than others.

    Returns what ``restore`` takes. Where the array is not float32, and on an unknown machine, nothing changes.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        control = read_control(builder)
        if array.dtype == TYPES.float32:
            write_control(builder, builder.or_(control, IR.Constant(control.type, FLUSHING.get(MACHINE, 0))))
        return control

    return TYPES.int64(array), generate


@intrinsic
def restore(typing: Any, array: Any, control: Any) -> Any:
    """Set the floating-point control of this thread to what it was before ``flush``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if array.dtype == TYPES.float32:
            write_control(builder, arguments[1])
        return context.get_dummy_value()

    return TYPES.void(array, TYPES.int64), generate


@dataclass(frozen=True)
class Blocks:
    """One direction of a projection.

    Attributes
    ----------
    codes : (synapses,) uint32, place of the receiver in its block << 16 | place of the sender in its segment
    order : (synapses,), the number of each synapse in the order of ``Synapses``
    starts : (blocks * delays * segments + 1,) int64, where each tile begins: block, delay, segment of senders
    bounds : (blocks + 1,) int64, the first receiver of each block
    delays : distinct delays
    segments : segments of senders
    """

    codes: NDArray[np.uint32]
    order: NDArray[np.signedinteger]
    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]
    delays: int
    segments: int

    def shares(self, parts: int) -> NDArray[np.int64]:
        """Return (parts + 1,), the first block of each part, such that parts have nearly equally many synapses."""
        ends = self.starts[:: self.delays * self.segments]
        middles = (ends[1:] + ends[:-1]) / 2
        return np.searchsorted(middles, np.linspace(0, ends[-1] + 1, parts + 1)).astype(np.int64)


def forward_blocks(synapses: Synapses) -> Blocks:
    """Return the synapses for z[post] = sum of w x(t - delay)[pre]."""
    return _blocks(synapses.post, synapses.pre, synapses, synapses.units, synapses.fan_out)


def backward_blocks(synapses: Synapses) -> Blocks:
    """Return the synapses for r[pre] = sum of w g(t - delay)[post]."""
    return _blocks(synapses.pre, synapses.post, synapses, synapses.fan_out, synapses.units)


def _blocks(receiver: Any, sender: Any, synapses: Synapses, receivers: int, senders: int) -> Blocks:
    """Sort by block, delay and sender, by counting: O(synapses)."""
    delays, segments = max(1, len(synapses.delays)), max(1, -(-senders // SENDERS))
    share = 1 if delays == 1 else RECEIVERS_DELAYED // RECEIVERS
    bounds = _bounds(np.bincount(receiver, minlength=receivers), share)
    block = np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(bounds))
    kind = np.zeros(max(synapses.delays, default=0) + 1, np.int32)
    kind[list(synapses.delays)] = np.arange(len(synapses.delays))
    starts = np.zeros((len(bounds) - 1) * delays * segments + 1, np.int64)
    codes = np.empty(len(receiver), np.uint32)
    order: NDArray[np.signedinteger] = np.empty(len(receiver), np.int32 if len(receiver) < 2**31 else np.int64)
    tile(receiver, sender, synapses.delay, kind, block, bounds, delays, segments, starts, codes, order)
    sort_tiles(starts, codes, order)
    return Blocks(codes, order, starts, bounds, delays, segments)


def _bounds(counts: NDArray[np.int64], share: int) -> NDArray[np.int64]:
    """Cut receivers into blocks, nearly equal in synapses; blocks are ``share`` times as large as the least."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    blocks = min(BLOCKS // share, max(1, total // LEAST))
    cuts = np.searchsorted(ends, np.linspace(0, total, blocks + 1)[1:-1]) + 1
    firsts = np.unique([0, *cuts.tolist()])
    lasts = np.append(firsts[1:], len(counts))
    pieces = [np.arange(first, last, share * RECEIVERS) for first, last in zip(firsts, lasts, strict=True)]
    return np.concatenate([*pieces, [len(counts)]]).astype(np.int64)


@jit
def tile(
    receiver: Any,
    sender: Any,
    delay: Any,
    kind: Any,
    block: Any,
    bounds: Any,
    delays: int,
    segments: int,
    starts: Any,
    codes: Any,
    order: Any,
) -> None:
    """Sort synapses stably into tiles: block, delay, segment of senders. Sets ``starts``, ``codes`` and ``order``."""
    for i in range(len(receiver)):
        starts[(block[receiver[i]] * delays + kind[delay[i]]) * segments + sender[i] // SENDERS + 1] += 1
    for i in range(1, len(starts)):
        starts[i] += starts[i - 1]
    place = starts.copy()
    for i in range(len(receiver)):
        row = block[receiver[i]]
        at = (row * delays + kind[delay[i]]) * segments + sender[i] // SENDERS
        codes[place[at]] = (receiver[i] - bounds[row]) << 16 | sender[i] % SENDERS
        order[place[at]] = i
        place[at] += 1


@jit
def sort_tiles(starts: Any, codes: Any, order: Any) -> None:
    """Sort each tile stably by sender: two counting sorts, by the low and by the high byte of its place."""
    most = 0
    for at in range(len(starts) - 1):
        most = max(most, starts[at + 1] - starts[at])
    codes_then, order_then = np.empty(most, codes.dtype), np.empty(most, order.dtype)
    for at in range(len(starts) - 1):
        first, last = starts[at], starts[at + 1]
        if not ascending(codes[first:last]):
            by_byte(codes[first:last], order[first:last], 0, codes_then, order_then)
            by_byte(codes_then[: last - first], order_then[: last - first], 8, codes[first:last], order[first:last])


@jit
def ascending(codes: Any) -> bool:
    """Tell whether a tile is sorted by sender."""
    for i in range(1, len(codes)):  # noqa: SIM110
        if (codes[i] & 0xFFFF) < (codes[i - 1] & 0xFFFF):
            return False
    return True


@jit
def by_byte(codes: Any, order: Any, shift: int, codes_then: Any, order_then: Any) -> None:
    """Copy a tile, sorted stably by one byte of its codes."""
    place = np.zeros(257, np.int64)
    for code in codes:
        place[(code >> shift & 0xFF) + 1] += 1
    for i in range(1, 257):
        place[i] += place[i - 1]
    for i in range(len(codes)):
        byte = codes[i] >> shift & 0xFF
        codes_then[place[byte]] = codes[i]
        order_then[place[byte]] = order[i]
        place[byte] += 1


@inline
def add_tile(codes: Any, weights: Any, first: int, last: int, source: Any, at: int, target: Any, to: int) -> None:
    """Add the products of one tile's synapses to its block's sums."""
    for i in range(first, last):
        code = load(codes, i)
        row = to + np.int64(code >> np.uint32(16))
        sent = load(source, at + np.int64(code & np.uint32(0xFFFF)))
        store(target, row, load(target, row) + load(weights, i) * sent)


@jit
def products(
    codes: Any,
    starts: Any,
    bounds: Any,
    delays: int,
    segments: int,
    weights: Any,
    source: Any,
    rows: Any,
    apart: int,
    target: Any,
    to: int,
    far: int,
    samples: int,
    low: int,
    high: int,
) -> None:
    """Set the sums of the receivers in blocks ``low`` to ``high``.

    Delays are the outer loop, so that what was sent in one tick stays in the shared cache while it is read.

    ``codes`` to ``segments`` are of ``Blocks``, ``weights`` in the order of the blocks. What is sent is in ``source``:
    at ``rows``, (delays,), the neurons of the first sample as they were each delay ago, samples ``apart``. Sums go to
    ``target``, from the first receiver at ``to`` on, samples ``far`` apart.
    """
    for kind in range(delays):
        for block in range(low, high):
            if kind == 0:
                for sample in range(samples):
                    for i in range(bounds[block], bounds[block + 1]):
                        store(target, to + sample * far + i, 0.0)
            for segment in range(segments):
                at = (block * delays + kind) * segments + segment
                for sample in range(samples):
                    add_tile(
                        codes,
                        weights,
                        starts[at],
                        starts[at + 1],
                        source,
                        rows[kind] + sample * apart + segment * SENDERS,
                        target,
                        to + sample * far + bounds[block],
                    )


@jit
def updates(
    codes: Any,
    order: Any,
    starts: Any,
    bounds: Any,
    delays: int,
    segments: int,
    error: Any,
    to: int,
    far: int,
    source: Any,
    rows: Any,
    apart: int,
    update: Any,
    at: int,
    samples: int,
    low: int,
    high: int,
) -> None:
    """Add the updates g[post] x(t - delay)[pre], summed over the batch, of forward blocks ``low`` to ``high``.

    ``error`` holds g from ``to`` on, samples ``far`` apart; ``source``, ``rows`` and ``apart`` are what ``products``
    takes; to ``update`` is added, from ``at`` on, one number for each synapse in the order of ``Synapses``.
    """
    for block in range(low, high):
        for kind in range(delays):
            for segment in range(segments):
                here = (block * delays + kind) * segments + segment
                sender, receiver = rows[kind] + segment * SENDERS, to + bounds[block]
                for i in range(starts[here], starts[here + 1]):
                    pre = sender + np.int64(load(codes, i) & np.uint32(0xFFFF))
                    post = receiver + np.int64(load(codes, i) >> np.uint32(16))
                    total = load(error, post) * load(source, pre)
                    for sample in range(1, samples):
                        total += load(error, post + sample * far) * load(source, pre + sample * apart)
                    place = at + np.int64(load(order, i))
                    store(update, place, load(update, place) + total)


@jit
def arrange(order: Any, starts: Any, tiles: int, parameter: Any, at: int, weights: Any, low: int, high: int) -> None:
    """Copy the weights of blocks ``low`` to ``high``, of ``tiles`` tiles each, from the order of ``Synapses``."""
    for i in range(starts[low * tiles], starts[high * tiles]):
        store(weights, i, load(parameter, at + np.int64(load(order, i))))
