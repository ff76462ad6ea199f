"""Logs of requests that were written down one by one, each with all of the conversation before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rwml.exchange.messages import Message


def chain(messages: Sequence[Message]) -> tuple[bytes, ...]:
    """A digest of each beginning of a conversation, from its first message alone to the whole.

    Two conversations begin alike as far as their digests agree. Thoughts do not count: later requests lack them.
    """
    digests: list[bytes] = []
    for message in messages:
        calls = [(call.id, call.action or call.text) for call in message.calls]
        if not message.text and not calls:
            continue
        said = repr((message.role, message.text, calls, message.call_id)).encode("utf-8", "surrogatepass")
        digests.append(hashlib.sha256((digests[-1] if digests else b"") + said).digest()[:16])
    return tuple(digests)


STATEMENTS = ("task", "split", "model", "success", "reward")


def statements(record: object) -> tuple[tuple[str, str], ...]:
    """What a record says about its play. A beginning that says something else than the longer log is its own play."""
    if not isinstance(record, dict):
        return ()
    return tuple((key, repr(record[key])) for key in STATEMENTS if record.get(key) is not None)


class Beginnings:
    """The conversations of an import, in their order, by their chains."""

    def __init__(self) -> None:
        self._made = 0
        self._longer: dict[bytes, dict[tuple[tuple[str, str], ...], tuple[int, str]]] = {}

    def add(self, digests: Sequence[bytes], stated: tuple[tuple[str, str], ...], name: str) -> int:
        """Note a conversation, what it states, and what it is called; returns its number."""
        self._made += 1
        for digest in digests[:-1]:
            self._longer.setdefault(digest, {})[stated] = (self._made, name)
        return self._made

    def begins_another(self, digests: Sequence[bytes]) -> bool:
        """Whether any conversation begins with all of this one and has more."""
        return bool(digests) and digests[-1] in self._longer

    def longer(self, digests: Sequence[bytes], stated: tuple[tuple[str, str], ...], number: int) -> str | None:
        """The name of a later conversation that begins with all of this one, has more, and states what this one states;
        None without one. A shorter log after a longer one is not a request on its way: it is a play of its own."""
        found = self._longer.get(digests[-1], {}) if digests else {}
        later = [(at, name) for theirs, (at, name) in found.items() if at > number and set(stated) <= set(theirs)]
        return max(later)[1] if later else None
