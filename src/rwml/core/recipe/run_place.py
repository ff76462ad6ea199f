"""Where `name` and `out` of a recipe point: the run folder lies there and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

from rwml.core.errors import RwmlError

IN_OUT = re.compile(r"\{\{|\}\}|\{name\}|[{}]")
_MOST_BYTES = 200  # of a name; a file system takes 255, and what is written beside it has a longer one


def check_name(name: str) -> None:
    """RwmlError for a name that is not the name of one file: with it the run would lie elsewhere than `out` says."""
    fault = ""
    if "/" in name or "\\" in name:
        fault = "it has parts, as a path has"
    elif name.startswith((".", "~")):
        fault = f"it begins with '{name[0]}'"
    elif not name.isprintable():
        fault = "it holds characters that cannot be shown"
    elif len(name.encode()) > _MOST_BYTES:
        fault = f"it has {len(name.encode())} bytes, and {_MOST_BYTES} are the most"
    if fault:
        raise RwmlError(
            f"name = {name[:100]!r} cannot be the name of a folder: {fault}",
            "the run folder is called so, and would lie elsewhere than `out` says, or could not be made",
            "give a plain name, such as my_run; set `out` to say where the run folder lies",
        )


def check_out(out: str) -> None:
    """RwmlError for an `out` that cannot be a path, or with a brace that is not of {name}."""
    strange = [mark for mark in IN_OUT.findall(out) if mark in ("{", "}")]
    if strange:
        raise RwmlError(
            f"out = {out[:200]!r} has a '{strange[0]}' that is not a part of {{name}}",
            "only {name} is filled in, and the run folder would have another name than you meant",
            "remove it, or write it twice: {{ and }} mean one brace each",
        )
    if not out.isprintable():
        raise RwmlError(
            f"out = {out[:200]!r} holds characters that cannot be shown",
            "no folder can be called so, or nobody could name it again",
            "write the path of a folder",
        )
    if out.startswith("~"):
        home(out.partition("/")[0])


def home(user: str) -> Path:
    """The home folder that `~` or `~user` means; RwmlError for a user who has no home."""
    try:
        return Path(user).expanduser()
    except RuntimeError:
        raise RwmlError(
            f"out begins with '{user}', and there is no such home folder",
            "nothing says where the run folder lies",
            "write the whole path",
        ) from None
