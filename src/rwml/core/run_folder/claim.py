"""Which folder rwml may write in: one that it made, or an empty one; and one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import IO

from rwml.core.errors import RwmlError
from rwml.core.files import forget_gone, hold, make_parent, read_json, refuse_special, write_guard
from rwml.core.run_folder.manifest import IMPORT, MANIFEST, MODEL, RUN, new_manifest, read_manifest, write_manifest

# Kept open for the life of the process: closing any handle of a file gives up a POSIX lock on it.
_LOCKS: dict[Path, IO[str]] = {}

# What a killed process leaves of a folder that it had just begun.
_BEGUN = re.compile(r"\.lock|\.manifest\.json\.[0-9]+\.partial")

_NOTES = {IMPORT: ("import.json", {"rwml", "episodes", "files"}), MODEL: ("tiny.json", {"config", "figures"})}
"""{what a folder holds: a file of that in it, and keys of the file}."""


def claim(folder: Path, holds: str = RUN) -> None:
    """Keep a folder for this process until it ends, and give it a manifest if it is new.

    holds: what it is for, `RUN`, `IMPORT` or `MODEL`. Raises RwmlError, and touches nothing, for a folder that holds
    files and that rwml did not make for this; RwmlError as well if another process has it (`lock`).
    """
    forget_gone(folder)
    _refuse_foreign(folder, holds)
    lock(folder)
    own(folder, holds)


def own(folder: Path, holds: str = RUN) -> None:
    """The same without a lock, for the folder around those that are locked."""
    forget_gone(folder)
    _refuse_foreign(folder, holds)
    path = folder / MANIFEST
    if not path.exists():
        make_parent(path)
        write_manifest(folder, new_manifest(holds))
    hold(folder)


def lock(folder: Path) -> None:
    """Keep a folder for this process until it ends; RwmlError where another process has it."""
    path = folder.resolve() / ".lock"
    if path in _LOCKS:
        if _is_open(path):
            return
        _LOCKS.pop(path).close()
    with write_guard(folder):
        make_parent(folder / ".lock")
        refuse_special(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.fdopen(os.open(path, flags, 0o666), "r+")
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = handle.read(20).strip()
        handle.close()
        raise RwmlError(
            f"another process (id {holder if holder.isdigit() else 'unknown'}) is working in '{folder}'",
            "two writers would mix their files",
            "wait for it or end it, or set `out` to another folder",
        ) from None
    except OSError:
        pass  # a file system without locks
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    _LOCKS[path] = handle
    hold(folder)


def _is_open(path: Path) -> bool:
    """Whether the lock that this process has is still the one at this place."""
    try:
        return os.path.samestat(os.fstat(_LOCKS[path].fileno()), path.stat())
    except OSError:
        return False


def _refuse_foreign(folder: Path, holds: str) -> None:
    if "\0" in str(folder):
        raise RwmlError(f"'{folder!s}' is not a path: it holds a NUL", "no folder has such a name", "give another one")
    with write_guard(folder):
        if not folder.exists():
            return
        names = sorted(os.listdir(folder))
    if MANIFEST in names:
        _refuse_other(folder, holds)
        return
    theirs = [name for name in names if not _BEGUN.fullmatch(name)]
    if theirs and not _older(folder, holds):
        some = ", ".join(theirs[:3]) + (", ..." if len(theirs) > 3 else "")
        raise RwmlError(
            f"'{folder}' was not made by rwml and is not empty: it holds {some}",
            "files in it would be replaced or removed",
            f"give a folder that is empty or not there yet, {'as `out`' if holds == RUN else 'with --out'}",
        )


def _refuse_other(folder: Path, holds: str) -> None:
    held = read_manifest(folder)["holds"]
    if held == holds:
        return
    if holds == IMPORT:
        raise RwmlError(
            f"'{folder}' is a run folder",
            "its episodes would be replaced, and the stages after them would still count as done",
            "import into another folder, and set collect.episodes to its episodes/",
        )
    if holds == RUN and held == IMPORT:
        raise RwmlError(
            f"'{folder}' holds an import, not a run",
            "a run would replace the imported episodes",
            f"set `out` to another folder, and collect.episodes to '{folder / 'episodes'}'",
        )
    raise RwmlError(
        f"'{folder}' holds a {held}, not a {holds}",
        "files in it would be replaced or removed",
        "give another folder",
    )


def _older(folder: Path, holds: str) -> bool:
    """Whether rwml made the folder without a manifest: a model's has none, and older imports and comparisons."""
    if holds in _NOTES:
        name, keys = _NOTES[holds]
        found = read_json(folder / name) if (folder / name).is_file() else None
        return isinstance(found, dict) and keys <= found.keys()
    return any(read_manifest(path.parent)["stages"] for path in sorted(folder.glob("s[0-9]*/*/manifest.json"))[:1])
