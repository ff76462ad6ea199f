"""Records of a database that many sessions share: each session owns only those that it may have written to."""

from __future__ import annotations

import copy
import json
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from datetime import date, time, timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel

_ATOMS = (str, int, float, bool, type(None))
_FROZEN = (Enum, date, time, timedelta, bytes, frozenset)


def own_copy(value: Any) -> Any:
    """A deep copy of a record (models, lists, dicts, atoms), some ten times as fast as `copy.deepcopy`.

    Two places of `value` that hold one object hold two equal ones in the copy.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict:
        return {key: own_copy(item) for key, item in value.items()}
    if kind is list:
        return [own_copy(item) for item in value]
    if isinstance(value, BaseModel):
        clone = value.model_copy()
        fields = clone.__dict__
        for name, item in fields.items():
            if type(item) not in _ATOMS:
                fields[name] = own_copy(item)
        return clone
    return value if isinstance(value, _FROZEN) else copy.deepcopy(value)


def fingerprint(record: Any) -> str:
    """Text that is equal for two records exactly when the official hash holds them for equal."""
    return json.dumps(record.model_dump(), sort_keys=True, default=str)


class Sharing:
    """A session's switch: while `on`, a table hands out the shared records themselves, to be read only."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


class Records(dict[str, Any]):
    """A table of a session: the shared records, until one is handed out while sharing is off; then the session's copy.

    A dict subclass whose own storage always holds the current records, so that pydantic dumps it as any dict.
    touched: keys that may differ from the shared table: handed out to be written, set or deleted.
    """

    __slots__ = ("shared", "sharing", "touched")

    def __init__(self, shared: Mapping[str, Any], sharing: Sharing) -> None:
        super().__init__(shared)
        self.shared = shared
        self.sharing = sharing
        self.touched: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        record = super().__getitem__(key)
        if self.sharing.on or key in self.touched:
            return record
        record = own_copy(record)
        super().__setitem__(key, record)
        self.touched.add(key)
        return record

    def __setitem__(self, key: str, record: Any) -> None:
        self.touched.add(key)
        super().__setitem__(key, record)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.touched.add(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            return self[key]
        return default

    def pop(self, key: str, *default: Any) -> Any:
        if key not in self and default:
            return default[0]
        record = self[key]
        del self[key]
        return record

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **records: Any) -> None:
        for key, record in dict(*others, **records).items():
            self[key] = record

    def clear(self) -> None:
        for key in list(self):
            del self[key]

    def popitem(self) -> tuple[str, Any]:
        key = next(reversed(self))
        return key, self.pop(key)

    def __ior__(self, other: Any) -> Records:  # type: ignore[override, misc]
        self.update(other)
        return self

    def values(self) -> Any:
        return super().values() if self.sharing.on else ValuesView(self)

    def items(self) -> Any:
        return super().items() if self.sharing.on else ItemsView(self)


def changes(tables: Mapping[str, Records]) -> dict[tuple[str, str], str | None]:
    """Fingerprint of every touched record by (table, key); None for one that is no longer there."""
    return {
        (name, key): fingerprint(dict.__getitem__(table, key)) if key in table else None
        for name, table in tables.items()
        for key in table.touched
    }


def same_records(tables: Mapping[str, Records], reference: Mapping[tuple[str, str], str | None]) -> bool:
    """Whether `tables` are in the state that `reference` (from `changes`) is the account of.

    Only records that one of the two has touched are compared.
    """
    mine = changes(tables)
    return all(_text(tables, place, mine) == _text(tables, place, reference) for place in _places(mine, reference))


def _places(*accounts: Mapping[tuple[str, str], str | None]) -> Iterator[tuple[str, str]]:
    yield from {place for account in accounts for place in account}


def _text(
    tables: Mapping[str, Records], place: tuple[str, str], account: Mapping[tuple[str, str], str | None]
) -> str | None:
    if place in account:
        return account[place]
    name, key = place
    shared = tables[name].shared
    return fingerprint(shared[key]) if key in shared else None
