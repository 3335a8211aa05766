"""Sparse products of the compiled engine: against sums written out, bit for bit, on any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from pcsim.engines.jit.kernels import sparse  # noqa: E402
from pcsim.ops.synapses.synapse import arranged  # noqa: E402

if TYPE_CHECKING:
    from pcsim.engines.jit.kernels.sparse import Blocks
    from pcsim.ops.synapses.synapse import Synapses

KINDS = ["float32", "float64"]


def population(count: int, fan_out: int, units: int, delays: tuple[int, ...], seed: int = 0) -> Synapses:
    """Random synapses: many share their pair, and the first and last neurons on both sides have none."""
    rng = np.random.default_rng(seed)
    pre = rng.integers(fan_out // 9, fan_out - fan_out // 9, count)
    post = rng.integers(units // 9, units - units // 9, count)
    return arranged(pre, post, rng.choice(delays, count), fan_out=fan_out, units=units)


CASES = {
    "one delay": population(3000, 131, 97, (0,)),
    "delays with gaps": population(3000, 97, 131, (0, 3, 7, 8)),
    "late only": population(200, 20, 33, (5,)),
    "none": arranged(*np.zeros((3, 0), np.int64), fan_out=5, units=3),
    "one": arranged(np.array([2]), np.array([1]), 1, fan_out=4, units=2),
    "many blocks": population(120_000, 40_000, 70_001, (0, 1)),
    "many segments": population(60_000, 150_001, 300, (0, 2)),
    "one receiver": arranged(np.arange(50_000), np.zeros(50_000, np.int64), 0, fan_out=50_000, units=1),
}


@pytest.fixture(params=CASES)
def synapses(request: Any) -> Synapses:
    return CASES[request.param]


def shares(blocks: Blocks, threads: int) -> list[tuple[int, int]]:
    return list(pairwise(blocks.shares(threads).tolist()))


def play(kernel: Any, arguments: tuple[Any, ...], blocks: Blocks, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda share: kernel(*arguments, *share), shares(blocks, threads)))


def summed(blocks: Blocks, weights: Any, ring: Any, receivers: int, threads: int = 1) -> Any:
    """Products of a ring (delays, samples, senders); sums and ring lie off the start of their memory, and apart."""
    kinds, samples, senders = ring.shape
    memory = np.full(7 + ring.size, np.nan, ring.dtype)
    memory[7:] = ring.ravel()
    rows = 7 + np.arange(kinds) * samples * senders
    out = np.full(3 + samples * (receivers + 2), np.nan, ring.dtype)
    own = weights[blocks.order]
    head = (blocks.codes, blocks.starts, blocks.bounds, blocks.delays, blocks.segments, own)
    play(sparse.products, (*head, memory, rows, senders, out, 3, receivers + 2, samples), blocks, threads)
    found = out[3:].reshape(samples, receivers + 2)
    assert np.isnan(out[:3]).all()
    assert np.isnan(found[:, receivers:]).all()
    return found[:, :receivers]


def one_by_one(receiver: Any, sender: Any, synapses: Synapses, weights: Any, ring: Any, receivers: int) -> Any:
    """Sums by delay, then by sender, then as the synapses lie: rounded after each product and each addition."""
    kind = np.searchsorted(synapses.delays, synapses.delay)
    out = np.zeros((ring.shape[1], receivers), ring.dtype)
    order = np.lexsort((sender, kind))
    for sample in range(ring.shape[1]):
        terms = weights * ring[kind, sample, sender]
        np.add.at(out[sample], receiver[order], terms[order])
    return out


def drawn(synapses: Synapses, samples: int, senders: int, dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    ring = rng.standard_normal((max(1, len(synapses.delays)), samples, senders))
    return rng.standard_normal(len(synapses)).astype(dtype), ring.astype(dtype)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", KINDS)
def test_forward_sums_are_those_of_the_canonical_order_bit_for_bit(
    synapses: Synapses, dtype: str, samples: int
) -> None:
    weights, ring = drawn(synapses, samples, synapses.fan_out, dtype)
    found = summed(sparse.forward_blocks(synapses), weights, ring, synapses.units)
    expected = one_by_one(synapses.post, synapses.pre, synapses, weights, ring, synapses.units)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", KINDS)
def test_backward_sums_run_by_delay_then_by_neuron_after_bit_for_bit(
    synapses: Synapses, dtype: str, samples: int
) -> None:
    weights, ring = drawn(synapses, samples, synapses.units, dtype)
    found = summed(sparse.backward_blocks(synapses), weights, ring, synapses.fan_out)
    expected = one_by_one(synapses.pre, synapses.post, synapses, weights, ring, synapses.fan_out)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["one delay", "delays with gaps"])
def test_products_equal_dense_ones(name: str) -> None:
    synapses = CASES[name]
    weights, values = drawn(synapses, 3, synapses.fan_out, "float64")
    _, errors = drawn(synapses, 3, synapses.units, "float64")
    dense = np.zeros((len(synapses.delays), synapses.units, synapses.fan_out))
    np.add.at(dense, (np.searchsorted(synapses.delays, synapses.delay), synapses.post, synapses.pre), weights)
    forward = summed(sparse.forward_blocks(synapses), weights, values, synapses.units)
    backward = summed(sparse.backward_blocks(synapses), weights, errors, synapses.fan_out)
    np.testing.assert_allclose(forward, np.einsum("dij,dbj->bi", dense, values), rtol=0, atol=1e-12)
    np.testing.assert_allclose(backward, np.einsum("dij,dbi->bj", dense, errors), rtol=0, atol=1e-12)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit(synapses: Synapses, threads: int) -> None:
    weights, ring = drawn(synapses, 2, synapses.fan_out, "float32")
    blocks = sparse.forward_blocks(synapses)
    alone = summed(blocks, weights, ring, synapses.units)
    np.testing.assert_array_equal(alone, summed(blocks, weights, ring, synapses.units, threads))


def updated(synapses: Synapses, errors: Any, ring: Any, threads: int) -> Any:
    blocks = sparse.forward_blocks(synapses)
    kinds, samples, senders = ring.shape
    rows = np.arange(kinds) * samples * senders
    out = np.zeros(4 + len(synapses), ring.dtype)
    out[:4] = np.nan
    head = (blocks.codes, blocks.order, blocks.starts, blocks.bounds, blocks.delays, blocks.segments)
    tail = (errors, 0, synapses.units, ring, rows, senders, out, 4, samples)
    play(sparse.updates, (*head, *tail), blocks, threads)
    assert np.isnan(out[:4]).all()
    return out[4:]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", KINDS)
def test_updates_are_sums_over_the_batch_in_canonical_order(synapses: Synapses, dtype: str, samples: int) -> None:
    _, ring = drawn(synapses, samples, synapses.fan_out, dtype)
    errors = np.random.default_rng(2).standard_normal((samples, synapses.units)).astype(dtype)
    kind = np.searchsorted(synapses.delays, synapses.delay)
    expected = errors[0, synapses.post] * ring[kind, 0, synapses.pre]
    for sample in range(1, samples):
        expected += errors[sample, synapses.post] * ring[kind, sample, synapses.pre]
    for threads in (1, 2):
        np.testing.assert_array_equal(updated(synapses, errors, ring, threads), expected)


@pytest.mark.parametrize("direction", [sparse.forward_blocks, sparse.backward_blocks])
def test_blocks_hold_every_synapse_once(synapses: Synapses, direction: Any) -> None:
    blocks = direction(synapses)
    receivers = synapses.units if direction is sparse.forward_blocks else synapses.fan_out
    assert blocks.bounds[0] == 0
    assert blocks.bounds[-1] == receivers
    assert (np.diff(blocks.bounds) > 0).all()
    assert np.diff(blocks.bounds).max() <= sparse.SENDERS
    np.testing.assert_array_equal(np.sort(blocks.order), np.arange(len(synapses)))
    assert blocks.starts[-1] == len(synapses)


@pytest.mark.parametrize("direction", [sparse.forward_blocks, sparse.backward_blocks])
def test_weights_are_arranged_as_the_blocks_are(synapses: Synapses, direction: Any) -> None:
    blocks = direction(synapses)
    parameter = np.random.default_rng(3).standard_normal(9 + len(synapses))
    weights = np.full(len(synapses), np.nan)
    tiles = blocks.delays * blocks.segments
    play(sparse.arrange, (blocks.order, blocks.starts, tiles, parameter, 9, weights), blocks, 3)
    np.testing.assert_array_equal(weights, parameter[9:][blocks.order])


@pytest.mark.parametrize("parts", [1, 2, 3, 16])
def test_shares_are_all_blocks_and_nearly_equal(parts: int) -> None:
    blocks = sparse.forward_blocks(population(1_000_000, 30_000, 30_000, (0,)))
    bounds = blocks.shares(parts)
    assert bounds[0] == 0
    assert bounds[-1] == len(blocks.bounds) - 1
    loads = np.diff(blocks.starts[:: blocks.segments][bounds])
    assert loads.max() <= 1_000_000 / parts + 1_000_000 / sparse.BLOCKS * 1.01


def test_an_error_that_is_exactly_zero_stays_so() -> None:
    synapses = CASES["one delay"]
    weights, ring = drawn(synapses, 1, synapses.units, "float32")
    ring[0, 0, 40:] = 0
    found = summed(sparse.backward_blocks(synapses), weights, ring, synapses.fan_out)[0]
    reached = np.isin(np.arange(synapses.fan_out), synapses.pre[synapses.post < 40])
    assert (found[~reached] == 0).all()
    assert (found[reached] != 0).all()


def test_not_a_number_reaches_only_receivers_of_its_sender() -> None:
    synapses = CASES["one delay"]
    weights, ring = drawn(synapses, 1, synapses.fan_out, "float64")
    ring[0, 0, 60] = np.nan
    found = summed(sparse.forward_blocks(synapses), weights, ring, synapses.units)[0]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), np.unique(synapses.post[synapses.pre == 60]))


@numba.njit
def scaled(numbers: Any, by: Any, flushing: bool) -> Any:
    """Products, with and without tiny numbers taken for zero."""
    out = np.empty_like(numbers)
    control = sparse.flush(numbers) if flushing else 0
    for i in range(len(numbers)):
        out[i] = numbers[i] * by[i]
    if flushing:
        sparse.restore(numbers, control)
    return out


@pytest.mark.skipif(sparse.MACHINE not in sparse.FLUSHING, reason="numbers are flushed only where it is known how")
def test_subnormal_single_numbers_are_flushed_until_that_is_restored() -> None:
    one, tiny, small = np.ones(9, "float32"), np.full(9, 1e-42, "float32"), np.full(9, 1e-30, "float32")
    assert (scaled(tiny, one, True) == 0).all()
    assert (scaled(small, one * np.float32(1e-10), True) == 0).all()
    assert (scaled(small, one, True) == small).all()
    assert (scaled(tiny, one, False) == tiny).all()
    assert np.float32(1e-30) * np.float32(1e-10) > 0
    assert (scaled(np.full(9, 1e-310), np.ones(9), True) > 0).all()
