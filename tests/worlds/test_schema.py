"""Masking by hand, and on every tool response of the real simulations."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from rwml.worlds.schema import mask_response

S = {"type": "string"}
I = {"type": "integer"}  # noqa: E741
N = {"type": "number"}


def obj(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def table(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def either(*schemas: Any) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def masked(value: Any) -> Any:
    text = mask_response(json.dumps(value))
    assert "\n" not in text
    return json.loads(text)


def test_half_a_character_in_a_key_stays_an_escape() -> None:
    schema = mask_response(r'{"a\ud83d": {"\udc80": 1}, "\ud83d\ude00": "x"}')
    schema.encode()
    assert [key in schema for key in (r'"a\ud83d": {', r'"\udc80": {', '"😀": {')] == [True] * 3
    assert json.loads(schema) == obj(**{"a\ud83d": obj(**{"\udc80": I}), "😀": S})


def test_the_text_of_a_schema() -> None:
    response = '{"status": "paid", "items": [{"price": 3, "gift": true}], "note": null, "total_due": 3.5}'
    assert mask_response(response) == (
        '{"type": "object", "properties": {"items": {"type": "array", "items": {"type": "object", "properties": '
        '{"gift": {"type": "boolean"}, "price": {"type": "integer"}}}}, "note": {"type": "null"}, '
        '"status": {"type": "string"}, "total_due": {"type": "number"}}}'
    )
    assert mask_response("{}") == '{"type": "object", "properties": {}}'
    assert mask_response("[]") == '{"type": "array", "items": {}}'
    assert mask_response('{"größe": 1}') == '{"type": "object", "properties": {"größe": {"type": "integer"}}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Transfer successful",
        "Error: Order not found",
        "  two lines,\n  with white space \n",
        "12.5",
        "true",
        "null",
        '"abc"',
        "mia_garcia_4516",
        "[1] is the first",
        '{"a": 1} and more',
        '{"a": 1',
        "{'a': 1}",
        "VPN is ON. Details: {'protocol': 'OpenVPN'}",
        '[1, 2] [3]\n{"a": 1} {"b": 2}',
    ],
)
def test_what_is_no_json_object_or_array_passes_unchanged(text: str) -> None:
    assert mask_response(text) == text


def test_what_is_nested_too_deep_to_read_passes_unchanged() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert mask_response(deep) == deep


def test_responses_joined_by_newlines_are_masked_one_by_one() -> None:
    a, b = (
        '{"type": "object", "properties": {"a": {"type": "integer"}}}',
        '{"type": "array", "items": {"type": "string"}}',
    )
    assert mask_response('{"a": 1}\n["x", "y"]') == f"{a}\n{b}"
    assert (
        mask_response('Transfer successful\n{"a": 2}\nError: no\n["z"]') == f"Transfer successful\n{a}\nError: no\n{b}"
    )
    pretty = json.dumps({"a": 1}, indent=2)
    assert mask_response(f"{pretty}\n{pretty}\n12.5") == f"{a}\n{a}\n12.5"
    assert mask_response(f"\n  {pretty} \n") == a


def test_elements_of_an_array_are_merged() -> None:
    assert masked([1, 2.5, 3]) == array(N)
    assert masked([1, True]) == array(either({"type": "boolean"}, I))
    assert masked(["b", None, "a", None]) == array(either({"type": "null"}, S))
    assert masked([{"a": 1, "b": None}, {"b": "x", "a": 0.5}]) == array(obj(a=N, b=either({"type": "null"}, S)))
    assert masked([{"a": 1}, {"a": 1, "b": 2}, {"a": 2}]) == array(either(obj(a=I, b=I), obj(a=I)))
    assert masked([[], ["x"], [1]]) == array(array(either(I, S)))
    assert masked([{"n": []}, {"n": [2]}]) == array(obj(n=array(I)))
    # Alternatives of alternatives lie flat: 1, "x" and null make three, not two and one.
    assert masked([[1, "x"], [None]]) == array(array(either(I, {"type": "null"}, S)))
    assert masked([{}, {"#W123": 1}]) == array(table(I))


def test_equal_forms_have_equal_text() -> None:
    assert mask_response('[{"a": 1, "b": "x"}, 7]') == mask_response('[8, {"b": "", "a": 0}, {"a": 3, "b": "y"}]')
    assert mask_response('{"#W123": {"a": 1}, "#W456": {"a": 2}}') == mask_response('{"#W999": {"a": 5}}')


def test_keys_that_are_data_are_masked_too() -> None:
    # Rule 1: all keys numbered.
    assert masked({"credit_card_4196779": {"brand": "visa"}}) == table(obj(brand=S))
    assert masked({"#W123": 1.5, "#W124": 2}) == table(N)
    assert masked({"2024-05-15": ["a"], "2024-05-16": []}) == table(array(S))
    assert masked({"1": "a", "2": "b"}) == table(S)
    # Rule 2: each value names its key again.
    assert masked({"bob": {"user_id": "bob", "age": 3}, "eve": {"user_id": "eve"}}) == table(
        either(obj(age=I, user_id=S), obj(user_id=S))
    )
    # Rule 3: sixteen keys or more, not all identifiers, of one form.
    shelves = {f"Shelf {letter}": 1 for letter in "ABCDEFGHIJKLMNOP"}
    assert masked(shelves) == table(I)
    assert masked(dict(list(shelves.items())[:15])) == obj(**dict.fromkeys(list(shelves)[:15], I))
    assert masked(shelves | {"Shelf A": "one"})["properties"]["Shelf A"] == S
    columns = {f"column_{letter}": 1 for letter in "abcdefghijklmnopqrst"}
    assert masked(columns) == obj(**dict.fromkeys(columns, I))


def test_names_of_fields_stay() -> None:
    address = {"address1": "1 Main St", "address2": "", "zip": "123"}
    assert masked(address) == obj(address1=S, address2=S, zip=S)
    assert masked({"address1": "", "address2": ""}) == obj(address1=S, address2=S)
    assert masked({"last_4": "8902"}) == obj(last_4=S)
    assert masked({"total": 1, "#W123": 2}) == obj(**{"#W123": I, "total": I})
    assert masked({"paid": {"status": "paid"}}) == obj(paid=obj(status=S))
    assert masked({"battery life": "10 hours", "color": "red"}) == obj(**{"battery life": S, "color": S})


def _responses(folder: Path) -> list[str]:
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    messages = [m for file in files for simulation in file["simulations"] for m in simulation["messages"]]
    return [m["content"] for m in messages if m["role"] == "tool"]


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    if "anyOf" in schema:
        return sum(_fits(value, option) for option in schema["anyOf"]) == 1
    if isinstance(value, dict):
        if "additionalProperties" in schema:
            return all(_fits(inner, schema["additionalProperties"]) for inner in value.values())
        return value.keys() == schema["properties"].keys() and all(
            _fits(inner, schema["properties"][key]) for key, inner in value.items()
        )
    if isinstance(value, list):
        return schema["type"] == "array" and all(_fits(inner, schema["items"]) for inner in value)
    kinds = {None: ("null",), True: ("boolean",), False: ("boolean",)}
    if value is None or isinstance(value, bool):
        return schema["type"] in kinds[value]
    return schema["type"] in {str: ("string",), int: ("integer", "number"), float: ("number",)}[type(value)]


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        keys = chance.sample(list(value), len(value))
        return {key: _shuffled(value[key], chance) for key in keys}
    if isinstance(value, list):
        return [_shuffled(inner, chance) for inner in chance.sample(value, len(value))]
    return value


@pytest.mark.slow
def test_every_real_response(tau2_simulations: Path) -> None:
    texts = _responses(tau2_simulations)
    pairs = [(text, mask_response(text)) for text in texts]
    changed = [(json.loads(text), schema) for text, schema in pairs if schema != text]
    # 148 airline + 299 retail + 2 x (telecom: 656 + 420, 207 + 482) + 626 solo; objects and arrays 124 + 242 + 993.
    assert (len(texts), len(changed)) == (148 + 299 + 656 + 420 + 207 + 482 + 626, 124 + 242 + 993)
    # Payment methods of 54 users and of 4 more whose address changed, variants of 38 products, 2 lists of products.
    assert sum("additionalProperties" in schema for _, schema in changed) == 54 + 4 + 38 + 2
    chance = random.Random(0)
    for value, schema in changed:
        assert _fits(value, json.loads(schema))
        assert mask_response(json.dumps(_shuffled(value, chance))) == schema
    words = {word for _, schema in changed for word in re.findall(r"\w*\d\w*", schema)}
    assert words == {"address1", "address2", "account_number_last_4"}
    # Of 535 different texts, the JSON has 161 forms; more than half are orders, by the options of their items.
    assert (len(set(texts)), len({schema for _, schema in changed})) == (535, 161)


LARGE = {
    "100,000 numbered keys": (json.dumps({f"k{n:06d}": {"a": 1, "b": "x"} for n in range(100_000)}), 200),
    "300 levels": ("[" * 300 + "1" + "]" * 300, 9000),
    "300 levels of maps": ('{"111":' * 300 + "1" + "}" * 300, 15000),
    "objects that all differ": (json.dumps([{"abcdefghij"[n % 10] * (n // 10 + 1): 1} for n in range(1500)]), 250_000),
    "lines that begin like JSON": ("[INFO] started\n{\n" * 50_000, 10**6),
    "strings that never end": ('{"a": "\n' * 50_000, 10**6),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.slow
def test_large_responses_are_masked_in_a_moment(name: str) -> None:
    text, most = LARGE[name]
    begun = time.process_time()
    masked_text = mask_response(text)
    assert time.process_time() - begun < 5
    assert len(masked_text) <= most
    assert (masked_text == text.strip() or masked_text == text) is name.endswith(("like JSON", "never end"))


@pytest.mark.parametrize("size", [4070, *range(4080, 4112), 16_384, 70_000])
@pytest.mark.parametrize("tail", ['"x"', "12345678901234567890", "-1.5e-10", "false", '"\\u00e4"', '{"b": null}'])
def test_a_value_is_found_wherever_it_is_cut(size: int, tail: str) -> None:
    """A value that ends before, at and after the ends of the parts that are read."""
    text = '{"a": "' + "y" * size + '", "c": ' + tail + "}"
    assert mask_response(f"first\n{text}\nlast").split("\n") == [
        "first", json.dumps(obj(a=S, c=masked([json.loads(tail)])["items"])), "last",
    ]  # fmt: skip
    assert mask_response(text[:-1]) == text[:-1]
