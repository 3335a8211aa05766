"""Backprop on a chain: by hand in NumPy, by autograd in PyTorch. Descent directions of all weights and biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from layers import Layers, layers_of
from scans import CHAINS, torch_with_threads

from pcsim.bench.baselines import Baseline, Candidate

if TYPE_CHECKING:
    from pcsim.engines import Task


def nothing() -> None:
    """Reset what keeps no state."""


def numpy_by_hand(task: Task) -> Candidate:
    """Forward, backward, update: three products a layer, buffers allocated once."""
    chain = layers_of(task)
    weights, biases = list(chain.weights), list(chain.biases)
    values = [chain.x, *(np.empty_like(chain.x) for _ in weights)]
    to_weights, to_biases = [np.empty_like(w) for w in weights], [np.empty_like(b) for b in biases]
    delta, slope, spare = (np.empty_like(chain.x) for _ in range(3))

    def forward() -> None:
        for x, y, weight, bias in zip(values[:-1], values[1:], weights, biases, strict=True):
            np.matmul(x, weight.T, out=y)
            np.add(y, bias, out=y)
            np.tanh(y, out=y)

    def backward() -> None:
        nonlocal delta, spare
        np.subtract(chain.target, values[-1], out=delta)
        for number in range(len(weights) - 1, -1, -1):
            y = values[number + 1]
            np.multiply(y, y, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(delta, slope, out=delta)
            np.matmul(delta.T, values[number], out=to_weights[number])
            np.sum(delta, axis=0, keepdims=True, out=to_biases[number])
            if number:
                np.matmul(delta, weights[number], out=spare)
                delta, spare = spare, delta

    def run() -> None:
        forward()
        backward()

    return Candidate(nothing, run, lambda: chain.by_parameter(to_weights, [bias[0] for bias in to_biases]))


class TorchChain:
    """The chain's parameters as leaves, its loss as a function."""

    def __init__(self, chain: Layers) -> None:
        self.torch, self.chain = torch_with_threads(), chain
        self.weights = [self.torch.tensor(w, requires_grad=True) for w in chain.weights]
        self.biases = [self.torch.tensor(b[0], requires_grad=True) for b in chain.biases]
        self.x, self.target = map(self.torch.from_numpy, (chain.x, chain.target))
        self.found: Any = ()

    def loss(self, x: Any, target: Any) -> Any:
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = self.torch.tanh(self.torch.nn.functional.linear(x, weight, bias))
        return -0.5 * ((target - x) ** 2).sum()  # its gradient is the descent direction

    def candidate(self, loss: Any) -> Candidate:
        def run() -> None:
            self.found = self.torch.autograd.grad(loss(self.x, self.target), [*self.weights, *self.biases])

        def read() -> dict[str, np.ndarray]:
            arrays = [gradient.numpy() for gradient in self.found]
            return self.chain.by_parameter(arrays[: len(self.weights)], arrays[len(self.weights) :])

        return Candidate(nothing, run, read)


def torch_eager(task: Task) -> Candidate:
    """PyTorch as most people run it."""
    chain = TorchChain(layers_of(task))
    return chain.candidate(chain.loss)


def torch_compiled(task: Task) -> Candidate:
    """The same loss through torch.compile, which needs a C++ compiler."""
    chain = TorchChain(layers_of(task))
    chain.torch._dynamo.reset()
    return chain.candidate(chain.torch.compile(chain.loss))


EXACT = ("fpa-step-1", "zil", "bp")
"""Rules that learn what backprop does."""

BASELINES = (
    Baseline("NumPy backprop by hand", "update", CHAINS, EXACT, numpy_by_hand),
    Baseline("PyTorch backprop", "update", CHAINS, EXACT, torch_eager, needs=("torch",)),
    Baseline("PyTorch backprop, compiled", "update", CHAINS, EXACT, torch_compiled, needs=("torch",)),
)
