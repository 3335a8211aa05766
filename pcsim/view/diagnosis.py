"""What this machine can run: versions, engines, and what is missing."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

import pcsim
from pcsim.engines import ENGINES, open_engine
from pcsim.engines.threads import cores, threads_wanted
from pcsim.errors import InputError
from pcsim.resources import install
from pcsim.run.provenance import versions
from pcsim.scenario.datasets import DATASETS
from pcsim.scenario.datasets.dataset import home_folder

OPTIONAL = {
    "scikit-learn": f"the data set 'digits': {install('data')}",
    "pyarrow": f"tables and synapses from Parquet files: {install('files')}",
    "h5py": f"synapses from SONATA files: {install('files')}",
}
"""Packages that only some scenarios need, and what for."""

BEHIND_ENGINES = ("numba", "cupy-cuda12x")
"""Packages that engines need."""


def diagnosis() -> dict[str, Any]:
    """Return versions, engines, what they may use of this machine, and what is missing for the rest."""
    optional = {name: use for name, use in OPTIONAL.items() if not _installed(name)}
    missing = optional | {f"engine {name}": why for name in ENGINES if (why := _closed(name))}
    engines = [name for name in ENGINES if f"engine {name}" not in missing]
    also = {name: version(name) for name in (*BEHIND_ENGINES, *OPTIONAL) if _installed(name)}
    return {
        "python": platform.python_version(),
        "installed": str(Path(pcsim.__file__).parent),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": cores(),
        "threads": _threads() if "numba" in engines else None,
        "versions": {**versions(), **also},
        "engines": engines,
        "data": _data(),
        "missing": missing,
    }


def _data() -> dict[str, str]:
    """Return where the files of data sets are sought that an entry does not say, and what is not there."""
    homes = {row.name: home_folder() / row.home for row in DATASETS.values() if row.home}
    return {name: str(path) if path.exists() else f"not in {path}" for name, path in homes.items()}


def _threads() -> int | str:
    """Return the threads of the compiled engine, or what is wrong with their number."""
    try:
        return threads_wanted()
    except InputError as error:
        return str(error)


def _closed(engine: str) -> str:
    """Return why an engine cannot be opened here; empty where it can."""
    try:
        open_engine(engine)
    except InputError as error:
        return str(error)
    return ""


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def diagnosis_table(found: dict[str, Any]) -> Any:
    """Return a diagnosis as a table for people."""
    table = Table(show_header=False)
    cores = found["cores"]
    table.add_row("machine", f"{found['machine']}, {cores} core{'s' if cores > 1 else ''} for this process")
    table.add_row("installed in", found["installed"])
    for name, number in found["versions"].items():
        table.add_row(name, number)
    table.add_row("engines", ", ".join(found["engines"]))
    if found["threads"] is not None:
        table.add_row("threads of numba", str(found["threads"]))
    for name, where in found["data"].items():
        table.add_row(f"data set {name}", where)
    for name, use in found["missing"].items():
        table.add_row(f"{name} is missing", use)
    return table
