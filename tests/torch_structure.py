"""What rearranges, indexes and contracts, in PyTorch: each op of one sample, in a form that it can map over a batch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: what is compared with it is skipped")


def places(values):
    return torch.as_tensor(np.array(values, np.int64))


def pad(call, params, x):
    for axis, (before, after) in enumerate(call["widths"]):
        stays = np.arange(x.shape[axis])[max(-before, 0) : x.shape[axis] - max(-after, 0)]
        mode = {"mode": call["mode"]} | ({"constant_values": -1} if call["mode"] == "constant" else {})
        found = np.pad(stays, (max(before, 0), max(after, 0)), **mode)
        known = torch.as_tensor(found >= 0).reshape(-1, *[1] * (x.ndim - axis - 1))
        x = torch.where(known, torch.index_select(x, axis, places(np.maximum(found, 0))), call["value"])
    return x


def reshaped(call, params, x):
    return x.reshape(call.shape)


def triangle(call, params, x):
    return (torch.triu if call["upper"] else torch.tril)(x, call["diagonal"])


MEANING = {
    "squeeze": reshaped,
    "unsqueeze": reshaped,
    "flatten": reshaped,
    "flip": lambda call, params, x: torch.flip(x, call["axes"] or tuple(range(x.ndim))),
    "trilu": triangle,
    "pad": pad,
    "expand": lambda call, params, x: x.expand(call.shape),
    "tile": lambda call, params, x: torch.tile(x, call["repeats"]),
    "matmul": lambda call, params, a, b: torch.matmul(a, b),
    "einsum": lambda call, params, *x: torch.einsum(call["equation"], *x),
}
"""{op: (call, parameters, inputs) -> value}, of one sample."""
