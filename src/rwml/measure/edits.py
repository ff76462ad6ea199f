"""Documented edits of a real next state: harmless rewordings, and one wrong fact each (docs/reference/reward-lab.md).

They edit names with numbers ("a mug 1"), bare numbers, and JSON objects (schemas of tool responses). An edit returns
None if the text offers nothing to change. All choices follow from the text: equal texts are edited alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rwml.core.seeds import seed_of

_THING = r"[A-Za-z]+ \d+"
_NAMED = re.compile(rf"\b{_THING}\b")
_ITEM = re.compile(rf"\ban? {_THING}\b")
_LIST = re.compile(rf"\ban? {_THING}\b(?:,? and an? {_THING}\b|, an? {_THING}\b)*")
_NUMBER = re.compile(r"\d+")
_ARTICLE = re.compile(rf"\b(?:[Aa]n?|[Tt]he) (?={_THING}\b)")
_STATE = re.compile(r"\b(is|turn|turned) (open|closed|on|off)\b")
_OPPOSITE = {"open": "closed", "closed": "open", "on": "off", "off": "on"}
MAX_DEPTH = 100
"""Levels of JSON that an edit looks into."""

_OTHER_TYPE = {"string": "integer", "integer": "string", "number": "string", "boolean": "string", "null": "string"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What an edit may put in: words of numbered things ("mug") and names of JSON fields that the data hold, sorted."""

    things: tuple[str, ...]
    fields: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """All that these texts hold."""
        things: set[str] = set()
        fields: set[str] = set()
        for text in texts:
            things |= {name.split()[0] for name in _NAMED.findall(text)}
            for record in _records(_json(text)):
                fields |= record.keys()
        return cls(tuple(sorted(things)), tuple(sorted(fields)))


def white_space(text: str, vocabulary: Vocabulary) -> str | None:
    """Spaces doubled, and a line break at the end: the same words."""
    return text.replace(" ", "  ") + "\n" if " " in text else None


def order(text: str, vocabulary: Vocabulary) -> str | None:
    """The things of a list in the opposite order; a JSON object's fields likewise."""
    data = _json(text)
    if data is not None:
        turned = json.dumps(_reversed(data))
        return turned if turned != text and json.loads(turned) == data else None
    lists = [match for match in _LIST.finditer(text) if len(_ITEM.findall(match[0])) > 1]
    if not lists:
        return None
    match = _pick(lists, text)
    items = _ITEM.findall(match[0])[::-1]
    replacement = iter(items)
    return _splice(text, match, _ITEM.sub(lambda _: next(replacement), match[0]))


def articles(text: str, vocabulary: Vocabulary) -> str | None:
    """Without the article before things with a number ("On desk 1, you see mug 1.")."""
    changed = _ARTICLE.sub("", text)
    return changed if changed != text else None


def number(text: str, vocabulary: Vocabulary) -> str | None:
    """One thing gets the next number, wherever it is named; in a text without such a thing, the first number does."""
    names = list(dict.fromkeys(_NAMED.findall(text)))
    if names:
        name = _pick(names, text)
        word, _, count = name.rpartition(" ")
        return re.sub(rf"\b{name}\b", f"{word} {_next(count)}", text)
    return _NUMBER.sub(lambda match: _next(match[0]), text, count=1) if _NUMBER.search(text) else None


def thing(text: str, vocabulary: Vocabulary) -> str | None:
    """One thing becomes another thing of the data, wherever it is named; one field of a JSON object likewise."""
    if _json(text) is not None:
        return _in_record(text, vocabulary, _rename)
    names = list(dict.fromkeys(_NAMED.findall(text)))
    present = {name.split()[0] for name in names}
    others = [word for word in vocabulary.things if word not in present]
    if not names or not others:
        return None
    name = _pick(names, text)
    return re.sub(rf"\b{name}\b", f"{_pick(others, text)} {name.rpartition(' ')[2]}", text)


def missing(text: str, vocabulary: Vocabulary) -> str | None:
    """One thing is left out of a list of two or more; one field of a JSON object of two or more likewise."""
    if _json(text) is not None:
        return _in_record(text, vocabulary, _drop)
    lists = [match for match in _LIST.finditer(text) if len(_ITEM.findall(match[0])) > 1]
    if not lists:
        return None
    match = _pick(lists, text)
    items = _ITEM.findall(match[0])
    left_out = seed_of("edit", text) % len(items)
    return _splice(text, match, _listing(items[:left_out] + items[left_out + 1 :]))


def added(text: str, vocabulary: Vocabulary) -> str | None:
    """One thing more at the end of a list; one field more in a JSON object."""
    if _json(text) is not None:
        return _in_record(text, vocabulary, _add)
    lists = list(_LIST.finditer(text))
    others = [word for word in vocabulary.things if f" {word} " not in text]
    if not lists or not others:
        return None
    match = _pick(lists, text)
    return _splice(text, match, _listing([*_ITEM.findall(match[0]), f"a {_pick(others, text)} 1"]))


def state(text: str, vocabulary: Vocabulary) -> str | None:
    """Open for closed, off for on, and the other way round; one field of a JSON schema gets another type."""
    if _json(text) is not None:
        return _in_record(text, vocabulary, _retype)
    states = list(_STATE.finditer(text))
    if not states:
        return None
    match = _pick(states, text)
    return _splice(text, match, f"{match[1]} {_OPPOSITE[match[2]]}")


Edit = Callable[[str, Vocabulary], str | None]
HARMLESS: dict[str, Edit] = {"white space": white_space, "list order": order, "articles": articles}
WRONG: dict[str, Edit] = {
    "number": number,
    "thing": thing,
    "missing thing": missing,
    "added thing": added,
    "state": state,
}


def _next(digits: str) -> str:
    """The next number; of one with many digits, whose value Python may not read, the last ones alone change."""
    return digits[:-18] + str(int(digits[-18:]) + 1)


def _pick(choices: Sequence[Any], text: str) -> Any:
    return choices[seed_of("edit", text) % len(choices)]


def _splice(text: str, match: re.Match[str], replacement: str) -> str:
    return text[: match.start()] + replacement + text[match.end() :]


def _listing(items: Sequence[str]) -> str:
    return ", and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def _json(text: str) -> Any:
    """The JSON object or array that the text is, else None; also None for one of more than `MAX_DEPTH` levels."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _values(value)]
    return None if level else data


def _values(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _records(data: Any) -> list[dict[str, Any]]:
    """The objects whose keys are field names: a schema's `properties`, or the objects themselves in other JSON."""
    records: list[dict[str, Any]] = []
    if isinstance(data, dict):
        inside = data.get("properties")
        if isinstance(inside, dict):
            records.append(inside)
        elif "type" not in data and data:
            records.append(data)
        for value in data.values():
            records += [record for record in _records(value) if all(record is not known for known in records)]
    elif isinstance(data, list):
        for value in data:
            records += _records(value)
    return records


def _reversed(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _reversed(value) for key, value in reversed(data.items())}
    return [_reversed(value) for value in data] if isinstance(data, list) else data


def _in_record(
    text: str, vocabulary: Vocabulary, change: Callable[[dict[str, Any], str, Vocabulary], bool]
) -> str | None:
    """The text with `change` made to one of its records, None if it holds no record that allows it."""
    data = _json(text)
    records = _records(data)
    if not records:
        return None
    return json.dumps(data) if change(_pick(records, text), text, vocabulary) else None


def _rename(record: dict[str, Any], text: str, vocabulary: Vocabulary) -> bool:
    others = [name for name in vocabulary.fields if name not in record]
    if not record or not others:
        return False
    old, new = _pick(list(record), text), _pick(others, text)
    items = [(new if key == old else key, value) for key, value in record.items()]
    record.clear()
    record.update(items)
    return True


def _drop(record: dict[str, Any], text: str, vocabulary: Vocabulary) -> bool:
    if len(record) < 2:
        return False
    del record[_pick(list(record), text)]
    return True


def _add(record: dict[str, Any], text: str, vocabulary: Vocabulary) -> bool:
    others = [name for name in vocabulary.fields if name not in record]
    if not record or not others:
        return False
    record[_pick(others, text)] = _pick(list(record.values()), text)
    return True


def _retype(record: dict[str, Any], text: str, vocabulary: Vocabulary) -> bool:
    plain = [v for v in record.values() if isinstance(v, dict) and str(v.get("type")) in _OTHER_TYPE]
    if not plain:
        return False
    chosen = _pick(plain, text)
    chosen["type"] = _OTHER_TYPE[str(chosen["type"])]
    return True
