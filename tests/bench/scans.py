"""Batched scans of fixed and of moving predictions on a chain: NumPy, PyTorch, JAX.

One tick of fixed predictions, over the stack of all layers, with S the slopes at tick 0:
``E[:-1] = (1 - gamma) E[:-1] + gamma (S[1:] E[1:]) W[1:]``. One tick of moving ones: ``M = tanh(X[:-1] W^T + b)``,
``E = X[1:] - M``, ``X[1:-1] += gamma ((1 - M[1:]^2) E[1:] W[1:] - E[:-1])``.
"""

from __future__ import annotations

from os import cpu_count
from typing import TYPE_CHECKING, Any

import numpy as np
from layers import Layers, layers_of

from pcsim.bench.baselines import Baseline, Candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.engines import Task


def first_errors(chain: Layers) -> np.ndarray:
    """Return the errors of all layers at tick 0, (L, batch, units): only the output has one."""
    errors = np.zeros_like(chain.values[1:])
    errors[-1] = chain.target - chain.values[-1]
    return errors


def first_values(chain: Layers) -> np.ndarray:
    """Return the values at tick 0, (L + 1, batch, units), the output clamped."""
    values = chain.values.copy()
    values[-1] = chain.target
    return values


def numpy_fixed(task: Task) -> Candidate:
    """One stacked product a tick, everything else in place."""
    chain = layers_of(task)
    kind = chain.x.dtype.type
    slopes = kind(chain.step_size) * (1 - chain.values[2:] ** 2)
    weights, keep, start = chain.weights[1:], kind(1 - chain.step_size), first_errors(chain)
    errors = start.copy()
    sent, due = np.empty_like(slopes), np.empty_like(slopes)
    above, below = errors[1:], errors[:-1]

    def run() -> None:
        for _ in range(chain.ticks):
            np.multiply(slopes, above, out=sent)
            np.matmul(sent, weights, out=due)
            np.multiply(below, keep, out=below)
            np.add(below, due, out=below)

    return Candidate(lambda: np.copyto(errors, start), run, lambda: chain.by_vertex(errors))


def numpy_moving(task: Task) -> Candidate:
    """Two stacked products a tick, everything else in place."""
    chain = layers_of(task)
    gamma, start = chain.x.dtype.type(chain.step_size), first_values(chain)
    values = start.copy()
    turned, weights, biases = np.ascontiguousarray(chain.weights.swapaxes(1, 2)), chain.weights[1:], chain.biases
    mu, error, due = (np.empty_like(array) for array in (values[1:], values[1:], values[1:-1]))
    slope, free = mu[1:], values[1:-1]

    def predict() -> None:
        np.matmul(values[:-1], turned, out=mu)
        np.add(mu, biases, out=mu)
        np.tanh(mu, out=mu)
        np.subtract(values[1:], mu, out=error)

    def run() -> None:
        for _ in range(chain.ticks):
            predict()
            np.multiply(slope, slope, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(slope, error[1:], out=slope)
            np.matmul(slope, weights, out=due)
            np.subtract(due, error[:-1], out=due)
            np.multiply(due, gamma, out=due)
            np.add(free, due, out=free)

    def read() -> dict[str, np.ndarray]:
        predict()
        return chain.by_vertex(error)

    return Candidate(lambda: np.copyto(values, start), run, read)


def torch_with_threads() -> Any:
    """Return PyTorch, told to use every core."""
    import torch

    torch.set_num_threads(cpu_count() or 1)
    return torch


def torch_fixed(task: Task) -> Candidate:
    """One baddbmm a tick, in place."""
    torch, chain = torch_with_threads(), layers_of(task)
    slopes, weights, start = map(torch.from_numpy, (1 - chain.values[2:] ** 2, chain.weights[1:], first_errors(chain)))
    errors, sent = start.clone(), torch.empty_like(slopes)
    above, below, gamma = errors[1:], errors[:-1], chain.step_size

    @torch.no_grad()
    def run() -> None:
        for _ in range(chain.ticks):
            torch.mul(slopes, above, out=sent)
            below.baddbmm_(sent, weights, beta=1 - gamma, alpha=gamma)

    return Candidate(lambda: errors.copy_(start), run, lambda: chain.by_vertex(errors.numpy()))


def torch_moving(task: Task) -> Candidate:
    """Two baddbmm a tick, everything else in place."""
    torch, chain = torch_with_threads(), layers_of(task)
    start, weights, biases = map(torch.from_numpy, (first_values(chain), chain.weights, chain.biases))
    values, gamma = start.clone(), chain.step_size
    turned, weights = weights.transpose(1, 2).contiguous(), weights[1:]
    mu, error = torch.empty_like(values[1:]), torch.empty_like(values[1:])
    biases = biases.expand(-1, len(chain.x), -1)
    free = values[1:-1]

    def predict() -> None:
        torch.baddbmm(biases, values[:-1], turned, out=mu)
        mu.tanh_()
        torch.sub(values[1:], mu, out=error)

    @torch.no_grad()
    def run() -> None:
        for _ in range(chain.ticks):
            predict()
            sent = mu[1:].square_().neg_().add_(1).mul_(error[1:])
            free.sub_(error[:-1], alpha=gamma)
            free.baddbmm_(sent, weights, alpha=gamma)

    @torch.no_grad()
    def read() -> dict[str, np.ndarray]:
        predict()
        return chain.by_vertex(error.numpy())

    return Candidate(lambda: values.copy_(start), run, read)


def jax_scan(
    tick: Callable[[Any], Any], start: Any, ticks: int, read: Callable[[Any], dict[str, np.ndarray]]
) -> Candidate:
    """Return a candidate that runs ``tick`` in one compiled loop; it is compiled here."""
    import jax

    run_all = (
        jax.jit(lambda state: jax.lax.fori_loop(0, ticks, lambda _, state: tick(state), state)).lower(start).compile()
    )
    state = [start]

    def run() -> None:
        state[0] = jax.block_until_ready(run_all(start))

    return Candidate(lambda: None, run, lambda: read(state[0]))


def jax_fixed_stack(task: Task) -> Candidate:
    """The stack of all layers is one array."""
    import jax.numpy as jnp

    chain = layers_of(task)
    gamma, weights, start = chain.step_size, jnp.asarray(chain.weights[1:]), jnp.asarray(first_errors(chain))
    slopes = jnp.asarray(1 - chain.values[2:] ** 2) * gamma

    def tick(errors: Any) -> Any:
        return errors.at[:-1].set((1 - gamma) * errors[:-1] + jnp.matmul(slopes * errors[1:], weights))

    return jax_scan(tick, start, chain.ticks, lambda errors: chain.by_vertex(np.asarray(errors)))


def jax_fixed_list(task: Task) -> Candidate:
    """Each layer is an array of its own."""
    import jax.numpy as jnp

    chain = layers_of(task)
    gamma, start = chain.step_size, list(map(jnp.asarray, first_errors(chain)))
    weights = list(map(jnp.asarray, chain.weights[1:]))
    slopes = [jnp.asarray(slope) * gamma for slope in 1 - chain.values[2:] ** 2]

    def tick(errors: Any) -> Any:
        above = zip(errors[:-1], errors[1:], slopes, weights, strict=True)
        return [(1 - gamma) * e + (slope * g) @ w for e, g, slope, w in above] + errors[-1:]

    return jax_scan(tick, start, chain.ticks, lambda errors: chain.by_vertex(np.stack(errors)))


def jax_moving_stack(task: Task) -> Candidate:
    """The stack of all layers is one array."""
    import jax.numpy as jnp

    chain = layers_of(task)
    gamma, start = chain.step_size, jnp.asarray(first_values(chain))
    weights, biases = jnp.asarray(chain.weights), jnp.asarray(chain.biases)
    turned = jnp.asarray(np.ascontiguousarray(chain.weights.swapaxes(1, 2)))

    def predict(values: Any) -> Any:
        return jnp.tanh(jnp.matmul(values[:-1], turned) + biases)

    def tick(values: Any) -> Any:
        mu = predict(values)
        error = values[1:] - mu
        due = jnp.matmul((1 - mu[1:] ** 2) * error[1:], weights[1:])
        return values.at[1:-1].add(gamma * (due - error[:-1]))

    return jax_scan(tick, start, chain.ticks, lambda values: chain.by_vertex(np.asarray(values[1:] - predict(values))))


def jax_moving_list(task: Task) -> Candidate:
    """Each layer is an array of its own."""
    import jax.numpy as jnp

    chain = layers_of(task)
    gamma, start = chain.step_size, list(map(jnp.asarray, first_values(chain)))
    weights, biases = list(map(jnp.asarray, chain.weights)), list(map(jnp.asarray, chain.biases))

    def predict(values: Any) -> Any:
        return [jnp.tanh(x @ w.T + b) for x, w, b in zip(values[:-1], weights, biases, strict=True)]

    def tick(values: Any) -> Any:
        mu = predict(values)
        error = [x - m for x, m in zip(values[1:], mu, strict=True)]
        due = [((1 - m**2) * e) @ w for m, e, w in zip(mu[1:], error[1:], weights[1:], strict=True)]
        moved = [x + gamma * (d - e) for x, d, e in zip(values[1:-1], due, error[:-1], strict=True)]
        return [values[0], *moved, values[-1]]

    def read(values: Any) -> dict[str, np.ndarray]:
        return chain.by_vertex(np.stack([np.asarray(x - m) for x, m in zip(values[1:], predict(values), strict=True)]))

    return jax_scan(tick, start, chain.ticks, read)


CHAINS = ("deep-chain", "wide-chain")
JAX = {"needs": ("jax",), "dtypes": ("float32",)}

BASELINES = (
    Baseline("NumPy stacked matmul", "ticks", CHAINS, ("fpa",), numpy_fixed),
    Baseline("PyTorch baddbmm", "ticks", CHAINS, ("fpa",), torch_fixed, needs=("torch",)),
    Baseline("JAX loop over a stack", "ticks", CHAINS, ("fpa",), jax_fixed_stack, **JAX),
    Baseline("JAX loop over a list", "ticks", CHAINS, ("fpa",), jax_fixed_list, **JAX),
    Baseline("NumPy stacked matmul", "ticks", CHAINS, ("il",), numpy_moving),
    Baseline("PyTorch baddbmm", "ticks", CHAINS, ("il",), torch_moving, needs=("torch",)),
    Baseline("JAX loop over a stack", "ticks", CHAINS, ("il",), jax_moving_stack, **JAX),
    Baseline("JAX loop over a list", "ticks", CHAINS, ("il",), jax_moving_list, **JAX),
)
