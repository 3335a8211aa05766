"""Losses of ONNX as vertices: they compute one number, or one for each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from pcsim.models.builder import Tensor
    from pcsim.models.onnx_node import Node


def chosen(node: Node, classes: int) -> Tensor:
    """Return 1 at the class that each label names and 0 elsewhere, classes along axis 1; 0 where a label is ignored."""
    labels, ignored = node.input(1), node.get("ignore_index")
    number = np.arange(classes).reshape(-1, *[1] * (len(labels.shape) - 1))
    if labels.array is not None:
        named = labels.array[:, None]
        return node.builder.constant(((named == number) & (named != ignored)).astype(float))
    hot = node.part("one_hot", [labels], classes=classes, axis=1)
    if ignored is None or not 0 <= ignored < classes:
        return hot
    return node.part("multiply", [hot, (number != ignored).astype(float)])


def weighted(node: Node, hot: Tensor, classes: int) -> Tensor:
    """Return the weight of each sample's class, at that class."""
    if not node.has(2):
        return hot
    column = node.part("reshape", [node.input(2)], shape=[classes, *[1] * (len(hot.shape) - 2)])
    return node.part("multiply", [hot, column])


def negative_log_likelihood(node: Node, log_probabilities: Tensor) -> Tensor:
    """Return minus the log-probability of each label, or their sum or mean."""
    classes, how = log_probabilities.shape[1], node.get("reduction", "mean")
    weights = weighted(node, chosen(node, classes), classes)
    terms = node.part("multiply", [log_probabilities, weights])
    if how == "none":
        return node.vertex("negate", [node.part("sum", [terms], axis=[1])])
    total = node.part("sum", [terms])
    if how == "sum":
        return node.vertex("negate", [total])
    return node.vertex("negate", [node.part("divide", [total, node.part("sum", [weights])])])


def likelihood_loss(node: Node) -> Tensor:
    """Return the negative log-likelihood of labels under log-probabilities."""
    return negative_log_likelihood(node, node.input(0))


def cross_entropy(node: Node) -> list[Tensor | None]:
    """Return the cross-entropy of a softmax with labels, and the log-probabilities."""
    name = 1 if node.wants(1) else None
    scores = [node.input(0)]
    logs = node.vertex("log_softmax", scores, name, axis=1) if name else node.part("log_softmax", scores, axis=1)
    return [negative_log_likelihood(node, logs), logs]


ROWS = (
    Operator("NegativeLogLikelihoodLoss", likelihood_loss, indices=(1,)),
    Operator("SoftmaxCrossEntropyLoss", cross_entropy, indices=(1,)),
)
