"""Tool responses masked to their form: no world model has to memorise a database (RWML, on tau2-bench)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rwml.core.text import as_unicode

Schema = dict[str, Any]

# Keys that are data rather than names of fields; docs/concepts/rewards.md has the cases behind each rule.
_NUMBERED = re.compile(r"\d{3}|^[\W\d_]*\d[\W\d_]*$")
_NAMING_FIELD = re.compile(r"(?:^|_)(?:id|key|name)$|[a-z]Id$")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
MANY_ENTRIES = 16

# One object for each, so that equal schemas of scalars are seen to be one without a look inside.
_SCALARS: dict[str, Schema] = {
    name: {"type": name} for name in ("null", "boolean", "integer", "number", "string")
}
_DECODER = json.JSONDecoder()


def mask_response(text: str) -> str:
    """A tool's response with every JSON object and array in it replaced by its schema, one line each.

    JSON counts if it begins a line and ends a line. Several responses joined by newlines are therefore masked one by
    one, pretty-printed ones too. All else passes unchanged: status strings, errors, bare scalars (the answer of a
    calculator, an id), and text that only looks like JSON or is nested too deep to read. White space around the whole
    goes where something was masked.

    The schema is OpenAPI's: `{"type": "object", "properties": {...}}`, `{"type": "array", "items": {...}}` (items `{}`
    for an empty array) and `{"type": T}` for null, boolean, integer, number, string. The elements of an array are
    merged: objects with the same fields field by field, arrays by their items, integer and number into number;
    what cannot be merged becomes `{"anyOf": [...]}`. An object whose keys are data becomes
    `{"type": "object", "additionalProperties": <its values, merged>}`. Fields and alternatives are sorted, so
    that equal forms have equal text. A schema is itself JSON: masking it again gives another text.
    """
    masked, position, changed = [], 0, False
    while position <= len(text):
        end_of_line = text.find("\n", position)
        end_of_line = len(text) if end_of_line < 0 else end_of_line
        schema, end = _schema_at(text, position, end_of_line)
        if end:
            masked.append(schema)
            end_of_line, changed = end, True
        else:
            masked.append(text[position:end_of_line])
        position = end_of_line + 1
    return "\n".join(masked).strip() if changed else text


def _schema_at(text: str, start: int, end_of_line: int) -> tuple[str, int]:
    """The schema of the object or array that begins the line at `start`, and the end of its last line. The end is 0 if
    no such value is found, or if more text follows it."""
    line = text[start:end_of_line].lstrip()
    if not line.startswith(("{", "[")):
        return "", 0
    try:
        value, end = _decoded(text, end_of_line - len(line))
        # A key may be written as the escape of half a character, which only an escape can keep.
        schema = as_unicode(json.dumps(_schema(value), ensure_ascii=False))
    except (ValueError, RecursionError):
        return "", 0
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    return ("", 0) if text[end:line_end].strip() else (schema, line_end)


def _decoded(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at `start` and its end; ValueError without one.

    It is read from a part of the text, of which more is taken as long as the value may only be cut off: an error of the
    decoder counts the lines before it, which for each of many lines would be the square of the text.
    """
    size = 4096
    while True:
        try:
            value, end = _DECODER.raw_decode(text[start : start + size])
        except json.JSONDecodeError as error:
            unfinished = error.pos > size - 16 or error.msg.startswith("Unterminated string")
            if not unfinished or start + size >= len(text):
                raise
            size *= 4
        else:
            return value, start + end


def _schema(value: Any) -> Schema:
    if isinstance(value, dict):
        forms = [_schema(inner) for inner in value.values()]
        if _is_map(value, forms):
            return {"type": "object", "additionalProperties": _merged(forms)}
        return {"type": "object", "properties": dict(sorted(zip(value, forms, strict=True)))}
    if isinstance(value, list):
        return {"type": "array", "items": _merged(map(_schema, value))}
    return _SCALARS[_scalar(value)]


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "number" if isinstance(value, float) else "string"


def _is_map(value: dict[str, Any], forms: list[Schema]) -> bool:
    """Whether the keys are data: all of them numbered, each named again by its own value, or many of one form."""
    if not value:
        return False
    if all(_NUMBERED.search(key) for key in value) or all(_names_itself(key, inner) for key, inner in value.items()):
        return True
    plain = all(_IDENTIFIER.fullmatch(key) for key in value)
    return len(value) >= MANY_ENTRIES and not plain and "anyOf" not in _merged(forms)


def _names_itself(key: str, value: Any) -> bool:
    return isinstance(value, dict) and any(
        inner == key for field, inner in value.items() if _NAMING_FIELD.search(field)
    )


def _merged(schemas: Iterable[Schema]) -> Schema:
    """One schema that fits all of them; `{}` for none. Each is merged within itself already."""
    different = list({id(schema): schema for schema in schemas}.values())
    if len(different) == 1:
        return different[0]
    groups: dict[Any, list[Schema]] = {}
    for schema in different:
        for form in schema.get("anyOf", [schema]):
            if form:
                groups.setdefault(_group(form), []).append(form)
    if {"integer", "number"} <= groups.keys():
        del groups["integer"]
    if "map" in groups:
        groups.pop((), None)  # an empty object is a map without entries
    alternatives = [_merged_group(forms) for forms in groups.values()]
    if len(alternatives) > 1:
        texts = {json.dumps(form): form for form in alternatives}
        return {"anyOf": [texts[text] for text in sorted(texts)]}
    return alternatives[0] if alternatives else {}


def _group(form: Schema) -> Any:
    """What can be merged into one: scalars of a type, arrays, maps, objects with the same fields."""
    if "properties" in form:
        return tuple(form["properties"])
    return "map" if "additionalProperties" in form else form["type"]


def _merged_group(forms: list[Schema]) -> Schema:
    first = forms[0]
    if len(forms) == 1:
        return first
    if "properties" in first:
        fields = {key: _merged(form["properties"][key] for form in forms) for key in first["properties"]}
        return {"type": "object", "properties": fields}
    for inner in ("items", "additionalProperties"):
        if inner in first:
            return {"type": first["type"], inner: _merged(form[inner] for form in forms)}
    return first
