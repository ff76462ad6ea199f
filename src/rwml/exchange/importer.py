"""Logs of other programs as episodes (`rwml import`). Nothing is lost: what cannot be read is kept with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.core.seeds import share_of
from rwml.core.types import Episode, StopReason
from rwml.exchange import chat_logs, tau2_logs
from rwml.exchange.conversations import UnreadableError
from rwml.exchange.log_files import Item, Log, read_items


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
    return importer.imported


class _Importer:
    def __init__(self, hold_out: float, *, briefing: bool) -> None:
        self.imported = Imported()
        self._briefing, self._hold_out = briefing, hold_out
        self._plays: Counter[tuple[str, str]] = Counter()
        self._ids: set[str] = set()
        self._simulations: dict[str, str] = {}

    def read(self, path: Path, advance: Callable[[int], None]) -> None:
        """One file: its items one by one."""
        counts, done = FileCounts(str(path)), 0
        for item in read_items(path):
            counts.items += 1
            kept, broken = self._take(item)
            counts.episodes += kept
            counts.broken += kept and broken
            counts.rejected += not kept
            advance(item.size)
            done += item.size
        size = path.stat().st_size if path.is_file() else 0
        advance(max(0, size - done))
        self.imported.files.append(counts)

    def _take(self, item: Item) -> tuple[bool, bool]:
        """Add an item's episode, or the reason why it has no episode; returns whether it is kept, and is broken off."""
        left_out: Counter[str] = Counter()
        try:
            if item.problem and item.value is None:
                raise item.problem
            log = (tau2_logs if item.results else chat_logs).log_of(item, left_out, briefing=self._briefing)
            self._check(item, log)
        except UnreadableError as error:
            self._reject(item, error, 0)
            return False, False
        left_out["logs with characters that are not Unicode"] += item.repaired
        self.imported.left_out += left_out
        self.imported.episodes.append(self._episode(log))
        self.imported.notes += [note for note in log.notes if note not in self.imported.notes]
        if log.broken:
            self._reject(item, log.broken, len(log.steps))
        return True, log.broken is not None

    def _check(self, item: Item, log: Log) -> None:
        if not any(step.parsed for step in log.steps):
            raise log.broken or UnreadableError("no action with a next state")
        if log.simulation in self._simulations:
            raise UnreadableError("the same simulation again", f"it is in {self._simulations[log.simulation]}")
        if log.simulation:
            self._simulations[log.simulation] = item.file

    def _reject(self, item: Item, error: UnreadableError, kept_steps: int) -> None:
        self.imported.rejected.append(Rejected(item.file, item.name, error.reason, error.detail, kept_steps, item.raw))

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
