"""The words that played and imported tau2 episodes share: names of domains and tasks, and who the user is."""

from __future__ import annotations

import re

_NAME = r"([A-Z][a-z]+(?:[-'][A-Z]?[a-z]+)?(?: [A-Z][a-z]+(?:[-'][A-Z]?[a-z]+)?)*)"
_NAME_ENDS = r"(?=$|[,.]| \(| (?:but|and|in|with|from|living|residing)\b)"  # not: "You are French by birth"
_INTRODUCED = (
    re.compile(rf"\b[Yy]our? name is {_NAME}"),
    re.compile(rf"\b(?:You are|You're) {_NAME}{_NAME_ENDS}"),
    re.compile(rf"\b(?:You are|You're) [^.\n]{{0,200}}?\b(?:called|named) {_NAME}"),
)
_FACTS = (
    ("user id", re.compile(r"(?<![\w.@-])[a-z]+_[a-z]+_\d+(?![\w@])")),
    ("e-mail", re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("phone number", re.compile(r"(?<![\w-])\d{3}-\d{3}-\d{4}(?![\w-])")),
    ("zip code", re.compile(r"(?<![\w#$@.,-])\d{5}(?![\w@-]|[.,]\d)")),
)


def domain_name(domain: str, *, solo: bool) -> str:
    """The domain as tables and task ids show it: `telecom`, or `telecom-solo` if no user takes part."""
    return f"{domain}-solo" if solo else domain


def task_name(domain: str, task_id: str, *, solo: bool) -> str:
    """The id of a task in our records: unique over domains and modes."""
    return f"{domain_name(domain, solo=solo)}/{task_id}"


def identity(known_info: str) -> str:
    """Who the user is, out of what a task says that the user knows: name, user id, e-mail, phone number, zip code.

    A comma-separated list of `fact: value`, each value a part of `known_info`; "" without such facts. Nothing else
    passes: no wish, place, order or reservation, and nothing about the user's manner (RWML: identity, never intent).
    """
    facts = []
    name = next((match[1] for pattern in _INTRODUCED if (match := pattern.search(known_info))), "")
    if name:
        facts.append(f"name: {name}")
    for fact, pattern in _FACTS:
        facts += [f"{fact}: {value}" for value in dict.fromkeys(pattern.findall(known_info))]
    return ", ".join(facts)


def with_identity(text: str, who: str) -> str:
    """An opening with the user's identity behind it, for a world model; once, however often it is called."""
    line = f"About the user: {who}"
    return text if not who or text.endswith(line) else f"{text}\n\n{line}"
