"""Taking a stage over from a run beside this one that did the very same work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwml.core.files import file_hash, folder_hash
from rwml.core.run import Run, read_manifest


def adopt(run: Run, name: str, folders: Sequence[Path]) -> Path | None:
    """Take a stage over from the first of the run folders that has done it under the same rwml version, settings,
    seed and inputs, and whose outputs are still what it wrote; returns that folder, or None where there is none.

    Hashes of the inputs are compared, never the names of the arms: what is shared follows from the files alone.
    """
    for folder in folders:
        if folder.resolve() == run.folder.resolve() or not folder.is_dir():
            continue
        record = read_manifest(folder)["stages"].get(name)
        if record and run.would_repeat(record) and _whole(folder, record["outputs"]):
            run.take_over(name, folder, record)
            return folder
    return None


def _whole(folder: Path, outputs: dict[str, str]) -> bool:
    for name, expected in outputs.items():
        path = folder / name
        if not path.exists() or (folder_hash(path) if path.is_dir() else file_hash(path)) != expected:
            return False
    return True
