"""Log files, read item by item. An item is one conversation, or the reason why it cannot be read."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rwml.core.records import foreign_rows
from rwml.core.text import MOST_NESTING, array_elements, nested_too_deep, sound
from rwml.core.types import Step, StopReason, Task
from rwml.exchange.message_parts import UnreadableError
from rwml.exchange.messages import Message, is_message
from rwml.exchange.packed_files import PARQUET, Source

_NO_UNICODE = re.compile(r"\\u[dD]|[\ud800-\udfff]")
_SIMULATIONS = re.compile(r'"simulations"\s*:\s*\[')
_BLANK = " \t\r\n\ufeff\x1e"
_BETWEEN = re.compile(rf"[{_BLANK},]*")
_HEAD = 4096
_TOO_DEEP = "nested too deep"


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
    broken: what cut the log short. notes: for the user. messages: of a chat log, as read.
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
    messages: tuple[Message, ...] = ()


def read_items(path: Path) -> Iterator[Item]:
    """The conversations of a file: JSON lines, one JSON document or several in a row, rows of parquet, or tau2 results
    (also with their simulations in files beside them; `path` may be that folder). Files may be packed.

    What cannot be read becomes an item with a problem: a line, a document, or the whole file.
    """
    path = path / "results.json" if path.is_dir() else path
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(PARQUET)) == PARQUET
        if is_parquet:
            yield from _rows(path)
            return
        source = Source(path)
    except (OSError, UnreadableError) as error:
        problem = error if isinstance(error, UnreadableError) else UnreadableError("no log file", str(error))
        yield Item(path_text(path), "file", path.stat().st_size, problem=problem)
        return
    with source:
        before = 0
        for item in _text_items(path, source):
            place = source.place()
            yield replace(item, size=place - before) if source.packed else item
            before = place


def path_text(path: Path) -> str:
    """A path as text; bytes of a name that are not UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def _rows(path: Path) -> Iterator[Item]:
    """Rows of parquet. A column has the same fields in each row, so that null there is the same as no field."""
    made = 0
    try:
        for made, row in enumerate(foreign_rows(path), 1):
            value = _without_nulls(row)
            yield Item(path_text(path), f"row {made}", 0, value)
    except (ValueError, RecursionError) as error:
        problem = UnreadableError("parquet that cannot be read", str(error).split("\n", 1)[0][:200])
        yield Item(path_text(path), f"rows after {made}" if made else "file", 0, problem=problem)
        return
    if not made:
        yield Item(path_text(path), "file", 0, problem=UnreadableError("empty file"))


def _without_nulls(value: Any) -> Any:
    """The JSON form of a row."""
    if isinstance(value, dict):
        return {sound(str(key)): _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(inner) for inner in value]
    if isinstance(value, str):
        return sound(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _text_items(path: Path, source: Source) -> Iterator[Item]:
    buffer = io.BufferedReader(source, 1 << 16)
    head = buffer.peek(_HEAD)[:_HEAD]
    encoding, errors = _encoding(head)
    if encoding == "utf-8-sig" and head.count(b"\0") > len(head) // 20:
        problem = UnreadableError("no log file", "it holds bytes that are not text")
        yield Item(path_text(path), "file", source.size, problem=problem)
        return
    with io.TextIOWrapper(buffer, encoding, errors, newline="\n") as handle:
        lines = ((number, line) for number, line in enumerate(handle, 1) if line.strip(_BLANK))
        number, line = next(lines, (1, ""))
        try:
            first = parse_json(line)
        except UnreadableError:
            yield from _document(path, number, line + handle.read())
        else:
            yield from _values(path, f"line {number}", first, line)
            yield from _lines(path, lines)
    if source.problem:
        yield Item(path_text(path), "end of the file", 0, problem=source.problem)


def _encoding(head: bytes) -> tuple[str, str]:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", "replace"
    if head[:2] in (b"{\0", b"[\0"):
        return "utf-16-le", "replace"
    return "utf-8-sig", "surrogateescape"


def parse_json(text: str) -> tuple[Any, bool]:
    """The value of a JSON text, and whether invalid Unicode characters were replaced in it."""
    text = text.strip(_BLANK)
    if not text:
        raise UnreadableError("empty file")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("no JSON", sound(str(error))) from None
    if nested_too_deep(value):
        raise UnreadableError(_TOO_DEEP, f"more than {MOST_NESTING} values in one another")
    if not _NO_UNICODE.search(text):
        return value, False
    whole = _sound(value)
    return whole, whole != value


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return sound(value)
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
            rest, _ = yield from _glued(path, number, line)
            if rest.strip(_BLANK) or rest == line:
                yield Item(path_text(path), f"line {number}", _bytes(rest), text=rest, problem=problem)


def _glued(path: Path, number: int, text: str) -> Generator[Item, None, tuple[str, int]]:
    """The objects and lists that stand one after another at the head of a text; returns the rest and its line."""
    decoder, end = json.JSONDecoder(), 0
    while True:
        between = _BETWEEN.match(text, end)
        begin = between.end() if between else end
        if not text.startswith(("{", "["), begin):
            return text[begin:] if begin == len(text) else text[end:], number
        try:
            stop = decoder.raw_decode(text, begin)[1]
        except (ValueError, RecursionError):
            return text[end:], number
        number += text.count("\n", end, begin)
        piece = text[begin:stop]
        try:
            yield from _values(path, f"line {number}", parse_json(piece), piece)
        except UnreadableError as problem:
            yield Item(path_text(path), f"line {number}", _bytes(piece), text=piece, problem=problem)
        number += text.count("\n", begin, stop)
        end = stop


def _document(path: Path, number: int, text: str) -> Iterator[Item]:
    """A file whose first line (with that number) is not JSON by itself."""
    try:
        yield from _values(path, "document", parse_json(text), text)
        return
    except UnreadableError as problem:
        broken = problem
    if broken.reason != _TOO_DEEP:
        rest, number = yield from _glued(path, number, text)
        if rest != text and not rest.strip(_BLANK):
            return
        text = rest
    first = text.strip(_BLANK).split("\n", 1)[0].strip(_BLANK)
    spread = first in ("{", "[") and not _holds_lines(text)
    if broken.reason == _TOO_DEEP or spread or "\n" not in text.strip(_BLANK):
        yield from _cut_off(path, text, broken)
    else:
        lines = ((n, line) for n, line in enumerate(text.split("\n"), number) if line.strip(_BLANK))
        yield from _lines(path, lines)


def _holds_lines(text: str) -> bool:
    """Whether a line without indentation is a JSON object or list by itself, as in no document over several lines."""
    for line in text.split("\n"):
        if line.startswith(("{", "[")) and len(line) > 2:
            with suppress(UnreadableError):
                parse_json(line)
                return True
    return False


def _cut_off(path: Path, text: str, problem: UnreadableError) -> Iterator[Item]:
    """What is whole of a document that breaks off, or of which a part is nested too deep: simulations, or the elements
    of a list."""
    head, start = _inside(text)
    spans, end = _elements(text, start) if start else ([], 0)
    values, repaired = [], False
    for begin, stop in spans:
        try:
            value, mended = parse_json(text[begin:stop])
            values.append(value)
            repaired = repaired or mended
        except UnreadableError as fault:
            yield Item(path_text(path), "element", _bytes(text[begin:stop]), text=text[begin:stop], problem=fault)
    if not spans:
        yield Item(path_text(path), "document", _bytes(text), text=text, problem=problem)
        return
    broken = UnreadableError("the file breaks off", problem.detail)
    if values and head is None and is_message(values[0]):
        yield Item(path_text(path), "document", _bytes(text), values, text[end:], None, repaired, broken)
        return
    if values:
        whole = values if head is None else head | {"simulations": values}
        yield from _values(path, "document", (whole, repaired), text[:end])
    if problem.reason != _TOO_DEEP or text[end:].strip(_BLANK + "]},"):
        yield Item(path_text(path), "end of the document", _bytes(text[end:]), text=text[end:], problem=broken)


def _inside(text: str) -> tuple[dict[str, Any] | None, int]:
    """What comes before tau2's array in a broken document, and where the inside of an array begins (0: no array)."""
    array = _SIMULATIONS.search(text)
    if array:
        try:
            head = parse_json(text[: array.start()].rstrip(_BLANK + ",") + "}")[0]
        except UnreadableError:
            return None, 0
        return (head, array.end()) if isinstance(head, dict) else (None, 0)
    start = len(text) - len(text.lstrip(_BLANK))
    return None, start + 1 if text.startswith("[", start) else 0


def _elements(text: str, start: int) -> tuple[list[tuple[int, int]], int]:
    """Where the whole elements of a JSON array stand whose inside begins at `start`, and where the rest begins."""
    spans: list[tuple[int, int]] = []
    with suppress(ValueError, RecursionError):
        for _, begin, end in array_elements(text, start):
            spans.append((begin, end))
    return spans, spans[-1][1] if spans else start


def _values(path: Path, name: str, parsed: tuple[Any, bool], text: str) -> Iterator[Item]:
    """The conversations in a JSON value: tau2 results, a list of conversations, or a single one."""
    value, repaired = parsed
    if isinstance(value, dict) and (isinstance(value.get("simulations"), list) or {"info", "tasks"} <= value.keys()):
        yield from _simulations(path, value, text, repaired=repaired)
    elif isinstance(value, list) and value and not is_message(value[0]):
        size = _bytes(text) // len(value)
        for number, inner in enumerate(value):
            yield Item(path_text(path), f"{name}, element {number}", size, inner, repaired=repaired)
    else:
        yield Item(path_text(path), name, _bytes(text), value, text, repaired=repaired)


def _simulations(path: Path, document: dict[str, Any], text: str, *, repaired: bool) -> Iterator[Item]:
    size = _bytes(text)
    info, tasks = document.get("info"), document.get("tasks")
    results = Results(
        info if isinstance(info, dict) else {},
        {str(task.get("id")): task for task in tasks if isinstance(task, dict)} if isinstance(tasks, list) else {},
    )
    listed = document.get("simulations") or []
    if not isinstance(listed, list):
        wrong = UnreadableError("simulations is not a list", type(listed).__name__)
        yield Item(path_text(path), "document", size, text=text, problem=wrong)
        return
    for number, value in enumerate(listed):
        name = f"simulation {value.get('id', number) if isinstance(value, dict) else number}"
        yield Item(path_text(path), name, size // len(listed), value, "", results, repaired)
    if listed:
        return
    files = sorted(file for file in (path.parent / "simulations").glob("*.json") if file.is_file())
    for file in files:
        inner = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
        try:
            value, mended = parse_json(inner)
            yield Item(path_text(file), f"simulation {file.stem}", 0, value, inner, results, mended)
        except UnreadableError as problem:
            yield Item(path_text(file), f"simulation {file.stem}", 0, text=inner, problem=problem)
    index = document.get("simulation_index")
    indexed = [str(entry.get("id")) for entry in index if isinstance(entry, dict)] if isinstance(index, list) else []
    for name in sorted(set(indexed) - {file.stem for file in files}):
        missing = UnreadableError("a simulation file is missing", f"simulations/{name}.json")
        yield Item(path_text(path), f"simulation {name}", 0, text=name, problem=missing)
    if not files and not indexed:
        empty = UnreadableError("no simulations in the file")
        yield Item(path_text(path), "document", size, text=text, problem=empty)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
