"""Log files, read item by item. An item is one conversation, or the reason why it cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwml.core.text import array_elements
from rwml.core.types import Step, StopReason, Task
from rwml.exchange.conversations import UnreadableError

_NO_UNICODE = re.compile(r"\\u[dD]|[\ud800-\udfff]")
_SIMULATIONS = re.compile(r'"simulations"\s*:\s*\[')
_BLANK = " \t\r\n\ufeff"


@dataclass(frozen=True, slots=True)
class Results:
    """What a tau2 results file says about all its simulations. tasks: by id."""

    info: dict[str, Any]
    tasks: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation of a file, parsed.

    size: its approximate share of the file's bytes. text: as in the file; "" if `value` as JSON says the same. results:
    of a tau2 simulation. repaired: characters that are not Unicode were replaced. problem: why the value is missing.
    With a value, the item breaks off and `text` is the rest.
    """

    file: str
    name: str
    size: int
    value: Any = None
    text: str = ""
    results: Results | None = None
    repaired: bool = False
    problem: UnreadableError | None = None

    @property
    def raw(self) -> str:
        """The item as text."""
        unread = self.problem and self.value is None
        return self.text if self.text or unread else json.dumps(self.value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Log:
    """An item understood.

    task: its split is "" if the log does not say it. name: what the log calls itself; simulation: the id of a tau2
    simulation ("": another log).
    broken: what cut the log short. notes: for the user.
    """

    task: Task
    policy: str
    seed: int
    name: str
    simulation: str
    opening: str
    steps: tuple[Step, ...]
    stop: StopReason
    success: bool
    error: str = ""
    broken: UnreadableError | None = None
    notes: tuple[str, ...] = ()


def read_items(path: Path) -> Iterator[Item]:
    """The conversations of a file: JSON lines, one JSON document, or tau2 results (also with their simulations in files
    beside them; `path` may be that folder). A line or a document that is not JSON becomes an item with a problem."""
    path = path / "results.json" if path.is_dir() else path
    encoding, errors = _encoding(path)
    with path.open(encoding=encoding, errors=errors, newline="\n") as handle:
        lines = ((number, line) for number, line in enumerate(handle, 1) if line.strip(_BLANK))
        number, line = next(lines, (1, ""))
        try:
            first = parse_json(line)
        except UnreadableError:
            yield from _document(path, number, line + handle.read())
            return
        yield from _values(path, f"line {number}", first, line)
        yield from _lines(path, lines)


def _encoding(path: Path) -> tuple[str, str]:
    with path.open("rb") as handle:
        wide = handle.read(2) in (b"\xff\xfe", b"\xfe\xff")
    return ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")


def parse_json(text: str) -> tuple[Any, bool]:
    """The value of a JSON text, and whether invalid Unicode characters were replaced in it."""
    text = text.strip(_BLANK)
    if not text:
        raise UnreadableError("empty file")
    try:
        value = json.loads(text)
        if not _NO_UNICODE.search(text):
            return value, False
        sound = _sound(value)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("no JSON", str(error)) from None
    return sound, sound != value


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_sound(inner) for inner in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(inner) for key, inner in value.items()}
    return value


def _lines(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Item]:
    for number, line in lines:
        try:
            yield from _values(path, f"line {number}", parse_json(line), line)
        except UnreadableError as problem:
            yield Item(str(path), f"line {number}", _bytes(line), text=line, problem=problem)


def _document(path: Path, number: int, text: str) -> Iterator[Item]:
    """A file whose first line (with that number) is not JSON by itself."""
    try:
        yield from _values(path, "document", parse_json(text), text)
        return
    except UnreadableError as problem:
        broken = problem
    first = text.split("\n", 1)[0].strip(_BLANK)
    if first in ("{", "[") or "\n" not in text.strip(_BLANK):
        yield from _cut_off(path, text, broken)
    else:
        rest = ((n, line) for n, line in enumerate(text.split("\n"), number) if line.strip(_BLANK))
        yield from _lines(path, rest)


def _cut_off(path: Path, text: str, problem: UnreadableError) -> Iterator[Item]:
    """What is whole of a document that breaks off: simulations, or the elements of a list."""
    head, start = _inside(text)
    elements, end = _elements(text, start) if start else ([], 0)
    if not elements:
        yield Item(str(path), "document", _bytes(text), text=text, problem=problem)
        return
    broken = UnreadableError("the file breaks off", problem.detail)
    value, repaired = parse_json(json.dumps(elements))
    if head is None and _is_message(value[0]):
        yield Item(str(path), "document", _bytes(text), value, text[end:], None, repaired, broken)
        return
    whole = value if head is None else head | {"simulations": value}
    yield from _values(path, "document", (whole, repaired), text[:end])
    yield Item(str(path), "end of the document", _bytes(text[end:]), text=text[end:], problem=broken)


def _inside(text: str) -> tuple[dict[str, Any] | None, int]:
    """What comes before tau2's array in a broken document, and where the inside of an array begins (0: no array)."""
    array = _SIMULATIONS.search(text)
    if array:
        try:
            return parse_json(text[: array.start()].rstrip(_BLANK + ",") + "}")[0], array.end()
        except UnreadableError:
            return None, 0
    start = len(text) - len(text.lstrip(_BLANK))
    return None, start + 1 if text.startswith("[", start) else 0


def _elements(text: str, start: int) -> tuple[list[Any], int]:
    """The whole elements of a JSON array whose inside begins at `start`, and where the rest begins."""
    elements: list[tuple[Any, int, int]] = []
    with suppress(ValueError, RecursionError):
        for element in array_elements(text, start):
            elements.append(element)
    return [value for value, _, _ in elements], elements[-1][2] if elements else start


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value


def _values(path: Path, name: str, parsed: tuple[Any, bool], text: str) -> Iterator[Item]:
    """The conversations in a JSON value: tau2 results, a list of conversations, or a single one."""
    value, repaired = parsed
    if isinstance(value, dict) and (isinstance(value.get("simulations"), list) or {"info", "tasks"} <= value.keys()):
        yield from _simulations(path, value, text, repaired=repaired)
    elif isinstance(value, list) and value and not _is_message(value[0]):
        size = _bytes(text) // len(value)
        for number, inner in enumerate(value):
            yield Item(str(path), f"{name}, element {number}", size, inner, repaired=repaired)
    else:
        yield Item(str(path), name, _bytes(text), value, text, repaired=repaired)


def _simulations(path: Path, document: dict[str, Any], text: str, *, repaired: bool) -> Iterator[Item]:
    size = _bytes(text)
    info, tasks = document.get("info"), document.get("tasks")
    results = Results(
        info if isinstance(info, dict) else {},
        {str(task.get("id")): task for task in tasks if isinstance(task, dict)} if isinstance(tasks, list) else {},
    )
    listed = document.get("simulations") or []
    for number, value in enumerate(listed):
        name = f"simulation {value.get('id', number) if isinstance(value, dict) else number}"
        yield Item(str(path), name, size // len(listed), value, "", results, repaired)
    if listed:
        return
    files = sorted((path.parent / "simulations").glob("*.json"))
    for file in files:
        inner = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
        try:
            value, mended = parse_json(inner)
            yield Item(str(file), f"simulation {file.stem}", 0, value, inner, results, mended)
        except UnreadableError as problem:
            yield Item(str(file), f"simulation {file.stem}", 0, text=inner, problem=problem)
    index = document.get("simulation_index")
    indexed = [str(entry.get("id")) for entry in index if isinstance(entry, dict)] if isinstance(index, list) else []
    for name in sorted(set(indexed) - {file.stem for file in files}):
        missing = UnreadableError("a simulation file is missing", f"simulations/{name}.json")
        yield Item(str(path), f"simulation {name}", 0, text=name, problem=missing)
    if not files and not indexed:
        empty = UnreadableError("no simulations in the file")
        yield Item(str(path), "document", size, text=text, problem=empty)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
