"""Names of tasks, and the user's identity over every official task."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rwml.worlds.tau2.wording import identity, task_name, with_identity

VALUES = {
    "name": r"[A-Z][a-z]+( [A-Z][a-z]+)?",
    "user id": r"[a-z]+_[a-z]+_\d{4}",
    "e-mail": r"[a-z.\d]+@example\.com",
    "phone number": r"\d{3}-\d{3}-\d{4}",
    "zip code": r"\d{5}",
}
# Names that only a first name is known of, or that a task tells otherwise than "You are NAME" and "Your name is NAME".
IDENTITIES = {
    "You are an interesting guy called Noah Patel, living in the Big Apple in 10108.": (
        "name: Noah Patel, zip code: 10108"
    ),
    "You are Lucas (lucas_santos_6600), you live in Denver CO 80239, and your daughter lives in Chicago.": (
        "name: Lucas, user id: lucas_santos_6600, zip code: 80239"
    ),
    "You are user noah_ito_3850 living in Seattle WA 98187. Your name is Noah but you go by NoNo.": (
        "name: Noah, user id: noah_ito_3850, zip code: 98187"
    ),
    "Your user id is 'daiki_muller_1116'.": "user id: daiki_muller_1116",
    "You are John Smith with phone number 555-123-2002. You are currently abroad in France.": (
        "name: John Smith, phone number: 555-123-2002"
    ),
    "You are French by birth and your English is not perfect.": "",
    "Your friends name is Ivan Smith.\nYour reservation id is 3RK2T9, order #W2378156, flight HAT170, for $12345.": "",
    "You live at 445 Maple Drive, Suite 394, and want the item 1434748144 of 12345-6 kind.": "",
    "": "",
}


def test_names_of_tasks_keep_the_modes_apart() -> None:
    assert task_name("telecom", "7", solo=True) == "telecom-solo/7"
    assert task_name("telecom", "7", solo=False) == "telecom/7"


@pytest.mark.parametrize(("known_info", "who"), IDENTITIES.items())
def test_who_the_user_is(known_info: str, who: str) -> None:
    assert identity(known_info) == who


def test_the_identity_stands_behind_the_opening_once() -> None:
    once = with_identity("Policy.", "name: Mia Li")
    assert once == "Policy.\n\nAbout the user: name: Mia Li"
    assert with_identity(once, "name: Mia Li") == once
    assert with_identity("Policy.", "") == "Policy."


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _facts(who: str) -> list[tuple[str, str]]:
    return [(fact.split(": ", 1)[0], fact.split(": ", 1)[1]) for fact in who.split(", ")]


def test_of_all_official_tasks_nothing_but_the_identity_passes(tau2_data: Path) -> None:
    seen = 0
    for domain in ("airline", "retail", "telecom"):
        folder = tau2_data / "tau2" / "domains" / domain
        base = set(_load(folder / "split_tasks.json")["base"])
        people = list(_load(folder / "db.json")["users"].values()) if domain != "telecom" else []
        names = {f"{p['name']['first_name']} {p['name']['last_name']}" for p in people} | {"John Smith"}
        first_names = {name.split()[0] for name in names}
        for task in _load(folder / "tasks.json"):
            known_info = task["user_scenario"]["instructions"]["known_info"]
            facts = _facts(identity(known_info))
            for fact, value in facts:
                assert re.fullmatch(VALUES[fact], value), (task["id"], fact, value)
                assert value in known_info
                if fact == "name":
                    assert value in names or value in first_names, (task["id"], value)
            assert {fact for fact, _ in facts} & {"name", "user id"}, task["id"]
            seen += task["id"] in base
    assert seen == 278


def test_all_identifying_facts_of_the_base_tasks_are_found(tau2_data: Path) -> None:
    found: dict[str, int] = {}
    for domain in ("airline", "retail"):
        for task in _load(tau2_data / "tau2" / "domains" / domain / "tasks.json"):
            known_info = task["user_scenario"]["instructions"]["known_info"]
            facts = _facts(identity(known_info))
            assert known_info.count("@") == sum(fact == "e-mail" for fact, _ in facts)
            assert len(re.findall(r"[a-z]_\d{4}\b", known_info)) == sum(fact == "user id" for fact, _ in facts)
            for fact, _ in facts:
                found[fact] = found.get(fact, 0) + 1
    assert found["user id"] >= 50
    assert found["zip code"] + found["e-mail"] >= 114
