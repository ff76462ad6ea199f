"""Whether the files of a run are still what the stages wrote: their hashes, compared with those in the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.files import Json, damaged, file_hash, files_under, folder_hash_of
from rwml.core.records import MetricsLog

MOST_FILES = 500
"""A manifest names the files of a folder that holds at most this many; of a larger one it has one hash."""


class Hashes:
    """Hashes of files and folders; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Of a file, or of a whole folder (`core.files.folder_hash`)."""
        return folder_hash_of(self.files(path)) if path.is_dir() else self._file(path)

    def files(self, folder: Path) -> dict[str, str]:
        """{path in the folder: hash}, without hidden ones."""
        return {inner: self._file(folder / inner) for inner in files_under(folder)}

    def _file(self, path: Path) -> str:
        if path not in self._known:
            self._known[path] = file_hash(path)
        return self._known[path]


def recorded(folder: Path, outputs: Sequence[str], stage: str) -> Json:
    """What a manifest keeps of the files that a stage wrote: `outputs`, `files` and `metrics`."""
    hashes = Hashes()
    inner = {name: hashes.files(folder / name) for name in outputs if (folder / name).is_dir()}
    return {
        "outputs": {name: hashes.of(folder / name) for name in outputs},
        "files": {name: files for name, files in inner.items() if len(files) <= MOST_FILES},
        "metrics": metrics_hash(MetricsLog(folder / "metrics.jsonl").read(), stage),
    }


def metrics_hash(rows: Iterable[Mapping[str, Any]], stage: str) -> str:
    """SHA-256 of the lines of one stage, hexadecimal."""
    mine = [row for row in rows if row.get("stage") == stage]
    return hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()


def check_recorded(folder: Path, stages: Mapping[str, Json], paths: Iterable[Path], hashes: Hashes) -> None:
    """RwmlError if what a stage wrote is not what it was when the stage ended; it names the file and the stage.

    paths: what is read of the folder; a path inside of what a stage wrote asks for all of that. Files that no stage of
    the folder wrote are not looked at.
    """
    first = {path.relative_to(folder).parts[0] for path in paths if path.is_relative_to(folder) and path != folder}
    for stage, record in stages.items():
        for output, expected in record.get("outputs", {}).items():
            path = folder / output
            if output in first and (not path.exists() or hashes.of(path) != expected):
                place, fault = _changed(path, record.get("files", {}).get(output), hashes)
                raise _not_as_written(place, fault, stage)
    if "metrics.jsonl" in first:
        rows = MetricsLog(folder / "metrics.jsonl").read()
        for stage, record in stages.items():
            if record.get("state") == "done" and record.get("metrics", metrics_hash(rows, stage)) != metrics_hash(
                rows, stage
            ):
                fault = f"its lines of the stage {stage} are not those that were written"
                raise _not_as_written(folder / "metrics.jsonl", fault, stage)


def _changed(path: Path, files: Mapping[str, str] | None, hashes: Hashes) -> tuple[Path, str]:
    if not path.exists():
        return path, "it is gone"
    if path.is_dir() and files is not None:
        found = hashes.files(path)
        for inner in sorted({*files, *found}):
            if files.get(inner) != found.get(inner):
                fault = "it is gone" if inner not in found else "it was added" if inner not in files else ""
                return path / inner, fault
    return path, ""


def _not_as_written(path: Path, fault: str, stage: str) -> RwmlError:
    return damaged(
        path,
        fault or f"it is not what the stage {stage} wrote",
        f"put back a copy of it, or run the stage that wrote it again: `rwml {stage.replace('_', '-')} RECIPE --force`",
    )
