"""Claims for readers: tables for the terminal, and a page with paper and measurement side by side."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pcsim.claims.claim_files import PAGE, counted, measured_by
from pcsim.errors import RunError
from pcsim.view.claim_figures import claim_figure
from pcsim.view.html_parts import html_page, html_table, svg_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pcsim.claims.claim_files import Record
    from pcsim.claims.reproduce import Reproduction

MOST_ROWS = 40
"""So many measured rows stand on the page; the file beside it has all."""

COLOURS = {"agrees": "green", "disagrees": "red"}

STYLE = """
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; }
@media (max-width: 50rem) { .sides { grid-template-columns: 1fr; } }
.agrees { color: #006644; } .disagrees { color: #a03000; } .verdict { font-weight: 600; }
h3 { font-size: 1rem; margin: .6rem 0 .2rem; } .small { color: #555; font-size: .85rem; }
"""


def claim_lines(done: Reproduction) -> list[Any]:
    """Return a claim for the terminal: what the paper says, our figure, and whether they agree, with the reason."""
    head = Text(f"{done.name}: {done.source}", style="bold")
    verdict = Text(f"  {done.verdict}", style=COLOURS.get(done.verdict, "yellow"))
    lines = [head, Text(f"  claim  {done.claim}"), Text(f"  paper  {done.paper}")]
    lines += [Text(f"  ours   {done.ours}")] if done.ours else []
    lines += [verdict.append(f" ({done.size}, {done.seconds:.1f} s): ", style="default").append(done.why, "default")]
    return [*lines, *([Text(f"  differs from the paper: {done.differs}", style="dim")] if done.differs else []), ""]


def write_claims_page(folder: Path, records: Mapping[str, Record]) -> Path:
    """Write the page beside the other files; raises RunError where it cannot be written."""
    path = folder / PAGE
    try:
        path.write_text(claims_page(list(records.values())), encoding="utf-8")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise RunError(message) from error
    return path


def claims_page(records: Sequence[Record]) -> str:
    """Return the page as HTML that needs nothing else."""
    head = [
        "<h1>Claims of papers, reproduced</h1>",
        f"<p>{escape(counted(records))} {escape(measured_by(records))}</p>",
    ]
    rows = [{"claim": one["name"], "source": one["source"], "paper": one["paper"], "verdict": one["verdict"]}
            for one in records]  # fmt: skip
    return html_page("pcsim reproduce", [*head, html_table(rows), *(_section(one) for one in records)], STYLE)


def _section(record: Record) -> str:
    verdict = record["verdict"]
    return "\n".join(
        [
            f'<h2 id="{escape(record["name"])}">{escape(record["title"])}</h2>',
            f'<p><span class="verdict {escape(verdict)}">{escape(verdict)}</span>: {escape(record["why"])}</p>',
            '<div class="sides"><div>',
            *_paper(record),
            "</div><div>",
            *_ours(record),
            "</div></div>",
            f'<p class="small">{escape(_origin(record))}</p>',
        ]
    )


def _paper(record: Record) -> Iterator[str]:
    yield f"<h3>{escape(record['source'])}</h3><p>{escape(record['claim'])}.</p><p>{escape(record['paper'])}</p>"
    if record["numbers"]:
        yield html_table(_shown(record["numbers"], list(record["numbers"][0])))


def _ours(record: Record) -> Iterator[str]:
    yield f"<h3>Measured</h3><p>{escape(record['ours'])}</p>"
    figure = claim_figure(record)
    if figure is not None:
        yield svg_of(figure)
    columns = _columns(record)
    if columns:
        rows = record["rows"][:MOST_ROWS]
        more = len(record["rows"]) - len(rows)
        rest = f" (the first {len(rows)} of {len(record['rows'])} rows)" if more else ""
        yield f"<details><summary>Numbers{rest}</summary>{html_table(_shown(rows, columns))}</details>"


def _columns(record: Record) -> list[str]:
    """Return the columns that tell rows apart, and those that checks and the figure look at."""
    checked = [next(part for key, part in one.items() if key != "that") for one in record["checks"]]
    figure = record["figure"] or {}
    named = [*record["keys"], *(one.get("against") for one in checked), *(one["of"] for one in checked)]
    named += [figure.get("x"), figure.get("y"), "error"]
    there = {column for row in record["rows"] for column, value in row.items() if value not in (None, "")}
    return [column for column in dict.fromkeys(named) if column in there]


def _shown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[dict[str, str]]:
    return [{column: _text(row.get(column)) for column in columns} for row in rows]


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _origin(record: Record) -> str:
    origin = record["provenance"]
    seeds = ", ".join(map(str, origin["seeds"]))
    parts = [f"{record['size']} sizes, {record['seconds']:.1f} s, seed {seeds}, ended {origin['ended']}"]
    parts += [f"differs from the paper: {record['differs']}"] if record["differs"] else []
    return "; ".join([*parts, f"rows in {record['name']}.csv"])
