"""Attention of ONNX as vertices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.models.builder import LARGEST
from pcsim.models.onnx_file import onnx_module
from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from pcsim.models.builder import Tensor
    from pcsim.models.onnx_node import Node


def heads(node: Node, slot: int, count: str, called: str) -> Tensor:
    """Return an input as (batch, heads, length, features), also where its heads lie side by side in one axis."""
    x = node.input(slot)
    if len(x.shape) == 4:
        return x
    batch, length, features = x.shape
    number = node.get(count)
    wide = node.part("reshape", [x], shape=[batch, length, number, features // number])
    return node.part("transpose", [wide], called, axes=[0, 2, 1, 3])


def with_past(node: Node, x: Tensor, slot: int, output: int) -> Tensor:
    """Return keys or values behind those before them; they are an output of their own."""
    made = node.part("concat", [node.input(slot), x], axis=2) if node.has(slot) else x
    return node.vertex("identity", [made], output) if node.wants(output) else made


def repeated(node: Node, x: Tensor, count: int) -> Tensor:
    """Return each head of keys or values as often as queries share it."""
    batch, number, length, features = x.shape
    if number == count:
        return x
    wide = node.part(
        "expand", [node.part("unsqueeze", [x], axes=[2])], shape=[batch, number, count // number, length, features]
    )
    return node.part("reshape", [wide], shape=[batch, count, length, features])


def allowed(node: Node, queries: int, keys: int, past: int) -> Any:
    """Return which keys each query may attend to by position: (queries, keys), with batch axes before; None: all."""
    lengths = None if not node.has(6) else np.asarray(node.value(6, "the lengths")).reshape(-1, 1, 1, 1)
    before = past if lengths is None else lengths - queries
    ahead = np.arange(keys) - np.arange(queries)[:, None] - before
    mask = np.ones_like(ahead, bool)
    if node.get("is_causal", 0):
        mask &= ahead <= 0
    for side, sign in (("left_window_size", -1), ("right_window_size", 1)):
        if node.get(side, -1) >= 0:
            mask &= sign * ahead <= node.get(side)
    if lengths is not None:
        mask = mask & (np.arange(keys) < lengths)
    return None if mask.all() else mask


def bias(node: Node, queries: int, keys: int, past: int) -> list[Tensor]:
    """Return what is added to the scores: -inf where a key may not be attended to, and the mask that is fed."""
    terms = []
    by_place = allowed(node, queries, keys, past)
    if by_place is not None:
        terms.append(node.builder.constant(np.where(by_place, 0.0, -np.inf)))
    if not node.has(3):
        return terms
    mask = node.input(3)
    if mask.known and mask.array is not None:
        array = np.where(mask.array, 0.0, -np.inf) if mask.array.dtype == bool else mask.array.astype(float)
        missing = [(0, 0)] * (array.ndim - 1) + [(0, keys - array.shape[-1])]
        mask = node.builder.constant(np.pad(array, missing, constant_values=-np.inf))
    else:
        mask = as_bias(node, mask, keys)
    if terms and mask.array is not None and terms[0].array is not None:
        return [node.builder.constant(terms[0].array + mask.array)]
    return [*terms, mask]


def as_bias(node: Node, mask: Tensor, keys: int) -> Tensor:
    """Return a mask that is fed as what is added to the scores, for all keys."""
    if node.types[3] == onnx_module().TensorProto.BOOL:
        mask = node.part("multiply", [node.part("subtract", [mask, 1.0]), LARGEST])
    if mask.shape[-1] == keys:
        return mask
    widths = [[0, 0]] * (len(mask.shape) - 1) + [[0, keys - mask.shape[-1]]]
    return node.part("pad", [mask], widths=widths, value=-LARGEST)


def attention(node: Node) -> list[Tensor | None]:
    """Return softmax(scale Q K^T + bias) V, keys and values with those before them, and the scores."""
    q = heads(node, 0, "q_num_heads", "queries")
    k = with_past(node, heads(node, 1, "kv_num_heads", "keys"), 4, 1)
    v = with_past(node, heads(node, 2, "kv_num_heads", "values"), 5, 2)
    (_, count, queries, features), keys = q.shape, k.shape[2]
    k_all, v_all = repeated(node, k, count), repeated(node, v, count)
    product = node.part("matmul", [q, node.part("transpose", [k_all], axes=[0, 1, 3, 2])])
    scores = [node.part("multiply", [product, node.get("scale", features**-0.5)], "scores")]
    if cap := node.get("softcap", 0.0):
        bounded = node.part("tanh", [node.part("divide", [scores[0], cap])])
        scores.append(node.part("multiply", [bounded, cap]))
    terms = bias(node, queries, keys, node.input(4).shape[2] if node.has(4) else 0)
    full = node.part("add", [scores[-1], *terms]) if terms else scores[-1]
    weights = without_masked_rows(node, node.part("softmax", [full], "weights"), terms)
    shown = [scores[0], scores[-1], full, weights][node.get("qk_matmul_output_mode", 0)]
    seen = node.vertex("identity", [shown], 3) if node.wants(3) else None
    if len(node.input(0).shape) == 4:
        return [node.vertex("matmul", [weights, v_all]), k, v, seen]
    mixed = node.part("transpose", [node.part("matmul", [weights, v_all])], axes=[0, 2, 1, 3])
    batch, length, number, extent = mixed.shape
    return [node.vertex("reshape", [mixed], shape=[batch, length, number * extent]), k, v, seen]


def without_masked_rows(node: Node, weights: Tensor, terms: list[Tensor]) -> Tensor:
    """Return the weights, 0 for a query that may attend to no key."""
    known = [each.array for each in terms if each.known and each.array is not None]
    if not known:
        return weights
    seen = np.isfinite(sum(known)).any(axis=-1, keepdims=True)
    return weights if seen.all() else node.part("multiply", [weights, seen.astype(float)])


def swiglu(node: Node) -> Tensor:
    """Return a swish of the first input times the second."""
    return node.vertex("multiply", [node.part("silu", [node.input(0)], beta=node.get("alpha", 1.0)), node.input(1)])


ROWS = (
    Operator("Attention", attention, since=23, known=(6,), indices=(3,)),
    Operator("SwiGLU", swiglu, since=28),
)
