"""The frame of a page: its policy, its style, and the parts all pages are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from finetune_exe.report.html.markup import Child, Markup, element, escape, join

PAGE_BYTES = 300_000
"""No page is larger."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may load or run for a page: nothing but the style inside it."""
_STYLE = """
:root{color-scheme:light;--ink:#1b1f24;--paper:#fff;--soft:#57606a;--line:#d0d7de;--panel:#f6f8fa;--bar:#2f6fb7;
--error:#b3261e;--warning:#8a5300;--info:#2f6fb7;--good:#1a7f37;--learned:#d7f5dd;--learned-line:#1a7f37}
@media screen and (prefers-color-scheme:dark){:root{color-scheme:dark;
--ink:#e6edf3;--paper:#0d1117;--soft:#9da7b3;--line:#3d444d;--panel:#161b22;
--bar:#6cb2ff;--error:#ff8b82;--warning:#e3b341;--info:#6cb2ff;--good:#56d364;--learned:#12391f;--learned-line:#56d364}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",Roboto,sans-serif;
overflow-wrap:break-word}
main,header,footer{max-width:70rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:1.5rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.25rem;margin:2.25rem 0 .75rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .4rem}
p{margin:.4rem 0;max-width:52rem}
.soft,caption,figcaption,footer{color:var(--soft);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0;padding:0}
.tiles div{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.7rem .9rem;min-width:0}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;font-size:1.45rem;font-weight:600;overflow-wrap:anywhere}
.tiles .soft{font-size:.8rem;font-weight:400;display:block;line-height:1.35}
.wide{overflow-x:auto}
table{border-collapse:collapse;min-width:min(100%,34rem);margin:.5rem 0;font-size:.92rem}
caption{text-align:left;padding-bottom:.3rem}
caption span{position:sticky;left:0;display:inline-block;max-width:min(52rem,100vw - 2.5rem)}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--line)}
thead th{border-bottom:2px solid var(--line);white-space:nowrap}
tbody th{font-weight:600;min-width:9rem;max-width:20rem;overflow-wrap:break-word}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.code{font:.88em ui-monospace,Menlo,Consolas,monospace}
.text{overflow-wrap:anywhere;min-width:7rem}
.severity{font-weight:600;white-space:nowrap}
.error{color:var(--error)}.warning{color:var(--warning)}.info{color:var(--info)}.good{color:var(--good)}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:0 .75rem}
.sides div{min-width:0}
details{margin:.5rem 0;border:1px solid var(--line);border-radius:.4rem;padding:.4rem .8rem}
summary{cursor:pointer}
summary:focus-visible,.tokens:focus-visible,.wide:focus-visible{outline:3px solid var(--bar);outline-offset:2px}
ul{margin:.3rem 0;padding-left:1.3rem}
pre,.tokens{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem;margin:.3rem 0;
white-space:pre-wrap;overflow-wrap:anywhere;overflow:auto;max-height:26rem;
font:.85rem/1.9 ui-monospace,Menlo,Consolas,monospace}
.tokens span{border-right:1px solid var(--line);padding:0 1px}
mark{background:var(--learned);color:inherit;
text-decoration:underline 2px var(--learned-line);text-underline-offset:3px}
figure{margin:1rem 0}
svg{display:block;width:100%;max-width:46rem}
.strip{height:2.1rem;min-width:8rem;max-width:22rem}
:is(th,td):has(.strip){padding-block:0}
svg text{fill:var(--ink);font:12px system-ui,"Segoe UI",Roboto,sans-serif}
svg .bar{fill:var(--bar)}svg .good{fill:var(--good)}svg .error{fill:var(--error)}
svg .axis{stroke:var(--line)}svg .zero{stroke:var(--soft)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
footer{padding:1.5rem 1.25rem 3rem}
@media (max-width:40rem){table{width:max-content}th,td{padding:.35rem .4rem}.text{min-width:0;max-width:14rem}
tbody th{min-width:0;max-width:11rem}.strip{width:8rem}svg .many{display:none}}
@media print{.tokens,pre{max-height:none}.wide{overflow:visible}table{font-size:.8rem}tr,svg{break-inside:avoid}
h2,h3,caption,summary{break-after:avoid}details::details-content{content-visibility:visible;display:block}}
"""
Detail = TypeVar("Detail")


def document(title: str, lead: Child, sections: Sequence[Markup], *, footer: str) -> bytes:
    """Put a page together.

    Args:
        title: Its name.
        lead: The line under it.
        sections: Its sections, from `section`.
        footer: What it was made from.
    """
    body = join([
        element("header", element("h1", title), element("p", lead, class_="soft")),
        element("main", *sections),
        element("footer", element("p", footer)),
    ])  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body.source}\n</body>\n</html>\n"
    ).encode()


def fit(details: Sequence[Detail], write: Callable[[Detail], bytes]) -> bytes:
    """Write a page with as much detail as `PAGE_BYTES` have room for.

    Args:
        details: From the most detail to the least; the last must always fit.
        write: Writes the page with so much.
    """
    for detail in details:
        page = write(detail)
        if len(page) <= PAGE_BYTES:
            return page
    raise AssertionError("a page with the least detail is too large")


def section(heading: str, *parts: Child) -> Markup:
    """Make a section under its heading."""
    return element("section", element("h2", heading), *parts)


def table(
    caption: str, header: Sequence[Child], rows: Sequence[Sequence[Child]], *, numbers: Sequence[int] = ()
) -> Markup:
    """Make a table; the first cell of each row names the row.

    Args:
        caption: What it shows.
        header: Names of the columns.
        rows: Cells.
        numbers: Columns that hold numbers.
    """

    def form(column: int) -> str:
        return "number" if column in numbers else "text"

    heads = [element("th", name, scope="col", class_="number" if column in numbers else "head")
             for column, name in enumerate(header)]  # fmt: skip
    body = [
        element("tr", *(
            element("th", cell, scope="row") if column == 0 else element("td", cell, class_=form(column))
            for column, cell in enumerate(row)
        ))
        for row in rows
    ]  # fmt: skip
    whole = element("table", element("caption", element("span", caption)), element("thead", element("tr", *heads)),
                    element("tbody", *body))  # fmt: skip
    return element("div", whole, class_="wide", tabindex=0, role="region", aria_label=caption)


def tiles(values: Sequence[tuple[str, Child, str]]) -> Markup:
    """Show the values to know first: the name, the value and a remark of each."""
    return element("dl", *(
        element("div", element("dt", name), element("dd", value, element("span", remark, class_="soft")))
        for name, value, remark in values
    ), class_="tiles")  # fmt: skip


def severity_name(severity: str) -> Markup:
    """Name a severity: by word and sign, and by colour too."""
    sign = {"error": "\u2716 ", "warning": "\u25b2 ", "info": "\u25cf "}[severity]
    return element("span", element("span", sign, aria_hidden="true"), severity, class_=f"severity {severity}")
