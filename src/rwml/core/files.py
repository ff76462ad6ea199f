"""Files and folders that are whole or not there, and their hashes.

Every write goes to a hidden neighbour (`.NAME....partial`), is flushed to disk, and is renamed into place. A
killed process leaves at most such a neighbour behind; `sweep` clears them when a run folder is opened.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rwml.core.errors import RwmlError

Json = dict[str, Any]
"""A JSON object."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def write_guard(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission while writing `path` into an RwmlError; let the rest through.

    Libraries that write on their own hide the errno in their text, so the text is read as well.
    """
    try:
        yield
    except RwmlError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        text = str(error)
        if number in _FULL or "No space left on device" in text or "File too large" in text:
            raise RwmlError(
                f"cannot write '{path}': the disk is full ({text})",
                "the stage cannot continue; every file that it finished is whole",
                "free some space, or set `out` to a folder on another disk; then give the same command again",
            ) from error
        if number in _DENIED:
            raise RwmlError(
                f"cannot write '{path}': {os.strerror(number or errno.EACCES)}",
                "a run keeps all that it makes in its folder",
                "set `out` to a folder that you may write to",
            ) from error
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a binary file to write to; it becomes `path` when the block ends well, else it is gone."""
    path = Path(path)
    # The process id keeps two processes that fill the same cache file from writing into one another.
    partial = _neighbour(path, f"{os.getpid()}.partial")
    with write_guard(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `path` when the block ends well.

    One rename to `.NAME.ready` commits it: killed after that, the next `sweep` finds it and replaces `path`;
    killed before, the old `path` is untouched. One writer at a time.
    """
    path = Path(path)
    partial = _neighbour(path, "partial")
    with write_guard(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _settle(path)
        partial.mkdir()
        try:
            yield partial
            for inner in sorted(partial.rglob("*")):
                _sync_folder(inner) if inner.is_dir() else _sync_file(inner)
            _sync_folder(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        partial.rename(_neighbour(path, "ready"))
        _sync_folder(path.parent)
        _settle(path)


def link(source: Path, target: Path) -> None:
    """Give a file or a whole folder a second place; a copy where the file system has no hard links.

    Safe because files are replaced and never changed: whoever rewrites one place leaves the other as it is.
    """
    if source.is_dir():
        with atomic_folder(target) as folder:
            shutil.copytree(source, folder, copy_function=_link_file, dirs_exist_ok=True)
        return
    partial = _neighbour(target, f"{os.getpid()}.partial")
    with write_guard(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(target)  # renaming one name of a file to another name of the same file does nothing
        _link_file(str(source), str(partial))
        partial.replace(target)
        _sync_folder(target.parent)


def _link_file(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or no hard links
        shutil.copy2(source, target)


def sweep(folder: str | Path) -> None:
    """Clear what killed writers left under `folder`: finish committed folders, remove unfinished writes."""
    for left in sorted(Path(folder).rglob(".*")):
        if left.suffix == ".ready":
            _settle(left.with_name(left.name[1:].removesuffix(".ready")))
        elif left.suffix == ".partial":
            remove(left)


def _neighbour(path: Path, state: str) -> Path:
    return path.with_name(f".{path.name}.{state}")


def _settle(path: Path) -> None:
    ready, partial = _neighbour(path, "ready"), _neighbour(path, "partial")
    if ready.exists():
        remove(path)
        ready.rename(path)
        _sync_folder(path.parent)
    remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> None:
    """Write sorted, indented JSON atomically. Numbers that JSON lacks (nan, inf) become null."""
    text = json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as handle:
        handle.write(text.encode() + b"\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; RwmlError when it is missing or broken."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing_file(path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RwmlError(
            f"'{path}' is not JSON: {error}",
            "a stage needs it whole",
            "remove it and run the stage that writes it again",
        ) from None


def plain(value: Any) -> Any:
    """The JSON form of a value: dataclasses, paths and arrays unfolded; nan and inf as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes)):
        return [plain(inner) for inner in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def missing_file(path: Path) -> RwmlError:
    """The error for a file that an earlier stage should have written."""
    return RwmlError(
        f"there is no file '{path}'", "a stage reads it", "run the stage that writes it first (`rwml run`)"
    )


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_hash(path: str | Path) -> str:
    """SHA-256 over names and contents of the files under a folder, hexadecimal; hidden ones do not count."""
    folder = Path(path)
    digest = hashlib.sha256()
    for inner in sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()):
        if not any(part.startswith(".") for part in inner.split("/")):
            digest.update(f"{inner}\0{file_hash(folder / inner)}\n".encode())
    return digest.hexdigest()
