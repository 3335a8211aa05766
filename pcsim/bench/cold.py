"""Start-up, measured in a process of its own: imports, the first session beside the second, peak memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.bench.bench_results import Cold
from pcsim.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.bench.families import Case, RuleRow, Size

LIMIT = 600.0
"""Seconds after which a process is ended."""

PROGRAM = "import time; start = time.perf_counter(); from pcsim.bench import cold; cold.main(start)"


def cold_start(engine: str, case: Case, rules: Sequence[RuleRow], size: Size) -> Cold:
    """Start a process that runs a case under each rule, and return what it says.

    Raises RunError where the process fails.
    """
    asked = {
        "family": case.family.name, "sizes": dict(case.sizes), "rules": [rule.name for rule in rules], "engine": engine,
        "size": size,
    }  # fmt: skip
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        msg = f"{case.name}, {engine}: no start within {LIMIT:.0f} s"
        raise RunError(msg) from None
    if done.returncode:
        msg = f"{case.name}, {engine}: {(done.stderr.strip().splitlines() or ['the process failed'])[-1]}"
        raise RunError(msg)
    return Cold(case.family.name, dict(case.sizes), engine, **json.loads(done.stdout))


def main(start: float) -> None:
    """Run what the first argument asks for, and print seconds and memory; ``start``: when imports began."""
    from pcsim.bench.engine_timers import engine_timer, task_of
    from pcsim.bench.families import FAMILIES, RULES, Case
    from pcsim.engines import open_engine

    asked: dict[str, Any] = json.loads(sys.argv[1])
    open_engine(asked["engine"])
    imports = time.perf_counter() - start
    case = Case(FAMILIES[asked["family"]], asked["sizes"])
    compiled, session = 0.0, 0.0
    for name in asked["rules"]:
        task = task_of(case, RULES[name], asked["size"])
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            found = engine_timer(asked["engine"], task, RULES[name], 0.0)
            found.candidate.run()
            seconds.append(time.perf_counter() - begun)
            session = max(session, found.build.session)
        compiled += max(0.0, seconds[0] - seconds[1])
    measured = {"imports": imports, "compile": compiled, "session": session, "peak_mib": _peak()}
    sys.stdout.write(json.dumps(measured))


def _peak() -> float:
    """Return the most memory that this process held, in MiB.

    Where there is no Linux to ask, ``ru_maxrss`` has to do, which may count the parent at the time of the fork.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
