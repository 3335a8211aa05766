"""Results as rows for people: the same for the terminal and for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.bench.bench_results import Results
    from pcsim.bench.timing import Ratio, Spread

Rows = list[dict[str, Any]]

LEGEND = (
    (
        "fpa and il: ticks alone, from tick 0, learning and recording nothing; what no message has reached yet may be "
        "passed over, and the rates count it as done. zil, bp and fpa-step-1: a whole update "
        "from new data: forward sweep, inference, parameter update."
    ),
    (
        "GFLOP/s counts matrix products alone (of a whole update those that backprop needs), GB/s the least that must "
        "move; both beside the share of what this machine did in the same rounds. Times are medians with quartiles."
    ),
)


def facts(results: Results) -> list[str]:
    """Return what was measured on, in sentences."""
    found = results.machine
    parts = [
        found.cpu,
        f"{found.cores} cores",
        *found.caches,
        *([f"{found.memory_gib:g} GiB"] if found.memory_gib else []),
        *found.gpus,
        found.system,
        found.blas,
    ]
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    commit = f", commit {found.commit}" if found.commit else ""
    return [", ".join(parts) + ".", f"{versions}{commit}.", f"Sizes: {results.size}. Took {results.seconds:.0f} s."]


def rate_rows(results: Results) -> Rows:
    """Return this machine's own rates."""
    unit = {"matrix product": "GFLOP/s", "copy": "GB/s (read and written)"}
    return [
        {"rate": row.name, "number format": row.dtype, "median": f"{row.median:.4g}",
         "quartiles": f"{row.low:.4g} to {row.high:.4g}", "unit": unit.get(row.name, "")}
        for row in results.rates
    ]  # fmt: skip


def engine_rows(results: Results) -> Rows:
    """Return one row for each engine on each case under each rule."""
    return [
        {
            "case": case(row.family, row.sizes), "rule": row.rule, "engine": row.engine,
            "ticks": row.ticks, "ms": timed(row.seconds), "rounds": row.seconds.rounds,
            "ticks/s": f"{row.ticks_per_second:.3g}", "messages/s": f"{row.messages_per_second:.3g}",
            "GFLOP/s": f"{row.gflops:.3g} ({row.of_product_rate:.0%})",
            "GB/s": f"{row.gbytes:.3g} ({row.of_copy_rate:.0%})",
            "build s": f"{row.build.task:.3g} + {row.build.session:.3g}",
        }
        for row in results.rows
    ]  # fmt: skip


def baseline_rows(results: Results) -> Rows:
    """Return one row for each baseline that an engine met."""
    return [
        {
            "case": case(row.family, row.sizes), "rule": row.rule, "engine": row.engine, "baseline": other.baseline,
            "ms": timed(row.seconds), "baseline ms": timed(other.seconds), "ratio": ratio(other.ratio),
            "rounds": other.ratio.rounds,
        }
        for row in results.rows
        for other in row.against
    ]  # fmt: skip


def cold_rows(results: Results) -> Rows:
    """Return one row for each engine that was started on each case."""
    return [
        {
            "case": case(row.family, row.sizes), "engine": row.engine, "import s": f"{row.imports:.2f}",
            "first runs s": f"{row.compile:.3g}", "session s": f"{row.session:.3g}", "peak MiB": f"{row.peak_mib:.0f}",
        }
        for row in results.cold
    ]  # fmt: skip


def growth_rows(results: Results) -> Rows:
    """Return one row for each curve."""
    return [
        {
            "with": curve.axis, "rule": curve.rule, "engine": curve.engine,
            "from, to": f"{curve.sizes[0]:,}, {curve.sizes[-1]:,}",
            "ms": f"{1e3 * curve.seconds[0]:.3g}, {1e3 * curve.seconds[-1]:.3g} a {curve.per}",
            "slope": f"{curve.slope:.2f}",
        }
        for curve in results.growth
    ]  # fmt: skip


def case(family: str, sizes: Mapping[str, int]) -> str:
    """Return family and sizes as people read them."""
    return f"{family}: " + ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in sizes.items())


def timed(found: Spread) -> str:
    """Return milliseconds with their quartiles."""
    return f"{1e3 * found.median:.3g} ({1e3 * found.low:.3g} to {1e3 * found.high:.3g})"


def ratio(found: Ratio) -> str:
    """Return a ratio with what encloses it."""
    if found.low is None or found.high is None:
        return f"{found.median:.3g} (too few rounds)"
    return f"{found.median:.3g} ({found.low:.3g} to {found.high:.3g})"
