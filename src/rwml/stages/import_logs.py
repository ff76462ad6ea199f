"""`rwml import`: logs of other programs -> episodes/, transitions.parquet, import.json, rejected.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import atomic_file, atomic_folder, remove, sweep, write_json
from rwml.core.progress import note, progress
from rwml.core.records import Parts, write_records
from rwml.core.run_folder.claim import claim
from rwml.core.run_folder.manifest import IMPORT, WRITTEN
from rwml.core.types import Episode, Transition
from rwml.exchange.importer import Imported, check_paths, import_files
from rwml.worlds.chat_world import ChatLogs
from rwml.worlds.transitions import transitions_of

PART = 1000


def run(
    files: Sequence[str | Path], out: str | Path, hold_out: float = 0.0, *, briefing: bool = True
) -> dict[str, Any]:
    """Import `files` into the folder `out`, and return the content of its `import.json` (docs/reference/import.md).

    hold_out: share of the tasks without a split of their own that become `test`. briefing: the openings hold tools and
    policy; without them a small model can read the rest.

    An earlier import in `out` is replaced, and nothing else in it is touched. `import.json` comes last: without it,
    the import was cut off, and is simply run again. RwmlError if no file holds a conversation to learn from, if `out`
    holds a run or files that no import made, and if another process works in it.
    """
    paths, out = check_paths(files), Path(out)
    if not 0 <= hold_out < 1:
        raise RwmlError(f"hold-out is {hold_out}", "it is a share of the tasks", "give a number of 0 or more, below 1")
    if out.exists() and not out.is_dir():
        raise RwmlError(f"'{out}' is a file", "the import is a folder", "name a folder that is to be made")
    claim(out, IMPORT)
    sweep(out, WRITTEN[IMPORT])
    with progress("import", total=sum(p.stat().st_size for p in paths if p.is_file()), unit="bytes") as bar:
        imported = import_files(paths, bar.advance, hold_out, briefing=briefing)
    for text in imported.notes:
        note(f"note: {text}")
    remove(out / "import.json")
    rows = _write_records(imported, out)
    with atomic_file(out / "rejected.jsonl") as handle:
        for item in imported.rejected:
            # Half of a surrogate pair has no UTF-8; its JSON escape says the same.
            handle.write(json.dumps(asdict(item), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    summary = _summary(imported, rows)
    write_json(out / "import.json", summary)
    if not imported.episodes:
        first = next((item for item in imported.rejected if item.detail), None)
        example = f"; {first.item}: {first.detail}" if first else ""
        raise RwmlError(
            f"none of the logs could be imported: {_counted(summary['rejected'])}{example}",
            "a world model has nothing to learn from",
            f"see '{out / 'rejected.jsonl'}' for each, and docs/reference/import.md for the forms that are read",
        )
    return summary


def _write_records(imported: Imported, out: Path) -> list[Transition]:
    """Episodes in parts, and their transitions; an import without any leaves neither."""
    # Every world of tools and users cuts by the same rules, and the openings already say who the user is.
    world = ChatLogs()
    rows = [row for e in imported.episodes for row in transitions_of(e, world, e.task.split)]
    if not imported.episodes:
        remove(out / "episodes")
        remove(out / "transitions.parquet")
        return rows
    with atomic_folder(out / "episodes") as folder:
        for part, start in enumerate(range(0, len(imported.episodes), PART)):
            Parts(folder).write(part, imported.episodes[start : start + PART], Episode)
    write_records(out / "transitions.parquet", rows, Transition)
    return rows


def _summary(imported: Imported, rows: Sequence[Transition]) -> dict[str, Any]:
    episodes = imported.episodes
    return {
        "rwml": rwml.__version__,
        "files": [asdict(counts) for counts in imported.files],
        "episodes": len(episodes),
        "tasks": len({episode.task.id for episode in episodes}),
        "successes": sum(episode.success for episode in episodes),
        "episodes by domain": _count(episode.task.kind for episode in episodes),
        "episodes by split": _count(episode.task.split for episode in episodes),
        "episodes by stop reason": _count(episode.stop.value for episode in episodes),
        "transitions": len(rows),
        "transitions by kind": _count(row.kind for row in rows),
        "transitions by tool": _count(row.verb for row in rows if row.kind == "tool"),
        "transitions knowable from the history": sum(row.knowable for row in rows),
        "tool errors": sum(row.kind == "tool" and not row.valid for row in rows),
        "rejected": _count(item.reason for item in imported.rejected),
        "left out": dict(sorted(imported.left_out.items())),
        "notes": imported.notes,
    }


def _count(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({number:,})" for name, number in counts.items())


def outcome(summary: dict[str, Any], out: str | Path) -> str:
    """A summary in a few lines, and how to continue."""
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in summary["transitions by kind"].items())
    broken = sum(counts["broken"] for counts in summary["files"])
    rejected = sum(counts["rejected"] for counts in summary["files"])
    lines = [
        f"{summary['episodes']:,} episodes of {summary['tasks']:,} tasks, {summary['successes']:,} solved",
        f"{summary['transitions']:,} transitions ({kinds})",
    ]
    if broken or rejected:
        lines.append(f"{rejected:,} rejected, {broken:,} broken off: {Path(out) / 'rejected.jsonl'}")
        lines.append(f"  {_counted(summary['rejected'])}")
    if summary["left out"]:
        lines.append(f"left out or read with a doubt: {_counted(summary['left out'])}")
    return "\n".join([*lines, f"to train on them: rwml run RECIPE collect.episodes={Path(out) / 'episodes'}"])
