"""The reference: one page of every key, every row that can be chosen, and every error, made of what checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.errors import nearest, wrong
from pcsim.view.json_schema import plain_schema
from pcsim.view.key_rows import rows_of_document
from pcsim.view.listing import ABOUT, LISTS, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.view.listing import Rows

_LOCAL = ("scenarios", "claims")
"""Lists of what lies in the working folder."""


def reference(what: str | None, *, whole: bool = False) -> list[Section]:
    """Return one list, or the whole reference; raises InputError for a list that there is not."""
    if whole and what is None:
        return list(_whole())
    if whole or what is None:
        raise wrong((), f"name one list, or say --all; lists: {', '.join(LISTS)}")
    if what not in LISTS:
        raise wrong((), f"there is no list of {what!r}" + nearest(what, LISTS))
    return [_listed(what)]


def _whole() -> Iterator[Section]:
    for kind in ("scenario", "graph"):
        yield Section(f"keys of a {kind} document", "", rows_of_document(*plain_schema(kind)))
    yield from (_listed(what) for what in LISTS if what not in _LOCAL)


def _listed(what: str) -> Section:
    return Section(what, ABOUT.get(what, ""), LISTS[what]())


def as_markdown(sections: list[Section]) -> str:
    """Return sections as Markdown: a table each, and below it a table of the keys that its rows take."""
    return "\n".join(line for section in sections for line in _markdown(section))


def _markdown(section: Section) -> Iterator[str]:
    yield from (f"## {section.name}", "")
    if section.about:
        yield from (section.about, "")
    yield from _table([{key: text for key, text in row.items() if key != "keys"} for row in section.rows])
    name = next(iter(section.rows[0]), "")
    yield from _table([{name: row[name], **key} for row in section.rows for key in row.get("keys", ())])


def _table(rows: Rows) -> Iterator[str]:
    heads = list(dict.fromkeys(key for row in rows for key in row))
    kept = [head for head in heads if any(row.get(head) not in ("", None) for row in rows)]
    if rows:
        yield "| " + " | ".join(head.replace("_", " ") for head in kept) + " |"
        yield "| " + " | ".join("---" for _ in kept) + " |"
        yield from ("| " + " | ".join(_cell(row.get(head)) for head in kept) + " |" for row in rows)
        yield ""


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
