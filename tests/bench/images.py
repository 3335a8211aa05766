"""Networks of images in PyTorch, with the weights of a task: backprop as a user writes it, and ticks by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scans import torch_with_threads

from pcsim.bench.baselines import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.engines import Task


def cnn_forward(torch: Any, p: dict[str, Any], x: Any, *, training: bool) -> Any:
    """Return what ``graphs/cnn.yaml`` does."""
    f = torch.nn.functional
    x = f.max_pool2d(f.relu(f.conv2d(x, p["conv1.weight"], p["conv1.bias"])), 2)
    x = f.relu(f.conv2d(x, p["conv2.weight"], p["conv2.bias"])).flatten(1)
    for name in ("fc1", "fc2"):
        x = f.relu(f.linear(x, p[f"{name}.weight"], p[f"{name}.bias"]))
    return f.linear(x, p["y.weight"], p["y.bias"])


def resnet_forward(torch: Any, p: dict[str, Any], x: Any, *, training: bool) -> Any:
    """Return what ``graphs/resnet-18.yaml`` does with ``large: 1``."""
    f = torch.nn.functional

    def normal(x: Any, name: str) -> Any:
        if training:
            return f.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)
        zero, one = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        return f.batch_norm(x, zero, one, p[f"{name}.weight"], p[f"{name}.bias"])

    def block(x: Any, name: str, stride: int) -> Any:
        y = f.relu(normal(f.conv2d(x, p[f"{name}.conv1.weight"], None, stride, 1), f"{name}.norm1"))
        y = normal(f.conv2d(y, p[f"{name}.conv2.weight"], None, 1, 1), f"{name}.norm2")
        if f"{name}.conv3.weight" in p:
            x = normal(f.conv2d(x, p[f"{name}.conv3.weight"], None, stride), f"{name}.norm3")
        return f.relu(y + x)

    x = f.max_pool2d(f.relu(normal(f.conv2d(x, p["conv.weight"], None, 2, 3), "norm")), 3, 2, 1)
    for stage in range(1, 5):
        for number in (1, 2):
            x = block(x, f"block{stage}_{number}", 2 if stage > 1 and number == 1 else 1)
    return f.linear(x.mean((2, 3)), p["y.weight"], p["y.bias"])


def backprop(task: Task, forward: Callable[..., Any], *, training: bool = True) -> Candidate:
    """Forward, squared error, and autograd's gradients."""
    torch = torch_with_threads()
    leaves = {name: torch.tensor(np.asarray(value), requires_grad=True) for name, value in task.parameters.items()}
    x, target = torch.tensor(np.asarray(task.inputs["x"])), torch.tensor(np.asarray(task.targets["y"]))
    found: list[Any] = []

    def run() -> None:
        loss = -0.5 * ((target - forward(torch, leaves, x, training=training)) ** 2).sum()
        found[:] = torch.autograd.grad(loss, list(leaves.values()))  # the descent direction

    return Candidate(lambda: None, run, lambda: {name: g.numpy() for name, g in zip(leaves, found, strict=True)})


def cnn_ticks(task: Task) -> Candidate:
    """Ticks of the CNN with fixed predictions, without autograd: PyTorch's own transposes, errors in place."""
    torch = torch_with_threads()
    f, p = torch.nn.functional, {name: torch.tensor(np.asarray(value)) for name, value in task.parameters.items()}
    x, target = torch.tensor(np.asarray(task.inputs["x"])), torch.tensor(np.asarray(task.targets["y"]))
    gamma, found = task.rule.step_size, {}

    def run() -> None:
        with torch.no_grad():
            a = f.relu(f.conv2d(x, p["conv1.weight"], p["conv1.bias"]))
            pooled, where = f.max_pool2d(a, 2, return_indices=True)
            b = f.relu(f.conv2d(pooled, p["conv2.weight"], p["conv2.bias"]))
            c = f.relu(f.linear(b.flatten(1), p["fc1.weight"], p["fc1.bias"]))
            d = f.relu(f.linear(c, p["fc2.weight"], p["fc2.bias"]))
            top = target - f.linear(d, p["y.weight"], p["y.bias"])
            slopes = [(value > 0).to(value.dtype) for value in (a, b, c, d)]
            flat = b.flatten(1)
            errors = [torch.zeros_like(value) for value in (a, pooled, b, flat, c, d)]
            for _ in range(task.ticks - 1):  # in the last tick weights learn; what moves then is not looked at
                _, e_pool, e_b, e_flat, e_c, e_d = errors
                messages = (
                    f.max_unpool2d(e_pool, where, 2, output_size=a.shape),
                    f.conv_transpose2d(slopes[1] * e_b, p["conv2.weight"]),
                    e_flat.view_as(b),
                    (slopes[2] * e_c) @ p["fc1.weight"],
                    (slopes[3] * e_d) @ p["fc2.weight"],
                    top @ p["y.weight"],
                )
                for error, message in zip(errors, messages, strict=True):
                    error.mul_(1 - gamma).add_(message, alpha=gamma)
            at_sums = [slope * errors[number] for slope, number in zip(slopes, (0, 2, 4, 5), strict=True)]
            found.update(learnt(torch, p, at_sums, top, (x, pooled, flat, c, d)))

    return Candidate(lambda: None, run, lambda: {name: value.numpy() for name, value in found.items()})


def learnt(torch: Any, p: dict[str, Any], at_sums: list[Any], top: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return what each parameter learns from the errors of the last tick."""
    found = {}
    for name, d, x in zip(("conv1", "conv2"), at_sums[:2], inputs[:2], strict=True):
        found[f"{name}.weight"] = torch.nn.grad.conv2d_weight(x, p[f"{name}.weight"].shape, d)
        found[f"{name}.bias"] = d.sum((0, 2, 3))
    for name, d, x in zip(("fc1", "fc2", "y"), (*at_sums[2:], top), inputs[2:], strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = d.T @ x, d.sum(0)
    return found
