"""Where a result comes from: what was asked for, by which command, on which machine, with which versions, and when."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import time
from contextlib import suppress
from datetime import datetime
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.scenario.reader import load

if TYPE_CHECKING:
    from pcsim.run.result import Run
    from pcsim.scenario.scenario import Scenario

PACKAGE = Path(__file__).parents[1]

COMPILERS_AND_DEVICES = ("numba", "llvmlite", "cupy")
"""What an engine may have imported beside what every run needs."""


def provenance(scenario: Scenario) -> dict[str, Any]:
    """Return what a run or a sweep of a scenario keeps of its origin, but for when it began and ended.

    ``source`` says which file the scenario was read from; the folder of its data stands there only where it names any.
    """
    location = scenario.positions.document.location
    source: dict[str, Any] = {"file": None if location is None else _shown(location.file)}
    if scenario.files:
        source["folder"] = str(scenario.folder)
    return {"source": source, "versions": versions(), "files": scenario.files, **_of_process(tuple(sys.argv))}


def _shown(file: str) -> str:
    """Return a path as it was typed, or, where it tells of a machine's folders, its name."""
    return os.path.basename(file) if os.path.isabs(file) else file  # noqa: PTH117, PTH119  ten times as fast


@cache
def _of_process(_arguments: tuple[str, ...]) -> dict[str, Any]:
    return {"command": command(), "commit": commit(PACKAGE.parent), "host": platform.node()}


def now() -> str:
    """Return date and time with the zone, as ISO 8601 has it."""
    return _date(int(time.time()))


@lru_cache(1)
def _date(second: int) -> str:
    return datetime.fromtimestamp(second).astimezone().isoformat(timespec="seconds")


def command() -> str:
    """Return the command line as it was typed; ``python`` where pcsim is used as a library."""
    program = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("python")
    typed = program.stem == "pcsim" or (program.name == "__main__.py" and program.parent.name == "pcsim")
    return shlex.join(["pcsim", *sys.argv[1:]]) if typed else "python"


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on, compilers and devices included where they were used."""
    return dict(_versions(tuple([name for name in COMPILERS_AND_DEVICES if name in sys.modules])))


@cache
def _versions(used: tuple[str, ...]) -> dict[str, str]:
    # reading them takes as long as a small run
    known = {"python": platform.python_version()}
    for name in ("pcsim", "numpy", "scipy", "xarray", "zarr"):
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = "not installed"
    return {**known, **{name: str(getattr(sys.modules[name], "__version__", "")) for name in used}}


@cache
def processor() -> str:
    """Return what the processor is called."""
    text = ""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown"


@cache
def commit(checkout: Path) -> str | None:
    """Return the commit that a checkout is at, read from its files; None where there is no checkout."""
    try:
        folder = checkout / ".git"
        if folder.is_file():  # a worktree, or a submodule
            folder = checkout / folder.read_text().removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text().strip()
        name = head.removeprefix("ref:").strip()
        found = head if name == head else _commit_of(folder, name)
    except (OSError, ValueError):
        return None
    return found if re.fullmatch("[0-9a-f]{40,64}", found) else None


def _commit_of(folder: Path, name: str) -> str:
    """Return the commit of a branch: in a file of its own, or in the list of packed ones."""
    shared = folder / "commondir"
    roots = [folder, *([folder / shared.read_text().strip()] if shared.is_file() else [])]
    for root in roots:
        if (root / name).is_file():
            return (root / name).read_text().strip()
    listed = (roots[-1] / "packed-refs").read_text()
    return next((line.split()[0] for line in listed.splitlines() if line.endswith(f" {name}")), "")


def scenario_of(run: Run) -> Scenario:
    """Return the scenario of a run; its files are sought where they were, or, where that folder is gone, here."""
    folder = Path(run.manifest.get("source", {}).get("folder") or "")
    return load(run.manifest["scenario"], {"sweep": {}}, folder=folder if folder.is_dir() else None)
