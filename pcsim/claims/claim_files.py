"""Claims in a folder: everything as JSON, a summary as CSV and as a Markdown table, and measured rows as CSV."""

from __future__ import annotations

import csv
import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from pcsim.errors import RunError, wrong
from pcsim.run.result import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pcsim.claims.reproduce import Reproduction

Record = dict[str, Any]
"""A reproduction as plain data."""

CLAIMS, SUMMARY, TABLE, PAGE = "claims.json", "claims.csv", "claims.md", "index.html"

FORMAT = "claims/1"

COLUMNS = ("name", "source", "claim", "paper", "ours", "verdict", "why", "differs", "size", "seconds")
"""What the summary says of each claim."""


def plain(done: Reproduction) -> Record:
    """Return a reproduction as data that JSON can hold; numbers that are not finite are null."""
    entry = done.entry.model_dump(exclude_defaults=True)
    said = {column: getattr(done, column) for column in (*COLUMNS, "title", "agrees", "status", "provenance")}
    measured = {"keys": done.rows.keys, "rows": done.rows.rows, "numbers": entry.get("numbers", [])}
    found: Record = _finite({**said, **measured, "figure": entry.get("figure"), "checks": entry["checks"]})
    return found


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return list(map(_finite, data))
    return None if isinstance(data, float) and not isfinite(data) else data


def read_claims(folder: Path) -> dict[str, Record]:
    """Return {name: record} of the claims in a folder; none where there is no such file; raises InputError."""
    path = folder / CLAIMS
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["pcsim"] != FORMAT:
            raise wrong("out", f"{path} says pcsim: {str(data['pcsim'])[:40]!r}, expected {FORMAT!r}")
        return {record["name"]: record for record in data["claims"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise wrong("out", f"{path} is damaged; remove it, or name another folder") from None


def keep_claim(folder: Path, done: Reproduction) -> dict[str, Record]:
    """Write a claim into a folder beside those that are there, and return all; raises RunError, InputError."""
    record = plain(done)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {**read_claims(folder), done.name: record}
        kept = {name: kept[name] for name in sorted(kept)}
        write_json(folder / CLAIMS, {"pcsim": FORMAT, "claims": list(kept.values())})
        _write_csv(folder / SUMMARY, COLUMNS, kept.values())
        columns = list(dict.fromkeys(column for row in record["rows"] for column in row))
        _write_csv(folder / f"{done.name}.csv", columns, record["rows"])
        (folder / TABLE).write_text(markdown(list(kept.values())), encoding="utf-8")
    except OSError as error:
        message = f"cannot write to {folder}: {error.strerror or error}"
        raise RunError(message) from error
    return kept


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown(records: Sequence[Record]) -> str:
    """Return claims as a Markdown table, and how they were measured."""
    lines = ["| claim | the paper says | paper | ours | verdict |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(map(_cell, _cells_of(record)))} |" for record in records]
    return "\n".join([*lines, "", f"{counted(records)} {measured_by(records)}", ""])


def _cells_of(record: Record) -> list[str]:
    reason = record["why"] if record["verdict"] != "agrees" else ""
    verdict = f"**{record['verdict']}**: {reason}" if reason else record["verdict"]
    return [f"{record['source']} (`{record['name']}`)", record["claim"], record["paper"], record["ours"], verdict]


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def counted(records: Sequence[Record]) -> str:
    """Return in a sentence how many claims agree.

    >>> counted([{"verdict": "agrees"}, {"verdict": "not run"}])
    '2 claims: agrees 1, not run 1.'
    """
    verdicts = [record["verdict"] for record in records]
    said = ", ".join(f"{verdict} {verdicts.count(verdict)}" for verdict in dict.fromkeys(sorted(verdicts)))
    return f"{len(records)} claim{'s' if len(records) != 1 else ''}: {said}."


def measured_by(records: Sequence[Record]) -> str:
    """Return in a sentence which pcsim measured them, when, and on what."""
    if not records:
        return ""
    origins = [record["provenance"] for record in records]
    commits = sorted({str(origin["commit"])[:10] for origin in origins if origin["commit"]}) or ["an installed package"]
    versions = origins[-1]["versions"]
    days = sorted({origin["ended"][:10] for origin in origins})
    sizes = sorted({record["size"] for record in records})
    with_ = ", ".join(f"{name} {versions[name]}" for name in ("python", "numpy") if name in versions)
    return (
        f"Measured by pcsim {versions['pcsim']} ({', '.join(commits)}) with {with_} on {', '.join(days)}, "
        f"{origins[-1]['machine']}; sizes: {', '.join(sizes)}."
    )
