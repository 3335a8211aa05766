"""What an output may carry: a loss and the error that it sends into the graph."""
# Rows share one signature, of which each uses a part.

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.arrays import LEAD, Array
from pcsim.ops.normalise import log_softmax, softmax
from pcsim.ops.op import Loss

if TYPE_CHECKING:
    from pcsim.arrays import Namespace, Shape


def total(xp: Namespace, terms: Array) -> Array:
    """Return the sum over the vertex, one number for each sample."""
    return xp.sum(terms.reshape(*terms.shape[:LEAD], -1), axis=-1)


def classes(mu: Array) -> int:
    """Return the axis of the classes, the last."""
    if mu.ndim == LEAD:
        raise ValueError("cross_entropy needs an output of one axis or more (the last holds the classes)")
    return -1


def squared_error(xp: Namespace, mu: Array, target: Array) -> Array:
    """Return half the sum of squares, per sample."""
    error = target - mu
    return 0.5 * total(xp, error * error)


def squared_error_error(xp: Namespace, mu: Array, target: Array) -> Array:
    """Return target - mu."""
    return target - mu


def cross_entropy(xp: Namespace, mu: Array, target: Array) -> Array:
    """Return -sum(target log softmax(mu)), per sample."""
    return -total(xp, target * log_softmax(xp, mu, classes(mu)))


def cross_entropy_error(xp: Namespace, mu: Array, target: Array) -> Array:
    """Return target - softmax(mu) sum(target), right for targets of any sum."""
    axis = classes(mu)
    return target - softmax(xp, mu, axis) * xp.sum(target, axis=axis, keepdims=True)


def _no_classes(shape: Shape) -> str:
    """Return why an output of a shape has no classes to tell apart."""
    if not shape:
        return "needs classes along an axis"
    return "is 0 whatever the output, for there is one class; give it a unit for each class" if shape[-1] == 1 else ""


ROWS = (
    Loss(
        name="squared_error",
        summary="half the sum of squared differences",
        value=squared_error,
        error=squared_error_error,
        clamps=True,
        source="[Z] 3.12",
    ),
    Loss(
        name="cross_entropy",
        summary="cross entropy of a target with the softmax of the output, over the last axis",
        value=cross_entropy,
        error=cross_entropy_error,
        refuses=_no_classes,
        takes_classes=True,
    ),
)
