"""Exports a PyTorch module: its operators as a graph, by ``torch.export``, and what stops it as an ``InputError``."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.errors import clipped, wrong
from pcsim.resources import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMEDY = (
    "what decides in Python on computed numbers has no graph: choose with torch.where or a mask, "
    "and give shapes that do not depend on them"
)


def torch_package() -> Any:
    """Return the package ``torch``; raises InputError that says how to get it."""
    try:
        import torch
        import torch.export
    except ImportError:
        raise wrong((), f"reading a PyTorch module needs torch: {install('torch')}") from None
    return torch


def exported(module: Any, example: tuple[Any, ...], batch_axis: int | None) -> Any:
    """Return the exported program of a module for an example whose batch axis is cut to its first sample.

    What cannot be traced with one sample (batch statistics of one number each) is traced with a batch of any size.

    Raises
    ------
    InputError
        Where the module cannot be traced, with the line that stops it.
    """
    torch = torch_package()

    def traced(arguments: tuple[Any, ...], shapes: Any = None) -> Any:
        return torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)

    with undisturbed(torch):
        try:
            return traced(resized(torch, example, batch_axis, 1))
        except Exception as error:  # noqa: BLE001 - a module may raise anything
            first = error
        if batch_axis is not None:
            try:
                shapes = open_batch(torch, example, batch_axis)
                return traced(resized(torch, example, batch_axis, 2), shapes)
            except Exception:  # noqa: BLE001 - the first error is told
                pass
    raise wrong((), f"{type(module).__name__} cannot be traced: {what_stopped(torch, first)}")


def functional(program: Any, keeps: Callable[[str, str], bool]) -> Any:
    """Return a program in which nothing is changed in place and that has, as far as may be, operators that it keeps.

    keeps : (operator, overload) -> whether it stays as it is; PyTorch writes others out in simpler ones
    """
    torch = torch_package()
    with undisturbed(torch):
        table = torch.export.default_decompositions()
        for operator in list(table):
            if keeps(*name_of(operator)):
                del table[operator]
        return program.run_decompositions(table)


def name_of(operator: Any) -> tuple[str, str]:
    """Return the name and the overload of an operator.

    >>> class Operator:
    ...     _overloadname, _schema = "Tensor", type("Schema", (), {"name": "aten::add"})
    >>> name_of(Operator)
    ('add', 'Tensor')
    """
    space, name = operator._schema.name.split("::")
    return (name if space == "aten" else f"{space}.{name}"), operator._overloadname


def resized(torch: Any, example: Any, batch_axis: int | None, extent: int) -> Any:
    """Return an example whose tensors have a batch of so many samples: the first one, repeated."""

    def one(leaf: Any) -> Any:
        if batch_axis is None or not isinstance(leaf, torch.Tensor) or leaf.ndim <= batch_axis:
            return leaf
        return leaf.narrow(batch_axis, 0, 1).repeat_interleave(extent, batch_axis)

    return torch.utils._pytree.tree_map(one, example)


def open_batch(torch: Any, example: Any, batch_axis: int) -> Any:
    """Return for each tensor of an example that the extent of its batch axis is open."""
    batch = torch.export.Dim("batch")

    def one(leaf: Any) -> Any:
        return {batch_axis: batch} if isinstance(leaf, torch.Tensor) and leaf.ndim > batch_axis else None

    return torch.utils._pytree.tree_map(one, example)


@contextmanager
def undisturbed(torch: Any) -> Iterator[None]:
    """Trace with gradients, without fused layers, and without what PyTorch prints on the way."""
    fast, level = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.CRITICAL)
    try:
        silent = io.StringIO()
        with warnings.catch_warnings(), torch.enable_grad(), redirect_stdout(silent), redirect_stderr(silent):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.backends.mha.set_fastpath_enabled(fast)


def what_stopped(torch: Any, error: Exception) -> str:
    """Return what stopped a trace: the first line of the message, the line of the module, and a remedy."""
    inside = str(Path(torch.__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(inside)]
    frames = [frame for frame in frames if not frame.filename.startswith(str(Path(__file__).parent))]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{clipped(lines[0], 300)}{where}; {REMEDY}"
