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


def along(call, shape):
    """Return the indices along an axis, none of them negative."""
    return places(np.asarray(call["indices"]) % shape[call["axis"]])


def gather(call, params, x):
    axis, found = call["axis"] % x.ndim, np.asarray(call["indices"])
    taken = torch.index_select(x, axis, places(found.ravel() % x.shape[axis]))
    return taken.reshape(call.shape)


def scatter(call, params, x, updates):
    found = along(call, x.shape)
    if call["reduction"] == "add":
        return torch.scatter_add(x, call["axis"], found, updates)
    return torch.scatter(x, call["axis"], found, updates)


def scatter_add(call, params, x):
    found = np.asarray(call["indices"])
    zeros = torch.zeros(call.shape, dtype=x.dtype)
    flat = x.reshape(-1, *x.shape[found.ndim :])
    return torch.index_add(zeros, 0, places(found.ravel() % call["extent"]), flat)


def top_k(call, params, x):
    values, found = torch.topk(x, call["k"], call["axis"], call["largest"])
    return values if call["sorted"] else torch.gather(x, call["axis"], torch.sort(found, call["axis"])[0])


def reverse_sequence(call, params, x):
    """Each sequence by itself."""
    time, sequences = call["axis"] % x.ndim, call["sequences"] % x.ndim
    rows = x.movedim((sequences, time), (0, 1))
    turned = [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(rows, np.asarray(call["indices"]), strict=True)]
    return torch.stack(turned).movedim((0, 1), (sequences, time))


def resize(call, params, x):
    """Half a pixel in: elements that are nearest, or bilinear interpolation of the last two axes."""
    if call["mode"] == "nearest":
        for axis, (after, before) in enumerate(zip(call.shape, x.shape, strict=True)):
            at = np.ceil((np.arange(after) + 0.5) * before / after - 1)
            x = torch.index_select(x, axis, places(at.clip(0, before - 1)))
        return x
    while x.ndim < 2:
        x = x.unsqueeze(0)
    return interpolated(x, (*(1,) * (2 - len(call.shape)), *call.shape)[-2:], mode="bilinear").reshape(call.shape)


def interpolated(x, size, **how):
    """Return PyTorch's interpolation of the last two axes."""
    return torch.nn.functional.interpolate(x.reshape(1, -1, *x.shape[-2:]), size, **how)


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
    "gather": gather,
    "take_along": lambda call, params, x: torch.gather(x, call["axis"], along(call, x.shape)),
    "scatter": scatter,
    "scatter_add": scatter_add,
    "top_k": top_k,
    "reverse_sequence": reverse_sequence,
    "resize": resize,
    "einsum": lambda call, params, *x: torch.einsum(call["equation"], *x),
}
"""{op: (call, parameters, inputs) -> value}, of one sample."""
