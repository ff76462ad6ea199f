"""Files and folders that are whole or not there, and their hashes.

Every write goes to a hidden neighbour (`.NAME....partial`), is flushed to disk, and is renamed into place. A
killed process leaves at most such a neighbour behind; `sweep` clears them when a run folder is opened.

In a folder that this process holds (`hold`), no write follows a link, and none makes the folder a second time.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from rwml.core.errors import RwmlError

Json = dict[str, Any]
"""A JSON object."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO}
_LEFT_OVER = re.compile(r"\.(?P<name>.+?)(\.[0-9]+)?\.(partial|ready)")

# {folder, absolute: an open handle of it}. While the handle is open, no other folder gets the same inode.
_HELD: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Note that this process writes in `folder`, which exists: see `make_parent`."""
    path = folder.absolute()
    if path not in _HELD:
        _HELD[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def forget_gone(folder: Path) -> None:
    """Hold a folder no longer if it is gone: whoever begins in it again may make it."""
    path = folder.absolute()
    if path in _HELD and not _is_there(path):
        os.close(_HELD.pop(path))


def refuse_gone(path: Path) -> None:
    """RwmlError if `path` is, or lies in, a held folder that was removed, moved or replaced by another one."""
    for folder in _HELD:
        if path.absolute().is_relative_to(folder) and not _is_there(folder):
            raise RwmlError(
                f"the folder '{folder}' was removed or moved while this process worked in it",
                "what was written before is not there any more, and the rest alone would be half a run",
                "give the same command again, and leave the folder where it is until it ends",
            )


def _is_there(folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(_HELD[folder]), folder.stat())
    except OSError:
        return False


def make_parent(path: Path) -> None:
    """Make the folder that `path` lies in.

    RwmlError if that is in a held folder that is gone (`refuse_gone`), or is reached by a link inside a held folder.
    """
    refuse_gone(path)
    above = [folder for folder in _HELD if path.absolute().parent.is_relative_to(folder)]
    for folder in above:
        place = folder
        for part in path.absolute().parent.relative_to(folder).parts:
            place = place / part
            if place.is_symlink():
                raise RwmlError(
                    f"'{place}' is a link, to '{place.readlink()}'",
                    f"'{path}' would be written outside of '{folder}'",
                    f"remove the link, or put what it leads to into '{folder}'",
                )
            with suppress(FileExistsError):
                place.mkdir()  # one by one, so that a folder that is removed just now is not made a second time
    if not above:
        path.parent.mkdir(parents=True, exist_ok=True)


def refuse_special(path: Path) -> None:
    """RwmlError for a link, a folder, a pipe or the like at a place where a file is to be written to."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise RwmlError(
            f"'{path}' is {'a link' if path.is_symlink() else 'not a plain file'}",
            "what is written to it would not be in this folder",
            "remove it; the next command makes the file",
        )


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Give a binary file to append to, which is made if it is missing; RwmlError for a link or a special file."""
    with write_guard(path):
        make_parent(path)
        refuse_special(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o666), "ab") as handle:
            yield handle


@contextmanager
def write_guard(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission, or a path that cannot be, while writing `path`, into an RwmlError; let
    the rest through. RwmlError as well if the held folder around it is gone.

    Libraries that write on their own hide the errno in their text, so the text is read as well.
    """
    try:
        yield
    except RwmlError:
        raise
    except Exception as error:
        refuse_gone(path)
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
        if number in _IN_THE_WAY:
            raise RwmlError(
                f"cannot write '{path}': {os.strerror(number or errno.EEXIST)}",
                "the files of a run need folders and names of their own there",
                "move away what is there, or set `out` to another, shorter path",
            ) from error
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a binary file to write to; it becomes `path` when the block ends well, else it is gone."""
    path = Path(path)
    # The process id keeps two processes that fill the same cache file from writing into one another.
    partial = _neighbour(path, f"{os.getpid()}.partial")
    with write_guard(path):
        make_parent(path)
        try:
            partial.unlink(missing_ok=True)
            with partial.open("x+b") as handle:  # x: a link of that name is not followed
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
        make_parent(path)
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
        make_parent(target)
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


def sweep(folder: str | Path, names: Collection[str] | None = None) -> None:
    """Clear what killed writers left under `folder`: finish committed folders, remove unfinished writes.

    names: files and folders directly in `folder` that rwml writes; nothing else in it is touched. None: all in it is
    rwml's. A link is not followed.
    """
    folder = Path(folder)
    if folder.is_symlink():
        return
    for left in sorted(folder.rglob(".*")):
        match = _LEFT_OVER.fullmatch(left.name)
        first = left.relative_to(folder).parts[0]
        if match is None or (names is not None and (match["name"] if first == left.name else first) not in names):
            continue
        if left.suffix == ".ready":
            _settle(left.with_name(left.name[1:].removesuffix(".ready")))
        else:
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
    with atomic_file(path) as handle:
        handle.write(json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    text = json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # half a surrogate pair has no UTF-8


def read_json(path: str | Path) -> Any:
    """Read a JSON file; RwmlError when it is missing or broken."""
    path = Path(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise missing_file(path) from None
    except (ValueError, RecursionError, OSError) as error:
        raise RwmlError(
            f"'{path}' is not JSON: {error}",
            "a stage needs it whole",
            "remove it and run the stage that writes it again",
        ) from None


def write_sealed(path: str | Path, value: Mapping[str, Any]) -> None:
    """`write_json` of an object, with a checksum of its other keys in it; `read_sealed` reads it."""
    write_json(path, {**value, _CHECKSUM: _checksum(value)})


def read_sealed(path: str | Path, fix: str = "remove it and give the same command again") -> Json:
    """The object that `write_sealed` wrote, or an older file without a checksum. RwmlError if a byte of it changed.

    fix: what to do then.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise damaged(path, "it is not a JSON object", fix)
    checksum = value.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _checksum(value):
        raise damaged(path, "its content does not fit its checksum", fix)
    return value


def damaged(path: str | Path, fault: str, fix: str) -> RwmlError:
    """The error for a file of ours that is not as it was written."""
    return RwmlError(f"'{path}' is damaged: {fault}", "what is read from it would be wrong, and nothing shows it", fix)


_CHECKSUM = "checksum"


def _checksum(value: Mapping[str, Any]) -> str:
    text = json.dumps(plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
    return folder_hash_of({inner: file_hash(folder / inner) for inner in files_under(folder)})


def files_under(folder: Path) -> list[str]:
    """The files under a folder by their path in it, in order, without hidden ones and those in hidden folders."""
    inner = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [path for path in inner if not any(part.startswith(".") for part in path.split("/"))]


def folder_hash_of(hashes: Mapping[str, str]) -> str:
    """`folder_hash` of files whose hashes are known. hashes: {path in the folder: hash}, in order."""
    return hashlib.sha256("".join(f"{inner}\0{own}\n" for inner, own in hashes.items()).encode()).hexdigest()
