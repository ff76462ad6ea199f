"""Logs of other programs as episodes (`rwml import`). Nothing is lost: what cannot be read is kept with a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.seeds import share_of
from rwml.core.text import sound
from rwml.core.types import Episode, StopReason
from rwml.exchange import chat_logs, tau2_logs
from rwml.exchange.log_files import Item, Log, path_text, read_items
from rwml.exchange.message_parts import UnreadableError
from rwml.exchange.repeated_logs import Beginnings, chain, statements

BEGINNING = "the beginning of a longer log"
UNFORESEEN = "a fault in reading it"


@dataclass(frozen=True, slots=True)
class Rejected:
    """What could not be used. item: which one of the file; kept_steps: steps before the break that became an episode;
    text: as in the file."""

    file: str
    item: str
    reason: str
    detail: str
    kept_steps: int
    text: str


@dataclass(slots=True)
class FileCounts:
    """What became of one file: items = episodes + rejected, where `broken` episodes end before their log does."""

    path: str
    items: int = 0
    episodes: int = 0
    broken: int = 0
    rejected: int = 0


@dataclass(slots=True)
class Imported:
    """The outcome. left_out: parts of conversations that are not, or not as such, in the episodes, by what they are."""

    episodes: list[Episode] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    files: list[FileCounts] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def check_paths(paths: Sequence[str | Path]) -> list[Path]:
    """The files to read; RwmlError for one that is missing, is given twice, or is a folder without results.json."""
    files: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir() and not (path / "results.json").is_file():
            raise RwmlError(
                f"'{path}' is a folder without a results.json",
                "only folders of tau2 results are read as a whole",
                f"name the files, for example {path}/*.jsonl",
            )
        if not path.exists():
            raise RwmlError(f"there is no file '{path}'", "its logs would be missing", "check the path")
        if not path.is_dir() and not path.is_file():
            raise RwmlError(f"'{path}' is not a file", "reading it may never end", "name files, or a folder of tau2")
        if path.resolve() in files:
            raise RwmlError(f"'{path}' is given twice", "each of its logs would count double", "name every file once")
        files[path.resolve()] = path
    return list(files.values())


def import_files(
    paths: Sequence[Path],
    advance: Callable[[int], None] = lambda size: None,
    hold_out: float = 0.0,
    *,
    briefing: bool = True,
) -> Imported:
    """Read every file (`check_paths` first).

    advance: gets the number of bytes that are done. hold_out: share of the tasks without a split of their own that
    become `test`, by a hash of their ids; the others become `train`. briefing: the openings hold tools and policy.
    """
    importer = _Importer(hold_out, briefing=briefing)
    for path in paths:
        importer.read(path, advance)
    importer.finish()
    return importer.imported


@dataclass(frozen=True, slots=True)
class _Taken:
    """A log that is understood, and what is needed to reject it still. rest: the record without its messages."""

    log: Log
    counts: FileCounts
    left_out: Counter[str]
    place: tuple[str, str]
    chain: tuple[bytes, ...]
    stated: tuple[tuple[str, str], ...]
    number: int
    rest: str
    rejected: Rejected | None


class _Importer:
    """Takes items one by one; episodes are made at the end, when it is known which logs begin longer ones."""

    def __init__(self, hold_out: float, *, briefing: bool) -> None:
        self.imported = Imported()
        self._briefing, self._hold_out = briefing, hold_out
        self._plays: Counter[tuple[str, str]] = Counter()
        self._ids: set[str] = set()
        self._simulations: dict[str, str] = {}
        self._taken: list[_Taken | Rejected] = []
        self._beginnings = Beginnings()

    def read(self, path: Path, advance: Callable[[int], None]) -> None:
        """One file: its items one by one."""
        counts, done = FileCounts(path_text(path)), 0
        size = path.stat().st_size if path.is_file() else 0
        for item in read_items(path):
            counts.items += 1
            self._take(item, counts)
            moved = max(0, min(item.size, size - done))
            advance(moved)
            done += moved
        advance(max(0, size - done))
        self.imported.files.append(counts)

    def _take(self, item: Item, counts: FileCounts) -> None:
        """Understand an item, or note the reason why it has no episode."""
        left_out: Counter[str] = Counter()
        try:
            if item.problem and item.value is None:
                raise item.problem
            log = self._read(item, left_out)
            self._check(item, log)
        except UnreadableError as error:
            counts.rejected += 1
            self._taken.append(_rejected(item, error, 0))
            return
        left_out["logs with characters that are not Unicode"] += item.repaired
        digests = () if log.broken or log.simulation else chain(log.messages)
        place = (item.file, item.name)
        stated = statements(item.value)
        number = self._beginnings.add(digests, stated, f"{item.name} of {item.file}")
        broken = _rejected(item, log.broken, len(log.steps)) if log.broken else None
        rest = json.dumps(_without_messages(item.value), ensure_ascii=False)
        kept = replace(log, messages=())
        self._taken.append(_Taken(kept, counts, left_out, place, digests, stated, number, rest, broken))

    def _read(self, item: Item, left_out: Counter[str]) -> Log:
        reader = tau2_logs if item.results else chat_logs
        try:
            return reader.log_of(item, left_out, briefing=self._briefing)
        except (UnreadableError, RwmlError):
            raise
        except Exception as error:  # one log among many: whatever is wrong with it, the others are read
            raise UnreadableError(UNFORESEEN, f"{type(error).__name__}: {sound(str(error))[:200]}") from None

    def finish(self) -> None:
        """Make episodes of the logs, except of those that are the beginning of a longer one."""
        for taken in self._taken:
            if isinstance(taken, Rejected):
                self.imported.rejected.append(taken)
                continue
            longer = self._beginnings.longer(taken.chain, taken.stated, taken.number)
            if longer is not None:
                taken.counts.rejected += 1
                why = f"all of it is in {longer}; text: the record without its messages"
                self.imported.rejected.append(Rejected(*taken.place, BEGINNING, why, 0, taken.rest))
                continue
            taken.counts.episodes += 1
            taken.left_out["logs that begin another one, and are kept"] += self._beginnings.begins_another(taken.chain)
            self.imported.left_out += taken.left_out
            self.imported.episodes.append(self._episode(taken.log))
            self.imported.notes += [note for note in taken.log.notes if note not in self.imported.notes]
            if taken.rejected:
                taken.counts.broken += 1
                self.imported.rejected.append(taken.rejected)
        self._taken = []

    def _check(self, item: Item, log: Log) -> None:
        if not any(step.parsed for step in log.steps):
            raise log.broken or UnreadableError("no action with a next state")
        if log.simulation in self._simulations:
            raise UnreadableError("the same simulation again", f"it is in {self._simulations[log.simulation]}")
        if log.simulation:
            self._simulations[log.simulation] = item.file

    def _episode(self, log: Log) -> Episode:
        rollout = self._plays[log.task.id, log.policy]
        self._plays[log.task.id, log.policy] += 1
        name = f"{log.task.id}#{log.name or f'{log.policy}{rollout}'}"
        while name in self._ids:
            name += "+"
        self._ids.add(name)
        task = log.task if log.task.split else replace(log.task, split=self._split(log.task.id))
        stop = StopReason.ERROR if log.broken else log.stop
        error = f"the log breaks off: {log.broken}" if log.broken else log.error
        return Episode(name, task, log.policy, rollout, log.seed, log.opening, log.steps, stop, log.success, error)

    def _split(self, task_id: str) -> str:
        # A task of tau2 in both modes is one problem. Not the hash of the transitions stage: it divides what is left.
        return "test" if share_of("hold out", task_id.replace("-solo/", "/", 1)) < self._hold_out else "train"


def _rejected(item: Item, error: UnreadableError, kept_steps: int) -> Rejected:
    return Rejected(item.file, item.name, error.reason, error.detail, kept_steps, item.raw)


def _without_messages(value: Any) -> Any:
    """What a record says beside its messages and tools."""
    large = ("messages", "conversations", "traj", "tools", "functions")
    return {key: inner for key, inner in value.items() if key not in large} if isinstance(value, dict) else {}
