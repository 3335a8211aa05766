"""Reproduces claims: measures, checks, and says in plain words whether the paper's figure is ours too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.claims.claim_files import keep_claim
from pcsim.claims.claims_here import claim_file, claims_here
from pcsim.claims.measured_rows import Rows
from pcsim.claims.measurements import MissingDataError, measured
from pcsim.claims.verdicts import check
from pcsim.engines.threads import cores
from pcsim.errors import PcsimError, wrong
from pcsim.run.provenance import now, processor, provenance
from pcsim.scenario.reader import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcsim.claims.verdicts import Verdict
    from pcsim.scenario.claim_document import ClaimEntry, SizeEntry
    from pcsim.scenario.scenario import Scenario

SIZES = ("quick", "full")

Progress = Callable[[int, int, str], None]
"""Called before each claim with (claims done, claims, its name), and once all are done."""


@dataclass(frozen=True)
class Reproduction:
    """A claim beside what was measured.

    Attributes
    ----------
    name, title, source : the claim, and where the paper makes it
    claim : what the paper says, in a sentence
    paper, ours : the paper's figure and ours, short
    agrees : whether they agree; None where it was not run, or a run failed
    why : the reason, in plain words
    status : ``run``, ``not run`` (its data are not here) or ``failed``
    size : ``quick`` or ``full``
    differs : what differs from the paper: sizes, data, seeds
    rows : what was measured, by column
    entry : the key ``claim`` of the scenario
    seconds : how long it took
    provenance : command, commit, versions, host, when, scenario's digest and overrides
    """

    name: str
    title: str
    source: str
    claim: str
    paper: str
    ours: str
    agrees: bool | None
    why: str
    status: str
    size: str
    differs: str
    rows: Rows = field(repr=False)
    entry: ClaimEntry = field(repr=False)
    seconds: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def verdict(self) -> str:
        """``agrees``, ``disagrees``, ``not run`` or ``failed``."""
        return self.status if self.agrees is None else "agrees" if self.agrees else "disagrees"


def reproduce(name: str | Path, size: str = "quick", *, out: str | Path | None = None) -> Reproduction:
    """Reproduce one claim.

    Parameters
    ----------
    name : one of ``pcsim list claims``, or the path of a scenario with the key ``claim``
    size : ``quick``, small sizes, or ``full``, the paper's
    out : a folder that keeps it as JSON, CSV and in a Markdown table, beside the claims that are there

    Raises
    ------
    InputError
        Where there is no such claim, or its scenario is wrong. Data that are not here are told in the result.
    """
    path = claim_file(name)
    entry, chosen, scenario = _asked(path, size)
    began, clock = now(), time.perf_counter()
    status, rows, told = "run", Rows((), ()), ""
    try:
        rows = measured(entry.rows, path, chosen.set)
    except MissingDataError as error:
        status, told = "not run", f"needs data that are not here: {error.problems[0].message}"
    except PcsimError as error:
        status, told = "failed", str(error)
    verdicts = [check(rows, one) for one in entry.checks] if status == "run" else []
    done = Reproduction(
        name=path.stem,
        title=scenario.document.title,
        source=scenario.document.source,
        claim=entry.says,
        paper=entry.paper,
        ours=_ours(entry, verdicts),
        agrees=all(one.agrees for one in verdicts) if verdicts else None,
        why=told or _why(verdicts),
        status=status,
        size=size,
        differs="; ".join(filter(None, (entry.differs, chosen.differs))),
        rows=rows,
        entry=entry,
        seconds=round(time.perf_counter() - clock, 2),
        provenance=_origin(scenario, chosen, began),
    )
    if out is not None:
        keep_claim(Path(out), done)
    return done


def _asked(path: Path, size: str) -> tuple[ClaimEntry, SizeEntry, Scenario]:
    """Return a claim, its sizes, and its scenario at them; raises InputError."""
    if size not in SIZES:
        raise wrong("size", f"expected one of {', '.join(SIZES)}, got {size!r}")
    entry = load(path).document.claim
    if entry is None:
        raise wrong("claim", f"{path} has no key 'claim'; pcsim list claims names those that have one")
    chosen: SizeEntry = getattr(entry, size)
    return entry, chosen, load(path, chosen.set)


def _ours(entry: ClaimEntry, verdicts: Sequence[Verdict]) -> str:
    if len(verdicts) == 1:
        return verdicts[0].ours
    return "; ".join(f"{asked.that}: {one.ours}" for asked, one in zip(entry.checks, verdicts, strict=False))


def _why(verdicts: Sequence[Verdict]) -> str:
    """Return the reasons, those that disagree first."""
    return ". ".join(one.why for one in sorted(verdicts, key=lambda one: one.agrees)) + "."


def _origin(scenario: Scenario, chosen: SizeEntry, began: str) -> dict[str, Any]:
    document = scenario.document
    return {
        **provenance(scenario),
        "machine": f"{processor()}, {cores()} cores",
        "began": began,
        "ended": now(),
        "digest": scenario.digest,
        "seeds": document.sweep.get("seed", [document.seed]),
        "set": dict(chosen.set),
    }


def reproductions(
    names: Sequence[str | Path] = (), size: str = "quick", progress: Progress | None = None
) -> Iterator[Reproduction]:
    """Yield claims one after the other: those that are named, or all.

    Raises InputError before the first is run where one is wrong.
    """
    asked = list(names) or sorted(claims_here())
    if not asked:
        raise wrong((), "there are no claims here: run pcsim where the folder 'scenarios' is")
    for name in asked:
        _asked(claim_file(name), size)
    for number, name in enumerate(asked):
        if progress is not None:
            progress(number, len(asked), Path(name).stem)
        yield reproduce(name, size)
