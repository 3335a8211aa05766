"""Baselines: the same numbers computed without this package, as well as a good user would write them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pcsim.errors import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from pcsim.engines import Task

DEFAULT = Path("tests/bench/baselines.py")
"""Where baselines are looked for when none are named."""

Work = Literal["ticks", "update"]


@dataclass(frozen=True)
class Candidate:
    """Something that is timed: ``reset`` is not, ``run`` is, ``read`` tells what was computed.

    What ``read`` returns depends on the work: {vertex: error as of tick ``task.ticks``} for ``ticks``,
    {parameter: descent direction} for ``update``.
    """

    reset: Callable[[], object]
    run: Callable[[], object]
    read: Callable[[], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Baseline:
    """One row of a table ``BASELINES``.

    Attributes
    ----------
    work : ``ticks``: what ``task.ticks`` ticks of the rule compute, from tick 0, without learning;
        ``update``: the parameters' descent directions from new data, forward sweep included
    families : names of the families that it can run
    rules : names of rules that it is compared with
    needs : modules that must be installed
    dtypes : number formats that it runs in
    """

    name: str
    work: Work
    families: tuple[str, ...]
    rules: tuple[str, ...]
    make: Callable[[Task], Candidate]
    needs: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")

    @property
    def missing(self) -> tuple[str, ...]:
        """Modules that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)

    def meets(self, family: str, rule: str, dtype: np.dtype[Any]) -> bool:
        """Return whether it computes what a rule does on a family of graphs, in a number format."""
        return family in self.families and rule in self.rules and str(dtype) in self.dtypes


def load_baselines(path: Path) -> tuple[Baseline, ...]:
    """Return the table ``BASELINES`` of a Python file; raises InputError where there is none."""
    if not path.is_file():
        raise wrong("baselines", f"there is no file {path}")
    spec = spec_from_file_location(f"baselines_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise wrong("baselines", f"{path} is no Python file")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # its neighbours may be imported
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise wrong("baselines", f"cannot import {path}: {error}") from None
    finally:
        sys.path.pop(0)
    rows = getattr(module, "BASELINES", None)
    if not isinstance(rows, tuple) or not all(isinstance(row, Baseline) for row in rows):
        raise wrong("baselines", f"{path} has no tuple BASELINES of pcsim.bench.baselines.Baseline")
    return rows
