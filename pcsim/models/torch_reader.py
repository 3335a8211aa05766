"""Reads PyTorch modules: each operator of the exported module becomes vertices, by the rows of ``torch_operators``.

What depends on no input and no learnt parameter (masks, positions, sizes) PyTorch itself works out, once.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, Problem, clipped, nearest, whole, wrong
from pcsim.models.builder import Builder, Tensor
from pcsim.models.torch_export import exported, functional, name_of, torch_package
from pcsim.models.torch_operators import ROWS
from pcsim.models.torch_scope import Scope, numpy_format

if TYPE_CHECKING:
    from pcsim.models.model import Model

IGNORED = ("device", "dtype", "layout", "memory_format", "non_blocking", "copy", "pin_memory")
"""Arguments of operators that say where and how numbers are stored."""


class Failed:
    """Stands for what a node could not be made of."""


FAILED = Failed()


def from_torch(module: Any, example: Any, batch_axis: int | None = 0, title: str = "") -> Model:
    """Return the graph of a PyTorch module with its weights.

    Parameters
    ----------
    module : a ``torch.nn.Module``; whether it is in training decides on dropout and on batch statistics
    example : an input, or a tuple of all inputs; only shapes and number formats matter
    batch_axis : the axis of the inputs that holds the samples. The graph is that of one sample, pcsim's own batch is
        outside of it. None: there is none, the whole example is one sample
    title : of the graph; default: the module's class

    Returns
    -------
    Model
        Its parameters have the names of ``state_dict`` (of a shared one, the first). Vertices are named by the
        modules' paths: ``layer1.0.conv1``; what a module does beside is ``layer1.0.add``. Tensors that ask for no
        gradient are constants, but where a layer needs them as a weight.

    Raises
    ------
    InputError
        Where the module cannot be traced, or has operators without a translation: all of them, each with the module
        and the line that it comes from.
    """
    example = tuple(example) if isinstance(example, tuple | list) else (example,)
    return from_exported(exported(module, example, batch_axis), batch_axis, title or type(module).__name__)


def read_exported(path: str | Path, extents: Mapping[str, Any] | None = None, batch_axis: int | None = 0) -> Model:
    """Return the model in a file that ``torch.export.save`` wrote.

    extents : {name: extent} of those that the file leaves open; along the batch axis an open one is 1
    """
    torch = torch_package()
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise wrong((), f"{path}: no file that torch.export.save wrote: {first}") from None
    return from_exported(program, batch_axis, Path(path).stem, extents)


def from_exported(
    program: Any, batch_axis: int | None = 0, title: str = "", extents: Mapping[str, Any] | None = None
) -> Model:
    """Return the model of an exported program; ``from_torch`` says what becomes of it."""
    simple = functional(program, lambda name, overload: row_of(name, overload) is not None)
    reading = Reading(simple, batch_axis, title, extents or {})
    reading.check_gradients(program)
    return reading.model()


def row_of(name: str, overload: str) -> Any:
    """Return the translation of an operator; None where it has none."""
    return ROWS.get(f"{name}.{overload}", ROWS.get(name))


class Reading:
    """A program under way: what each node has become."""

    def __init__(self, program: Any, batch_axis: int | None, title: str, extents: Mapping[str, Any]) -> None:
        self.torch = torch_package()
        self.program, self.batch_axis, self.extents = program, batch_axis, extents
        self.open: set[str] = set()
        self.builder = Builder(title)
        self.made: dict[Any, Any] = {}
        self.varying: set[Any] = set()
        self.shared: dict[Any, Tensor] = {}

    # -- the program -----------------------------------------------------------------------------------------

    def model(self) -> Model:
        """Return the model; raises InputError with every problem."""
        nodes = list(self.program.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, self.program.graph_signature.input_specs, strict=True):
            self.made[node] = self.attempt(node, lambda: self.placeholder(node, spec))  # noqa: B023
        unknown = [name for name in self.extents if name not in self.open]
        self.builder.problems += [Problem((name,), f"no open extent{nearest(name, self.open)}") for name in unknown]
        outputs = self.outputs(nodes[-1])
        live = reached(nodes, outputs)
        self.varying |= varying(live, self.varying)
        self.check_buffers(nodes[-1], live)
        alone = alone_in_module(live, self.varying)
        for node in live:
            if node.op != "placeholder":
                self.made[node] = self.attempt(node, lambda: self.call(node, node in alone))  # noqa: B023
        found = {f"output{number}": self.made[node] for number, node in enumerate(outputs)}
        named = {getattr(tensor, "vertex", "") or name: tensor for name, tensor in found.items()}
        if len(named) < len(found):
            named = found
        return self.builder.model(named, self.batch_axis)

    def outputs(self, node: Any) -> list[Any]:
        """Return the nodes that the module returns."""
        specs = self.program.graph_signature.output_specs
        pairs = zip(node.args[0], specs, strict=True)
        return [each for each, spec in pairs if spec.kind.name == "USER_OUTPUT" and hasattr(each, "meta")]

    def attempt(self, node: Any, step: Any) -> Any:
        """Return what a node becomes; where it cannot, note why, and where it stands."""
        try:
            return step()
        except InputError as error:
            self.builder.problems += [self.placed(node, problem) for problem in error.problems]
            return FAILED

    def placed(self, node: Any, problem: Problem) -> Problem:
        """Return a problem with the node, its module and its line."""
        operator = "" if node.op == "placeholder" else f"{operator_name(node.target)}: "
        return Problem((node.name, *problem.path), f"{operator}{problem.message}{whereabouts(self.torch, node)}")

    # -- what goes in ----------------------------------------------------------------------------------------

    def placeholder(self, node: Any, spec: Any) -> Any:
        """Return what an input of the program is: a parameter, known numbers, or an input of the module."""
        if spec.kind.name == "USER_INPUT":
            return self.user_input(node)
        if spec.kind.name not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            raise wrong((), f"an input of the kind {spec.kind.name} has no translation")
        state, constants = self.program.state_dict, self.program.constants
        tensor = state[spec.target] if spec.target in state else constants[spec.target]
        if spec.kind.name != "PARAMETER" or not tensor.requires_grad:
            return Tensor(tuple(tensor.shape), array_of(tensor))
        self.varying.add(node)
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if key not in self.shared:
            self.shared[key] = self.builder.parameter(spec.target, array_of(tensor))
        return self.shared[key]

    def user_input(self, node: Any) -> Any:
        """Return an input of the module, with the shape of one sample."""
        value = node.meta.get("val")
        if not isinstance(value, self.torch.Tensor):
            return value
        self.varying.add(node)
        chosen = numpy_format(value.dtype).kind in "iub"
        shape = [self.extent(node, axis, extent) for axis, extent in enumerate(value.shape)]
        return self.builder.input(node.name, shape, "whole" if chosen else "float")

    def extent(self, node: Any, axis: int, extent: Any) -> int:
        """Return an extent of an input; an open one is 1 along the batch axis, and refused along others."""
        if isinstance(extent, int):
            return extent
        self.open.add(str(extent))
        if str(extent) in self.extents:
            return whole(self.extents[str(extent)])
        if axis == self.batch_axis:
            return 1
        remedy = f"give it (on the command line: --set {extent}=8), or export it with a fixed one"
        raise wrong((), f"the extent of axis {axis} of {node.name!r} is open, its name is {extent}: {remedy}")

    def check_gradients(self, program: Any) -> None:
        """Note parts of a program, as it was exported, that are computed without gradients from what varies."""
        nodes = list(program.graph.nodes)
        kinds = {spec.arg.name: spec.kind.name for spec in program.graph_signature.input_specs}
        sources = {node for node in nodes if kinds.get(node.name) in ("USER_INPUT", "PARAMETER")}
        for node in varying(nodes, sources):
            if operator_name(node.target) == "wrap_with_set_grad_enabled" and node.args[0] is False:
                message = "what is computed under no_grad sends no errors back, and every edge does: leave no_grad out"
                self.builder.problems.append(self.placed(node, Problem((), message)))

    def check_buffers(self, output: Any, live: Sequence[Any]) -> None:
        """Note buffers that a call changes and that its own result depends on, but for statistics of a batch norm."""
        specs = self.program.graph_signature.output_specs
        inputs = {spec.target: spec.arg.name for spec in self.program.graph_signature.input_specs}
        names = {node.name: node for node in live}
        for node, spec in zip(output.args[0], specs, strict=True):
            if spec.kind.name != "BUFFER_MUTATION":
                continue
            before = names.get(inputs[spec.target])
            users = [user for user in ([] if before is None else before.users) if user.name in names]
            if any("batch_norm" not in operator_name(user.target) for user in users):
                message = f"the module changes its buffer {spec.target!r} at each call: what it remembers has no graph"
                self.builder.problems.append(self.placed(node, Problem((), message)))

    # -- operators -------------------------------------------------------------------------------------------

    def call(self, node: Any, alone: bool) -> Any:
        """Return what an operator makes of its arguments."""
        args, kwargs = self.given(node.args), self.given(dict(node.kwargs))
        known_operator = self.row(node)
        if any(each is FAILED for each in leaves((args, kwargs))):
            return FAILED
        if not hasattr(node.target, "_schema"):
            return node.target(*args, **kwargs)
        if operator_name(node.target) == "aten.sym_size":
            return args[0].shape[args[1]]
        if node not in self.varying:
            return self.worked_out(node, args, kwargs)
        scope = Scope(self.builder, path_of(node), alone, node)
        kept = {key: value for key, value in kwargs.items() if key not in IGNORED}
        try:
            inspect.signature(known_operator).bind(scope, *args, **kept)
        except TypeError as error:
            raise wrong((), f"with these arguments it has no translation ({error})") from None
        return known_operator(scope, *args, **kept)

    def row(self, node: Any) -> Any:
        """Return the translation of a node that needs one; raises InputError where there is none."""
        if not hasattr(node.target, "_schema"):
            if callable(node.target) and getattr(node.target, "__module__", "") in ("_operator", "math", "builtins"):
                return None
            raise wrong((), "it has no translation")
        name, overload = name_of(node.target)
        row = row_of(name, overload)
        if row is None and node in self.varying and name != "sym_size":
            raise wrong((), "it has no translation")
        return row

    def given(self, argument: Any) -> Any:
        """Return an argument with nodes as what they have become."""
        if isinstance(argument, self.torch.fx.Node):
            return self.made[argument]
        if isinstance(argument, Mapping):
            return {key: self.given(value) for key, value in argument.items()}
        if isinstance(argument, list | tuple):
            return [self.given(each) for each in argument]
        return argument

    def worked_out(self, node: Any, args: Any, kwargs: Any) -> Any:
        """Return what PyTorch makes of known numbers."""
        if self.torch.Tag.nondeterministic_seeded in node.target.tags:
            raise wrong((), "random numbers are drawn while the module runs: only dropout is")
        kwargs = {**kwargs, **({"device": "cpu"} if "device" in kwargs else {})}
        with self.torch.no_grad():
            made = node.target(*self.back(node.args, args), **self.back(node.kwargs, kwargs))
        return self.as_tensors(made)

    def back(self, argument: Any, value: Any) -> Any:
        """Return known numbers as tensors of PyTorch, in the format that the program says."""
        if isinstance(value, Tensor):
            return self.torch.tensor(np.array(value.array), dtype=argument.meta["val"].dtype)
        if isinstance(value, dict):
            return {key: self.back(argument[key], each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.back(argument[at], each) for at, each in enumerate(value)]
        return value

    def as_tensors(self, made: Any) -> Any:
        """Return tensors of PyTorch as known numbers."""
        if isinstance(made, self.torch.Tensor):
            return Tensor(tuple(made.shape), array_of(made))
        return [self.as_tensors(each) for each in made] if isinstance(made, list | tuple) else made


def array_of(tensor: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the numbers of a tensor."""
    array: np.ndarray[Any, np.dtype[Any]]
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    array = tensor.detach().cpu().numpy()
    return array


def leaves(argument: Any) -> list[Any]:
    """Return what nested arguments hold."""
    if isinstance(argument, dict):
        return leaves(list(argument.values()))
    return [leaf for each in argument for leaf in leaves(each)] if isinstance(argument, list | tuple) else [argument]


def reached(nodes: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """Return the nodes that outputs depend on, in their order."""
    wanted = set(outputs)
    for node in reversed(nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in nodes if node in wanted]


def varying(nodes: Sequence[Any], sources: set[Any]) -> set[Any]:
    """Return the nodes that depend on an input or on a learnt parameter, and not on their shapes alone."""
    found = set(sources)
    for node in nodes:
        sized = node.op == "call_function" and operator_name(node.target) == "aten.sym_size"
        if not sized and any(each in found for each in node.all_input_nodes):
            found.add(node)
    return found


def alone_in_module(nodes: Sequence[Any], varying: set[Any]) -> set[Any]:
    """Return the nodes that are all that a call of their module does."""
    active = [node for node in nodes if node in varying and hasattr(node.target, "_schema")]
    calls = {node: next(reversed(node.meta.get("nn_module_stack") or {"": None})) for node in active}
    count = Counter(calls.values())
    outer = {path.rpartition(".")[0] for path in map(path_of, active)}
    return {node for node in active if count[calls[node]] == 1 and path_of(node) not in outer}


def path_of(node: Any) -> str:
    """Return the path of the module that a node is part of."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def operator_name(target: Any) -> str:
    """Return the name of an operator, for a message."""
    if not hasattr(target, "_schema"):
        return str(getattr(target, "__name__", target))
    name, _ = name_of(target)
    return name if "." in name else f"aten.{name}"


def whereabouts(torch: Any, node: Any) -> str:
    """Return the module and the line of a node, as far as PyTorch knows them."""
    stack, lines = node.meta.get("nn_module_stack") or {}, (node.meta.get("stack_trace") or "").splitlines()
    kind = str(list(stack.values())[-1][1]).rpartition(".")[2] if stack else ""
    module = f", in module {path_of(node) or 'at the top'} ({kind})" if stack else ""
    inside = str(Path(torch.__file__).parent)
    places = [(line.strip(), code.strip()) for line, code in pairwise(lines) if "File " in line]
    own = [pair for pair in places if inside not in pair[0]] or places
    return module + (f", {own[-1][0].removeprefix('File ')}: {clipped(own[-1][1], 80)}" if own else "")
