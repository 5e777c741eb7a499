"""A comparison as a file for a paper: LaTeX (``booktabs``), Markdown or CSV, by the ending of its name."""

import csv
import io
import math
import re
from pathlib import Path

from hvgym.bench.comparison import Comparison, Row
from hvgym.envs.errors import InputError

ENDINGS = (".tex", ".md", ".csv")

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
"""Characters that mean something to LaTeX, or that its fonts lack."""

HEADS = (
    "agent",
    "against",
    "scenarios",
    "seeds",
    "difference",
    "95 % interval",
    "p (Holm)",
    "P(better)",
    "verdict",
    "seeds needed",
)


def check_ending(path: Path) -> None:
    """Raise `InputError` for a file whose ending says nothing."""
    if path.suffix not in ENDINGS:
        raise InputError(f"out={path}: expected a file that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def text(comparison: Comparison, ending: str) -> str:
    """The table in the form of an ending."""
    return {".tex": latex, ".md": markdown, ".csv": as_csv}[ending](comparison)


def latex(comparison: Comparison) -> str:
    """A ``tabular`` to be read with ``\\input``; the notes stand above as comments."""
    notes = "".join(f"% {' '.join(note.split())}\n" for note in comparison.notes)
    body = "".join(" & ".join(_escaped(cell) for cell in cells(comparison, row)) + " \\\\\n" for row in comparison.rows)
    return (
        f"% \\usepackage{{booktabs}}\n{notes}\\begin{{tabular}}{{ll rr rl rl ll}}\n\\toprule\n"
        f"{' & '.join(map(_escaped, HEADS))} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
    )


def _escaped(cell: str) -> str:
    if re.fullmatch(r"[+-][\d.]+|\[[+-][\d.]+, [+-][\d.]+\]", cell):
        return f"${cell}$"  # so that a minus is one
    return "".join(LATEX.get(character, character) for character in cell)


def markdown(comparison: Comparison) -> str:
    """A table, and the notes below it."""
    rows = [[cell.replace("|", "\\|") for cell in cells(comparison, row)] for row in comparison.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (list(HEADS), *rows)]
    lines.insert(1, "|" + "|".join(["---", "---", *["--:"] * 6, "---", "--:"]) + "|")
    return "\n".join([*lines, "", *(f"- {note}" for note in comparison.notes)]) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Every figure in full."""
    found = io.StringIO()
    writer = csv.writer(found, lineterminator="\n")
    writer.writerow(
        ["agent", "against", "scenarios", "eval_seeds", "goodput_difference", "lo", "hi", "p", "p_holm", "probability_better",
         "probability_lo", "probability_hi", "verdict", "eval_seeds_for_80_percent_power"]
    )  # fmt: skip
    for row in comparison.rows:
        test, won = row.difference, row.improvement
        figures = (test.mean, test.lo, test.hi, test.p_value, row.p_holm, won.value, won.lo, won.hi)
        needed = repr(int(row.needed)) if math.isfinite(row.needed) else ""
        writer.writerow([row.name, row.other, row.scenarios, row.seeds, *map(repr, figures), row.verdict, needed])
    return found.getvalue()


def cells(comparison: Comparison, row: Row) -> list[str]:
    """A row as people read it, under `HEADS`."""
    test, won = row.difference, row.improvement
    return [
        comparison.name(row),
        row.other,
        str(row.scenarios),
        str(row.seeds),
        f"{test.mean:+.4f}",
        f"[{test.lo:+.4f}, {test.hi:+.4f}]",
        shown_p(row.p_holm),
        f"{won.value:.2f} [{won.lo:.2f}, {won.hi:.2f}]",
        row.verdict,
        f"{row.more} more" if row.more else "",
    ]


def shown_p(p: float) -> str:
    """Two digits, and no zero."""
    return f"{p:.2g}" if p >= 0.001 else "<0.001"
