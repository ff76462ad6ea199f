"""Shared records: what a session changes is its own, and only what it has touched is compared."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import date
from enum import StrEnum

import pytest
from pydantic import BaseModel

from rwml.worlds.tau2.records import Records, Sharing, changes, fingerprint, own_copy, same_records


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    price: float
    seen: list[str] = []


class Item(BaseModel):
    name: str
    colour: Colour = Colour.RED
    day: date | None = None
    parts: dict[str, Part] = {}


class Store(BaseModel):
    items: dict[str, Item]


def shelf() -> dict[str, Item]:
    return {name: Item(name=name, parts={"x": Part(price=number)}) for number, name in enumerate("abc")}


def table(shared: dict[str, Item] | None = None) -> tuple[Records, Sharing]:
    sharing = Sharing()
    return Records(shelf() if shared is None else shared, sharing), sharing


def test_own_copy_equals_a_deep_copy_and_shares_nothing_that_changes() -> None:
    item = Item(name="a", colour=Colour.BLUE, day=date(2025, 2, 25), parts={"x": Part(price=1, seen=["s"])})
    twin = own_copy(item)
    assert twin == copy.deepcopy(item)
    assert twin.model_fields_set == item.model_fields_set
    assert twin.colour is Colour.BLUE
    twin.parts["x"].seen.append("t")
    twin.parts["y"] = Part(price=2)
    twin.name = "b"
    assert item == Item(name="a", colour=Colour.BLUE, day=date(2025, 2, 25), parts={"x": Part(price=1, seen=["s"])})


CHANGES: dict[str, Callable[[Records], object]] = {
    "getitem": lambda records: setattr(records["a"], "name", "z"),
    "get": lambda records: setattr(records.get("a"), "name", "z"),
    "values": lambda records: [setattr(item, "name", "z") for item in records.values()],
    "items": lambda records: [item.parts.clear() for _, item in records.items()],
    "setitem": lambda records: records.__setitem__("d", Item(name="d")),
    "delitem": lambda records: records.__delitem__("a"),
    "pop": lambda records: records.pop("a"),
    "popitem": lambda records: records.popitem(),
    "clear": lambda records: records.clear(),
    "update": lambda records: records.update({"a": Item(name="z")}, d=Item(name="d")),
    "ior": lambda records: records.__ior__({"a": Item(name="z")}),
    "setdefault": lambda records: setattr(records.setdefault("a", None), "name", "z"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_table_leaves_the_shared_records_alone(change: str) -> None:
    shared = shelf()
    records, _ = table(shared)
    CHANGES[change](records)
    assert shared == shelf()
    plain = shelf()
    CHANGES[change](plain)  # type: ignore[arg-type]
    assert Store.model_construct(items=records).model_dump() == Store.model_construct(items=plain).model_dump()
    assert not same_records({"items": records}, changes({"items": table()[0]}))
    again, _ = table()
    CHANGES[change](again)
    assert same_records({"items": again}, changes({"items": records}))


def test_a_table_that_is_read_while_sharing_copies_nothing() -> None:
    shared = shelf()
    records, sharing = table(shared)
    sharing.on = True
    assert records["a"] is shared["a"]
    assert records.get("b") is shared["b"]
    assert records.get("nothing") is None
    assert list(records.values()) == list(shared.values())
    assert dict(records.items())["c"] is shared["c"]
    assert (len(records), "a" in records, "z" in records, list(records)) == (3, True, False, ["a", "b", "c"])
    assert records.touched == set()
    sharing.on = False
    mine = records["a"]
    assert mine is not shared["a"] and records["a"] is mine
    sharing.on = True
    assert records["a"] is mine, "what the session owns is what it reads"
    assert records.touched == {"a"}


def test_missing_records_are_errors_as_in_a_dict() -> None:
    records, _ = table()
    with pytest.raises(KeyError):
        records["z"]
    with pytest.raises(KeyError):
        records.pop("z")
    with pytest.raises(KeyError):
        del records["z"]
    assert records.pop("z", 7) == 7
    assert records.touched == set()


def test_records_touched_on_one_side_only_are_compared_with_the_shared_ones() -> None:
    one, _ = table()
    other, _ = table()
    _ = one["a"]  # touched, and as it was
    assert same_records({"items": one}, changes({"items": other}))
    one["a"].parts["x"].price = 9
    assert not same_records({"items": one}, changes({"items": other}))
    assert not same_records({"items": other}, changes({"items": one}))
    del other["b"]
    assert changes({"items": other}) == {("items", "b"): None}
    assert not same_records({"items": one}, changes({"items": other}))


def test_fingerprints_tell_what_the_official_hash_tells() -> None:
    whole, real = Part.model_construct(price=1, seen=[]), Part.model_construct(price=1.0, seen=[])
    assert whole == real
    assert fingerprint(whole) != fingerprint(real), "the official hash is one of text: 1 is not 1.0"
    item = Item(name="a", day=date(2025, 2, 25))
    assert json.loads(fingerprint(item))["day"] == "2025-02-25"
