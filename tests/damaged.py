"""Damages files of a finished run one after the other, and reads the run: what is wrong is said, or nothing changes."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import recipe_of_run
from rwml.core.run import Run
from rwml.models.language_model import load_language_model
from rwml.stages import report, transitions
from rwml.stages.pipeline import summary_line


def flip(data: bytearray, draw: random.Random) -> None:
    """Change one bit."""
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut(data: bytearray, draw: random.Random) -> None:
    """Cut the end off."""
    del data[draw.randrange(len(data)) :]


def zero(data: bytearray, draw: random.Random) -> None:
    """Make up to 64 bytes zero, as a disk does that lost them."""
    start = draw.randrange(len(data))
    data[start : start + 64] = bytes(len(data[start : start + 64]))


DAMAGES = (flip, cut, zero)


def _opened(folder: Path) -> Run:
    return Run.open(recipe_of_run(folder), say=lambda text: None)


def _report(folder: Path) -> bytes:
    run = _opened(folder)
    run.invalidate("report")
    report.run(run)
    return (folder / "report.html").read_bytes()


def _transitions(folder: Path) -> bytes:
    run = _opened(folder)
    run.invalidate("transitions")
    transitions.run(run)
    return (folder / "transitions.parquet").read_bytes()


def _checkpoint(folder: Path) -> str:
    run, digest = _opened(folder), hashlib.sha256()
    with run.stage("train_policy", reads=["world_model/final"]):
        lm = load_language_model(folder / "world_model" / "final", device="cpu")
        (folder / "policy").mkdir()
    for name, weights in sorted(lm.model.state_dict().items()):
        digest.update(name.encode() + weights.numpy().tobytes())
    return digest.hexdigest()


def _states(folder: Path) -> object:
    run = Run.peek(recipe_of_run(folder))
    return run.recipe, run.summary()


READERS: Mapping[str, Callable[[Path], object]] = {
    "summary": lambda folder: summary_line(Path(folder), "run"),
    "report": _report,
    "transitions": _transitions,
    "train-policy": _checkpoint,
    "states": _states,
}
"""{verb that reads a run folder: what it makes of it}."""


def damage_run(folder: Path, scratch: Path, number: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damage `number` files, each in a copy of the run `folder` of its own, and read the copy with every reader.

    Returns how often a reader gave the same result or an RwmlError, and what else happened: a change that nothing says,
    or another exception. scratch: where the copies lie, one at a time, always at the same path.
    """
    copy, draw = scratch / "run", random.Random(seed)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    kinds = sorted({_kind(path) for path in files})
    expected = {verb: _read(read, folder, copy) for verb, read in READERS.items()}
    outcomes, faults = Counter[str](), list[str]()
    for index in range(number):
        of_kind = [path for path in files if _kind(path) == kinds[index % len(kinds)]]
        path, damage = draw.choice(of_kind), draw.choice(DAMAGES)
        data = bytearray((folder / path).read_bytes())
        whole = bytes(data)
        if data:
            damage(data, draw)
        if bytes(data) == whole:
            continue
        for verb, read in READERS.items():
            found = _read(read, folder, copy, path, bytes(data))
            if isinstance(found, RwmlError) or found == expected[verb]:
                outcomes["refused" if isinstance(found, RwmlError) else "the same"] += 1
            else:
                said = repr(found) if isinstance(found, Exception) else "another result"
                faults.append(f"{path}, {damage.__name__} {index}, {verb}: {said}")
    return outcomes, faults


def _kind(path: Path) -> str:
    return f"{path.parts[0]}: {path.name if path.suffix != '.parquet' else '*.parquet'}"


def _read(
    read: Callable[[Path], object], folder: Path, copy: Path, path: Path | None = None, data: bytes = b""
) -> object:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".lock"))
    if path is not None:
        (copy / path).write_bytes(data)
    try:
        return read(copy)
    except Exception as error:
        return error
