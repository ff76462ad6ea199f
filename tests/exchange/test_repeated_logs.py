"""Conversations that begin others."""

from __future__ import annotations

from rwml.exchange.messages import Message
from rwml.exchange.repeated_logs import Beginnings, chain, statements

A, B, C = Message("user", "a"), Message("assistant", "b"), Message("user", "c")


def test_chains_agree_as_far_as_the_messages_do_and_thoughts_do_not_count() -> None:
    whole = chain([A, B, C])
    assert chain([A, B]) == whole[:2]
    assert chain([A, Message("assistant", "b", thought="hm"), C]) == whole
    assert chain([A, Message("assistant", "", thought="hm"), B, C]) == whole
    assert chain([A, C])[1] not in whole
    assert chain([B, A])[1] not in whole
    assert chain([]) == ()


def test_a_later_and_longer_conversation_that_states_the_same_is_found() -> None:
    beginnings, stated = Beginnings(), statements({"success": True, "id": "x"})
    first = beginnings.add(chain([A, B]), stated, "first")
    beginnings.add(chain([A, B, C]), stated, "second")
    third = beginnings.add(chain([A, B]), stated, "third")
    assert beginnings.longer(chain([A, B]), stated, first) == "second"
    assert beginnings.longer(chain([A, B]), (), first) == "second"
    assert beginnings.longer(chain([A, B]), statements({"success": False}), first) is None
    assert beginnings.longer(chain([A, B]), stated, third) is None
    assert beginnings.longer(chain([A, B, C]), stated, first) is None
    assert [beginnings.begins_another(chain(messages)) for messages in ([A], [A, B], [A, B, C], [])] == [
        True, True, False, False
    ]  # fmt: skip
