"""Figures without a display, as PNG on white paper and as SVG within a page, whose colours are those of the page.

A figure is drawn once, in the colours of ``looks.LIGHT``. In the SVG each of these becomes the page's variable of that name
(``var(--blue)``), so the same picture serves light and dark; texts stay texts. Names are never read as formulas.
"""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hvgym.bench.looks import LIGHT

DPI = 130

_NAME_OF = {colour: name for name, colour in LIGHT.items()}


@contextmanager
def style() -> Iterator[None]:
    """The style in which pictures are drawn and written."""
    import matplotlib as mpl

    ink = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), LIGHT["ink"])
    plain = {"text.parse_math": False, "axes.formatter.use_mathtext": False, "font.size": 9.0, "axes.titlesize": 10.0}
    with mpl.rc_context(ink | plain | {"svg.fonttype": "none", "svg.hashsalt": "hvgym", "hatch.linewidth": 0.8}):
        yield


def new_figure(size_in: tuple[float, float]) -> Any:
    """An empty figure without pyplot: no global state, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size_in, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(size_in: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes ``[row, column]``, without frames."""
    figure = new_figure(size_in)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


PANELS_A_ROW = 2


def new_panels(count: int, width_in: float, row_in: float) -> tuple[Any, list[Any]]:
    """A figure and so many axes, beside and below each other; one alone is half as high again. With room for a legend above."""
    columns = min(count, PANELS_A_ROW)
    rows = -(-count // columns)
    figure, grid = new_axes((width_in, (rows if count > 1 else 1.5) * row_in + 0.6), rows, columns)
    for axes in list(grid.flat)[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat)[:count]


def pairs_of_panels(
    count: int, most_columns: int, heights_in: tuple[float, float], column_in: float, beside_in: float, around_in: float,
    below_in: float,
) -> tuple[Any, list[tuple[Any, Any]], int]:  # fmt: skip
    """A figure with so many columns of an upper and a lower panel, at most `most_columns` beside each other and more below; the
    panels, and how many columns there are. beside_in: for names at the left; around_in: of each pair; below_in: for a legend."""
    above = -(-count // most_columns)
    columns = -(-count // above)
    size = column_in * columns + beside_in, (sum(heights_in) + around_in) * above + below_in
    ratios = {"height_ratios": heights_in * above}
    figure, axes = new_axes(size, 2 * above, columns, sharex=True, gridspec_kw=ratios)
    pairs = [(axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns])
             for i in range(columns * above)]  # fmt: skip
    for upper, lower in pairs[count:]:
        upper.set_visible(False)
        lower.set_visible(False)
    for _, lower in pairs[:count]:
        lower.set_xlabel("minutes")
        lower.tick_params(axis="x", labelbottom=True)
    return figure, pairs[:count], columns


def legend_above(figure: Any) -> None:
    """One entry for each label of any axes, in the order drawn."""
    found = dict[str, Any]()
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), map(wrapped, found), loc="outside upper left", frameon=False, fontsize=8, ncols=3)


def png(figure: Any) -> bytes:
    """As all pictures are written."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    return data.getvalue()


def svg(figure: Any, name: str, title: str) -> str:
    """To be put into a page beside others: name is put before its identifiers; title: what it shows, in words. It shrinks to
    `LEAST` of its size, below which its text could not be read, and grows to `MOST`."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, dpi=2 * DPI)
    body = text.getvalue().partition("</metadata>")[2]
    for pattern, instead in _FOR_A_PAGE:
        body = re.sub(pattern, instead.replace("NAME", name), body)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found.group()), body)
    width, height = (72.0 * inches for inches in figure.get_size_inches())
    size = f"min-width:{LEAST * width:.0f}pt;max-width:{MOST * width:.0f}pt"
    label = html.escape(title)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" style="{size}">{body.strip()}'


LEAST, MOST = 0.68, 1.25
"""A size of 9 points is 8 pixels then, and 15."""

_FOR_A_PAGE = (
    (r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", ""),  # the page has its own
    (r"font-family: [^;]*;\s*", ""),
    (r' id="[A-Za-z]+[\w.]*_\d+"', ""),  # nothing refers to these
    (r'(\bid="|href="#|url\(#)', r"\g<1>NAME-"),
)


def _variable(colour: str) -> str:
    return f"var(--{_NAME_OF[colour]})" if colour in _NAME_OF else colour


def wrapped(name: str, width: int = 24) -> str:
    """A long name on several lines, broken after `_`, `-` or `.` where there is one."""
    lines = list[str]()
    while len(name) > width:
        at = max((name.rfind(sign, width // 3, width) + 1 for sign in "_-. "), default=0) or width
        lines.append(name[:at])
        name = name[at:]
    return "\n".join([*lines, name])
