"""Normalisation by statistics, feature by feature, in few passes: what the array calls of ``batch_norm`` do.

Arrays are (stack, lines, features, inner): a line is what lies before the axis of the features, samples included. Sums
over a line may be added in any one order; those of lines are added in double precision, one after the other.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from pcsim.engines.jit.kernels.compiled import add_reordered, inline, jit, load, store
from pcsim.engines.jit.kernels.native import like


@jit
def batch_moments(x: Any, mean: Any, variance: Any) -> None:
    """Set mean and variance, (stack, features) of doubles."""
    stack, lines, features, inner = x.shape
    for row in range(stack):
        begin, count = row * lines * features * inner, lines * inner
        for feature in range(features):
            store(mean, row * features + feature, 0.0)
            store(variance, row * features + feature, 0.0)
        at = begin
        for _ in range(lines):
            for feature in range(row * features, (row + 1) * features):
                total = like(x, 0)
                for i in range(inner):
                    total = add_reordered(total, load(x, at + i))
                store(mean, feature, load(mean, feature) + total)
                at += inner
        for feature in range(row * features, (row + 1) * features):
            store(mean, feature, load(mean, feature) / count)
        at = begin
        for _ in range(lines):
            for feature in range(row * features, (row + 1) * features):
                middle, total = like(x, load(mean, feature)), like(x, 0)
                for i in range(inner):
                    away = load(x, at + i) - middle
                    total = add_reordered(total, away * away)
                store(variance, feature, load(variance, feature) + total)
                at += inner
        for feature in range(row * features, (row + 1) * features):
            store(variance, feature, load(variance, feature) / count)


@jit
def normalise(
    x: Any, mean: Any, variance: Any, epsilon: float, weight: Any, bias: Any, normal: Any, scale: Any, out: Any
) -> None:
    """Set scale = 1 / sqrt(variance + epsilon), normal = (x - mean) scale and out = weight normal + bias."""
    stack, lines, features, inner = x.shape
    for feature in range(stack * features):
        store(scale, feature, like(x, 1 / sqrt(load(variance, feature) + epsilon)))
    at = 0
    for row in range(stack):
        for _ in range(lines):
            for feature in range(row * features, (row + 1) * features):
                middle, factor = like(x, load(mean, feature)), load(scale, feature)
                times, plus = load(weight, feature), load(bias, feature)
                for i in range(inner):
                    here = (load(x, at + i) - middle) * factor
                    store(normal, at + i, here)
                    store(out, at + i, here * times + plus)
                at += inner


@jit
def sums_of_errors(g: Any, normal: Any, plain: Any, along: Any) -> None:
    """Set the sums of g and of g normal, (stack, features) of doubles."""
    stack, lines, features, inner = g.shape
    for feature in range(stack * features):
        store(plain, feature, 0.0)
        store(along, feature, 0.0)
    at = 0
    for row in range(stack):
        for _ in range(lines):
            for feature in range(row * features, (row + 1) * features):
                first, second = line_sums(g, normal, at, inner)
                store(plain, feature, load(plain, feature) + first)
                store(along, feature, load(along, feature) + second)
                at += inner


@inline
def line_sums(g: Any, normal: Any, at: int, inner: int) -> Any:
    """Return the sums of g and of g normal over a line."""
    first, second = like(g, 0), like(g, 0)
    for i in range(inner):
        here = load(g, at + i)
        first = add_reordered(first, here)
        second = add_reordered(second, here * load(normal, at + i))
    return first, second


@jit
def normalise_back(g: Any, normal: Any, weight: Any, scale: Any, plain: Any, along: Any, out: Any) -> None:
    """Set out = scale weight (g - mean(g) - normal mean(g normal)); the means are sums over lines and inner."""
    stack, lines, features, inner = g.shape
    count, at = lines * inner, 0
    for row in range(stack):
        for _ in range(lines):
            for feature in range(row * features, (row + 1) * features):
                first, second = like(g, load(plain, feature) / count), like(g, load(along, feature) / count)
                factor = load(weight, feature) * load(scale, feature)
                for i in range(inner):
                    store(out, at + i, factor * (load(g, at + i) - (first + load(normal, at + i) * second)))
                at += inner
