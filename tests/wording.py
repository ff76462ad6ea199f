"""Tics: turns of phrase that the plain English of this repository does without.

Each has a plain word: "instead of", "continues", "again", "replaces", "is", "where no ...", or the noun itself.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

TICS = ("in the place of", "goes on", "go on", "anew", "afresh", "stands in", "stands for", "is none", "are none",
        "where there", "where none", "told")  # fmt: skip
# Small letters for "is none" alone: "is None" is code.
_TIC = re.compile(rf"\b(?:(?i:{'|'.join(t for t in TICS if not t.endswith(' none'))})|(?:is|are|where) none)\b")
_NAME = re.compile(r"(?:.*_)?told(?:_.*)?")


def tics_in(text: str) -> list[str]:
    """The tics of a text, in order, in small letters; a line's end is a space."""
    return [match.lower() for match in _TIC.findall(" ".join(text.split()))]


def tics(path: Path, *, docstrings_only: bool = False) -> Iterator[str]:
    """The tics of a file: of a page, all; of code, in comments, docstrings and strings, and `told` as a name.

    docstrings_only: leave out comments and other strings, as in tests, where both quote what a program says.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from tics_in(re.sub(r"(?m)^\s*#", "", text))
        return
    nodes = list(ast.walk(ast.parse(text)))
    for name in _names(nodes):
        if _NAME.fullmatch(name):
            yield f"the name {name}"
    docs = {id(node) for node in _docstrings(nodes)}
    for node in _texts(nodes):
        if not docstrings_only or id(node) in docs:
            yield from tics_in(_text_of(node))
    if not docstrings_only:
        for block in _comments(text):
            yield from tics_in(block)


def _names(nodes: list[ast.AST]) -> Iterator[str]:
    """Names that are bound: of variables, parameters, attributes, functions and classes; each binding once."""
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def _docstrings(nodes: list[ast.AST]) -> Iterator[ast.Constant]:
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def _texts(nodes: list[ast.AST]) -> Iterator[ast.Constant | ast.JoinedStr]:
    """String literals; a formatted one is one text, not its parts."""
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if isinstance(node, ast.JoinedStr) or (is_text and id(node) not in parts):
            yield node


def _text_of(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def _comments(text: str) -> Iterator[str]:
    """Comments, those of lines that follow each other as one text."""
    found = [
        (token.start[0], token.string.lstrip("#"))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    for _, block in groupby(enumerate(found), key=lambda pair: pair[1][0] - pair[0]):
        yield " ".join(comment for _, (_, comment) in block)
