"""Texts of data in Markdown, LaTeX, CSV and drawings: what they say is shown, and nothing that they say is done."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import pytest

from rwml.reports import escapes, formats
from rwml.reports.plots import Band, BandPanel, bands_svg, write_bands_png


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wm_sft at τ_d = 0.2, 40.1 ± 2.0 (−1 to 3)", "wm_sft at τ_d = 0.2, 40.1 ± 2.0 (−1 to 3)"),
        ("rouge*", "rouge*"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("a & b &lt;", "a &amp; b &amp;lt;"),
        ("*loud* __too__ ~~gone~~", r"\*loud* \_\_too\__ \~\~gone\~~"),
        ("[press](http://x) ![y](z) `code` $x$", r"\[press\](http://x) \!\[y\](z) \`code\` \$x\$"),
        ("a|b\n\n# title\r\n- item", r"a\|b \# title - item"),
        ("- item", r"\- item"),
        ("1. first", r"1\. first"),
        ("1.5 of 2", "1.5 of 2"),
        ("\x1b[31mred\u202e", r"�\[31mred�"),
    ],
)
def test_markdown_shows_the_text(text: str, shown: str) -> None:
    assert escapes.markdown(text) == shown


def test_a_label_is_one_cell_of_one_row() -> None:
    table = formats.markdown_table(["arm", "n"], [["a|b\n| c | d |\n<b>", "1"]])
    assert table.splitlines()[2:] == [r"| a\|b \| c \| d \| &lt;b&gt; | 1 |"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5% ± τ_d −1", r"a\_b \& 5\% $\pm$ $\tau_d$ $-$1"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("[3em] x", "{[}3em] x"),
        ("* x\n\n\\end{tabular}", r"{*} x \textbackslash{}end\{tabular\}"),
        ("$\\bad{$", r"\$\textbackslash{}bad\{\$"),
    ],
)
def test_latex_shows_the_text(text: str, shown: str) -> None:
    assert escapes.latex(text) == shown


def test_csv_cells_are_no_formulas_and_numbers_stay() -> None:
    texts = ["=1+1", "+cmd", "@sum(a)", "-x", "\t=1", "plain", "-0.25", "+3", "a=1"]
    shown = ["'=1+1", "'+cmd", "'@sum(a)", "'-x", "'\t=1", "plain", "-0.25", "+3", "a=1"]
    assert [escapes.csv_cell(text) for text in texts] == shown
    buffer = io.StringIO()
    csv.writer(buffer).writerow([escapes.csv_cell('="a"\n=b')])
    assert next(csv.reader(io.StringIO(buffer.getvalue(), newline=""))) == ["'=\"a\"\n=b"]


def test_a_formula_in_a_label_is_drawn_as_text() -> None:
    svg = bands_svg(BandPanel(r"$\bad{$", [Band("$x$", [1, 2], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3])], [0]))
    assert svg.startswith("<svg")


LABELS = [r"$\bad{$", "$x$ and $", "_hidden", "a\nb\x00c", "x" * 5000, "<script>", r"\$5", "%s {0}"]


@pytest.mark.slow
def test_any_label_is_drawn_as_it_is(tmp_path: Path) -> None:
    bands = [Band(text, [1, 2], [0.1, n / 9], [0.0, 0.0], [0.2, n / 9]) for n, text in enumerate(LABELS)]
    panel = BandPanel(r"$\frac{1}{$ of it", bands, range(len(bands)), share=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of labels that it hides, and of signs that it lacks
        warnings.filterwarnings("ignore", message="Glyph")
        write_bands_png(tmp_path / "a.png", [panel])
        svg = bands_svg(panel)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert svg.startswith("<svg")
    assert [escapes.label(text) for text in LABELS] == [
        r"$\bad{$", "$x$ and $", " _hidden", "a b�c", "x" * 57 + "...", "<script>", r"\$5", "%s {0}",
    ]  # fmt: skip
