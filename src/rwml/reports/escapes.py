"""Text of the data, as it is shown in Markdown, LaTeX, CSV and drawings: names, labels and answers are never markup.

Pages escape by themselves (`page.py`).
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"[=+\-@\t\r\n]")
# A mark can begin emphasis before a letter or sign alone; an underscore, within a word, never.
_MARKUP = re.compile(r"[\\`\[\]|$#!]|\*(?=\S)|~(?=\S)|(?<![^\W_])_(?=\S)|_(?![^\W_])(?=\S)")
_LINE_START = re.compile(r"^(\d*)(?:([-+](?=[\s-]|$)|=)|([.)])(?=\s|$))")
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "±": r"$\pm$", "τ": r"$\tau$", "–": "--",
    "−": "$-$", "²": "$^2$",
    # After the end of a row these two would be its arguments.
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def one_line(text: str, most: int = 0) -> str:
    """The text with single spaces and without signs that cannot be printed, which become �; cut to `most` signs."""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(text.split()))
    return f"{line[: most - 3]}..." if most and len(line) > most else line


def markdown(text: str) -> str:
    """As plain text of GitHub's Markdown: no HTML, no link, no emphasis, no formula, no new cell or line."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINE_START.sub(r"\1\\\2\3", _MARKUP.sub(lambda match: f"\\{match[0]}", line))


def latex(text: str) -> str:
    """As plain text of a LaTeX table; τ_d is set as a symbol."""
    return "".join(_TEX.get(sign, sign) for sign in one_line(text)).replace(r"$\tau$\_d", r"$\tau_d$")


def csv_cell(text: str) -> str:
    """As a cell that no spreadsheet takes for a formula: a quote comes before its first sign. Numbers stay."""
    return text if not _FORMULA.match(text) or _is_number(text) else f"'{text}"


def label(text: str) -> str:
    """As a label of a drawing: a line that fits, and that a legend does not hide for its underscore."""
    line = one_line(text, most=60)
    return f" {line}" if line.startswith("_") else line


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
