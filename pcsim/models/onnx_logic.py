"""Operators of ONNX that compare and combine truth values, carried as 0 and 1; their derivatives are 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.models.onnx_node import Operator

if TYPE_CHECKING:
    from pcsim.models.builder import Operand, Tensor
    from pcsim.models.onnx_node import Node


def sign_of_difference(node: Node, a: Operand, b: Operand) -> Tensor:
    """Return the sign of a - b."""
    return node.part("sign", [node.part("subtract", [a, b])])


def greater(node: Node) -> Tensor:
    """Return where a > b."""
    return node.vertex("relu", [sign_of_difference(node, node.input(0), node.input(1))])


def less(node: Node) -> Tensor:
    """Return where a < b."""
    return node.vertex("relu", [sign_of_difference(node, node.input(1), node.input(0))])


def not_less(node: Node) -> Tensor:
    """Return where a >= b."""
    return node.vertex("subtract", [1.0, node.part("relu", [sign_of_difference(node, node.input(1), node.input(0))])])


def not_greater(node: Node) -> Tensor:
    """Return where a <= b."""
    return node.vertex("subtract", [1.0, node.part("relu", [sign_of_difference(node, node.input(0), node.input(1))])])


def equal(node: Node) -> Tensor:
    """Return where a = b."""
    return node.vertex("subtract", [1.0, node.part("abs", [sign_of_difference(node, node.input(0), node.input(1))])])


def negation(node: Node) -> Tensor:
    """Return where x is false."""
    return node.vertex("subtract", [1.0, node.input(0)])


def both(node: Node) -> Tensor:
    """Return where both are true."""
    return node.vertex("multiply", [node.input(0), node.input(1)])


def either(node: Node) -> Tensor:
    """Return where one of them is true, or both."""
    return node.vertex("maximum", [node.input(0), node.input(1)])


def only_one(node: Node) -> Tensor:
    """Return where one of them is true and the other is not."""
    return node.vertex("abs", [node.part("subtract", [node.input(0), node.input(1)])])


def where(node: Node) -> Tensor:
    """Return elements of two inputs: chosen by a mask that is known or fed, or weighted by one that is computed."""
    mask, a, b = node.input(0), node.input(1), node.input(2)
    if node.builder.can_be_whole(mask):
        return node.vertex("where", [mask, a, b])
    other = node.part("multiply", [node.part("subtract", [1.0, mask]), b])
    return node.vertex("add", [node.part("multiply", [mask, a]), other])


ROWS = (
    Operator("Greater", greater, since=9, whole=True),
    Operator("Less", less, since=9, whole=True),
    Operator("GreaterOrEqual", not_less, since=12, whole=True),
    Operator("LessOrEqual", not_greater, since=12, whole=True),
    Operator("Equal", equal, since=7, whole=True),
    Operator("Not", negation, since=1, whole=True),
    Operator("And", both, since=7, whole=True),
    Operator("Or", either, since=7, whole=True),
    Operator("Xor", only_one, since=7, whole=True),
    Operator("Where", where, since=9, whole=True),
)
