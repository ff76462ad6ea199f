"""A comparison as texts: what its labels say stays text in each of them."""

from __future__ import annotations

import csv
import io
from typing import Any

from rwml.reports import compare_page

LABEL = "=a|b\n<b>$\\x{$ *y*"


def _measure(mean: float) -> dict[str, Any]:
    return {"mean": mean, "sd": None, "low": mean, "high": mean, "n": 2, "clusters": 2, "by_seed": {"0": mean}}


def _comparison() -> dict[str, Any]:
    arm = {
        "title": LABEL, "group": "g\n% \\input{x}", "seeds": {"0": {}}, "paper": {}, "missing": {"1": "not run <i>"},
        "success": {"all": {"success": _measure(0.5)}}, "world_model": {}, "world_model_by_action": {},
        "measures": {}, "cost": {},
    }  # fmt: skip
    return {
        "name": "*n*", "model": "m\n\\evil", "world": "<w>", "tau_d": 0.2, "rwml": "1", "seeds": [0, 1],
        "splits": [], "paper": {"source": "[s](x)"}, "contrasts": [{"sentence": f"{LABEL} is better"}],
        "arms": {"one": arm}, "baselines": {}, "base": "one",
    }  # fmt: skip


def test_markdown_holds_no_markup_of_the_data() -> None:
    text = compare_page.markdown(_comparison())
    assert text.startswith("# \\*n*\n")
    assert "<" not in text
    assert r"world &lt;w&gt;" in text
    assert r"| \=a\|b &lt;b&gt;\$\\x{\$ \*y* | 1 | 50.0 |" in text
    assert r"- \=a\|b &lt;b&gt;\$\\x{\$ \*y* is better" in text
    assert r"Paper: \[s\](x)." in text
    assert r"- not run &lt;i&gt;: =a\|b" in text


def test_latex_holds_no_command_of_the_data() -> None:
    lines = compare_page.latex(_comparison()).split("\n")
    assert lines[0].startswith(r"% 1 arms, seeds 0, 1; model m \textbackslash{}evil, world \textless{}w\textgreater{}")
    assert r"% g \% \textbackslash{}input\{x\}" in lines
    assert sum("=a" in line for line in lines) == 1
    [row] = [line for line in lines if line.startswith("=a")]
    assert row.startswith(r"=a\textbar{}b \textless{}b\textgreater{}\$\textbackslash{}x\{\$ {*}y{*} & 1 & 50.0 &")


def test_csv_holds_no_formula_of_the_data() -> None:
    [_, row] = csv.reader(io.StringIO(compare_page.as_csv(_comparison()), newline=""))
    assert row[:7] == ["one", f"'{LABEL}", "g\n% \\input{x}", "success", "all", "success", "0.5"]
