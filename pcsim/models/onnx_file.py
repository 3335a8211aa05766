"""Reads an ONNX file into a model proto whose functions are written out, and says what is wrong with it."""

from __future__ import annotations

from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, Problem, wrong
from pcsim.resources import check_file, install

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OLDEST, NEWEST = 13, 28
"""Versions of ONNX's operators that are read; of older models, those operators that stayed the same."""

MOST_ELEMENTS = 1_000
"""Tensors of more elements than this say nothing of shapes."""

STANDARD = ("", "ai.onnx")
"""Names of the domain of ONNX's own operators."""


def onnx_module(name: str = "onnx") -> Any:
    """Return ``onnx`` or a module of it; raises InputError where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise wrong((), f"ONNX files need the package onnx, which is not installed: {install('onnx')}") from None


def read_model(source: Any) -> tuple[Any, str]:
    """Return the model proto of a path, of bytes, or of a model proto, and how messages name it."""
    onnx = onnx_module()
    if isinstance(source, onnx.ModelProto):
        return source, ""
    if isinstance(source, bytes):
        return _parsed(source, "these bytes"), ""
    path = Path(source)
    check_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise wrong((), f"cannot read {path}: {error.strerror or error}") from None
    model = _parsed(content, str(path))
    _load_external(model, path)
    return model, f"{path}: "


def _parsed(content: bytes, what: str) -> Any:
    model = onnx_module().ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # noqa: BLE001 - the error's class depends on the version of protobuf
        raise wrong((), f"{what}: cannot be read as an ONNX model: {str(error) or type(error).__name__}") from None
    if not model.graph.node and not model.graph.output:
        raise wrong((), f"{what}: cannot be read as an ONNX model: it holds no graph")
    if not all(isinstance(text, str) for text in texts_of(model.graph)):
        raise wrong((), f"{what}: cannot be read as an ONNX model: it holds names that are no text")
    return model


def texts_of(graph: Any) -> Iterator[Any]:
    """Yield the names in a graph, and in the graphs within its nodes."""
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for part in graphs_of(node):
            yield from texts_of(part)
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield from (info.name, *(dim.dim_param for dim in info.type.tensor_type.shape.dim))
    yield from (tensor.name for tensor in graph.initializer)


def _load_external(model: Any, path: Path) -> None:
    """Read tensors that lie in files beside the model; raises InputError naming each that is missing."""
    helper, outside, problems = onnx_module("onnx.external_data_helper"), onnx_module().TensorProto.EXTERNAL, []
    for tensor in (each for each in tensors_of(model.graph) if each.data_location == outside):
        try:
            helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = onnx_module().TensorProto.DEFAULT
            del tensor.external_data[:]
        except Exception as error:  # noqa: BLE001 - what onnx raises depends on its version
            said = {entry.key: entry.value for entry in tensor.external_data}
            message = f"{path}: tensor {tensor.name!r} lies in {said.get('location')!r}, which cannot be read: {error}"
            problems.append(Problem((), " ".join(message.split())))
    if problems:
        raise InputError(problems)


def opset_of(model: Any, where: str) -> int:
    """Return the version of ONNX's operators that a model is written in; raises InputError for one that is newer."""
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    if not versions or versions[0] > NEWEST:
        got = f"opset {versions[0]}" if versions else "no operators of ONNX itself (no opset)"
        raise wrong((), f"{where}the model has {got}, expected opset {OLDEST} to {NEWEST}")
    return int(versions[0])


def skeleton(model: Any) -> Any:
    """Return a model without its large tensors, which are inputs of it: what its nodes are does not depend on them."""
    onnx = onnx_module()
    made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = model.graph
    made.graph.MergeFrom(onnx.GraphProto(name=graph.name or "model", node=graph.node, input=graph.input))
    made.graph.output.extend(graph.output)
    given = {info.name for info in graph.input}
    for tensor in graph.initializer:
        if prod(tensor.dims) <= MOST_ELEMENTS:
            made.graph.initializer.append(tensor)
        elif tensor.name not in given:
            made.graph.input.append(
                onnx_module("onnx.helper").make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return made


def written_out(model: Any, known: Iterable[str]) -> Any:
    """Return a model in which functions of the model and of ONNX, but for known operators, are written out as nodes."""
    inliner = onnx_module("onnx.inliner")
    left = {(name, operator) for name in STANDARD for operator in known}
    while True:
        functions = {(function.domain, function.name) for function in model.functions}
        operators = {(node.domain, node.op_type) for node in nodes_of(model.graph)} - left
        chosen = [each for each in sorted(operators) if each in functions or _is_function(each, model)]
        if not chosen:
            return model
        try:
            model = inliner.inline_selected_functions(model, chosen[:1], inline_schema_functions=True)
        except RuntimeError:  # onnx cannot write it out; it is named as an operator that is not read
            left.add(chosen[0])


def _is_function(operator: tuple[str, str], model: Any) -> bool:
    """Return whether ONNX defines an operator by others."""
    domain, name = operator
    defs = onnx_module("onnx.defs")
    version = next((entry.version for entry in model.opset_import if entry.domain == domain), None)
    if version is None or not defs.has(name, domain):
        return False
    schema = defs.get_schema(name, version, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)


def nodes_of(graph: Any) -> list[Any]:
    """Return the nodes of a graph and of the graphs within its nodes."""
    inner = [part for node in graph.node for part in graphs_of(node)]
    return [*graph.node, *(node for part in inner for node in nodes_of(part))]


def graphs_of(node: Any) -> list[Any]:
    """Return the graphs that a node holds as attributes."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def tensors_of(graph: Any) -> list[Any]:
    """Return the tensors that a graph holds, also in its nodes."""
    inner = [attribute.t for node in nodes_of(graph) for attribute in node.attribute if attribute.HasField("t")]
    parts = [graph, *(part for node in nodes_of(graph) for part in graphs_of(node))]
    return [*(tensor for part in parts for tensor in part.initializer), *inner]


def used_names(graph: Any) -> frozenset[str]:
    """Return the values that some node takes, or that are outputs."""
    parts = [graph, *(part for node in nodes_of(graph) for part in graphs_of(node))]
    ends = (info.name for part in parts for info in part.output)
    return frozenset(ends) | {name for node in nodes_of(graph) for name in node.input}


def number_types(model: Any) -> dict[str, int]:
    """Return {value: number type of ONNX} of all values whose type can be worked out."""
    try:
        typed = onnx_module("onnx.shape_inference").infer_shapes(model)
    except Exception:  # noqa: BLE001 - a model whose types do not fit is read node by node, which says what is wrong
        typed = model
    return dict(_types_in(typed.graph))


def _types_in(graph: Any) -> Iterable[tuple[str, int]]:
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.HasField("tensor_type"):
            yield info.name, info.type.tensor_type.elem_type
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type
    for node in graph.node:
        for part in graphs_of(node):
            yield from _types_in(part)
