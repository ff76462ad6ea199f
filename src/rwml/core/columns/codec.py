"""The values of a frozen dataclass to and from the columns of a file."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any

from rwml.core.columns import places
from rwml.core.types import History

Row = dict[str, Any]
Share = Callable[[str, str], str]
"""`dict.setdefault` of texts: the one object for all equal ones."""


PLACED = "history"


@cache
def is_placed(cls: type) -> bool:
    """Whether its records have a history that a file holds as a place in the episode."""
    return any(name == PLACED and History in typing.get_args(hint) for name, hint in fields_of(cls))


def row_encoder(cls: type) -> Callable[[Any], Row]:
    """From the records of one file, in their order, to its rows."""
    encode = _encoder(typing.cast(Any, cls))
    if not is_placed(cls):
        return typing.cast("Callable[[Any], Row]", encode)
    writer = places.PlaceWriter()

    def placed(record: Any) -> Row:
        row = encode(record)
        return row | dict(zip(places.COLUMNS, writer.place(record.episode, record.step, row.pop(PLACED)), strict=True))

    return placed


def row_decoder(cls: type) -> Callable[[Row], Any]:
    """From the rows of one file, in their order, to its records; ValueError for a history that is not there.

    A row may hold its whole history, as files of version 1 do. Equal texts of a record are one object, and those of a
    whole file where its records share histories.
    """
    decode = _decoder(typing.cast(Any, cls))
    if not is_placed(cls):
        return lambda row: decode(row, _shares())
    share = _shares()
    reader, writer = places.PlaceReader(), places.PlaceWriter()

    def shared(row: Row) -> Any:
        episode = row["episode"]
        if PLACED in row:
            whole = [share(text, text) for text in row[PLACED]]
            history = writer.shared(episode, row["step"], whole)
        else:
            new = [share(text, text) for text in row[places.COLUMNS[0]]]
            history = reader.history(episode, row | {places.COLUMNS[0]: new})
        return decode(row | {PLACED: history}, share)

    return shared


def _shares() -> Share:
    known: dict[str, str] = {}
    return known.setdefault


@cache
def fields_of(cls: type) -> tuple[tuple[str, Any], ...]:
    """Names and types of its fields, in order."""
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def optional(hint: Any) -> tuple[Any, bool]:
    """The type of a field's values, and whether they may be None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg not in (type(None), History)]
        assert len(inner) == 1, f"records hold X or X | None, not {hint}"
        return inner[0], type(None) in typing.get_args(hint)
    return hint, False


@cache
def _encoder(hint: Any) -> Callable[[Any], Any]:
    if History in typing.get_args(hint):
        return lambda history: history
    hint, _ = optional(hint)
    if typing.get_origin(hint) is tuple:
        encode = _encoder(typing.get_args(hint)[0])
        return lambda values: [encode(value) for value in values]
    if dataclasses.is_dataclass(hint):
        fields = [(name, _encoder(inner)) for name, inner in fields_of(typing.cast(type, hint))]
        return lambda record: {name: encode(getattr(record, name)) for name, encode in fields}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str
    return lambda value: value


@cache
def _decoder(hint: Any) -> Callable[[Any, Share], Any]:
    if History in typing.get_args(hint):
        return lambda history, share: history
    hint, nullable = optional(hint)
    if nullable:
        decode = _decoder(hint)
        return lambda value, share: None if value is None else decode(value, share)
    if typing.get_origin(hint) is tuple:
        decode = _decoder(typing.get_args(hint)[0])
        return lambda values, share: tuple([decode(value, share) for value in values])
    if dataclasses.is_dataclass(hint):
        made: Any = hint
        fields = [(name, _decoder(inner)) for name, inner in fields_of(made)]
        return lambda row, share: made(**{name: decode(row[name], share) for name, decode in fields})
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda value, share: hint(value)
    if hint is str:
        return lambda value, share: share(value, value)
    return lambda value, share: value
