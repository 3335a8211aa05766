"""Parts of pages that need nothing else: the frame, tables, figures as SVG."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from pcsim.view.style import look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 76rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #111; }
td.number, th.number { text-align: right; }
svg { max-width: 100%; height: auto; }
"""


def html_page(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return a page of its own: no script, no font, no picture from elsewhere."""
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{STYLE}{style}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def html_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a table with the columns of the first; columns of numbers stand to the right."""
    if not rows:
        return "<p>None.</p>"
    numbers = {name for name in rows[0] if all(re.match(r"[-+\d.]", str(row[name]) or "0") for row in rows)}
    kind = {name: ' class="number"' if name in numbers else "" for name in rows[0]}
    head = "".join(f"<th{kind[name]}>{escape(name)}</th>" for name in rows[0])
    lines = [
        "<tr>" + "".join(f"<td{kind[name]}>{escape(str(value))}</td>" for name, value in row.items()) + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n' + "\n".join(lines) + "\n</table></div>"


@look()
def svg_of(figure: Figure) -> str:
    """Return a figure as an SVG element, the same bytes each time."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
