"""Named things of real texts by hand: ALFWorld's next states, tau2-bench's user messages and tool responses."""

from __future__ import annotations

import pytest

from rwml.rewards.named_things import named_things


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("You arrive at desk 2. On the desk 2, you see a cellphone 1, and a pen 1.", "desk 2/cellphone 1/pen 1"),
        ("You clean the soapbar 1 using the sinkbasin 1.", "soapbar 1/sinkbasin 1"),
        ("Nothing happens.", ""),
        # Sentence-initial capitals, names of people and places, quoted words: nothing with a number or an @.
        ("Sure! My name is Ivan Khan. It says \u201cNo Connection.\u201d in San Francisco. ###TRANSFER###", ""),
        ("Sure! My name is Mei Patel and my zip code is 76165.", "76165"),
        ("Yes, please cancel order #W5481803 for both items.", "w5481803"),
        ("My user ID is sophia_taylor_9065 and my reservation number is PEP4E0.", "sophia_taylor_9065/pep4e0"),
        ("Sure, it\u2019s isabella.lopez3271@example.com.", "isabella.lopez3271@example.com"),
        ("Yes, of course. My phone number is 555-123-2002.", "555-123-2002"),
        ("set to \u201c4G/5G preferred.\u201d", "4g/5g"),
        ('I changed the network mode to "4g_5g_preferred"', "4g_5g_preferred"),
        ("the 17-inch silver one with the 256GB SSD", "17-inch/256gb"),
        ("Yes, update it to Suite 641. My card ending in 7334, please.", "suite 641/7334"),
        ("$23,553 is a lot", "23553"),
        ("1,200.50 or 1200.5 or 1200.0 or 5.5", "1200.5/1200/5.5"),
        ("the flight of May 24, 2024", "may 24/2024"),
        ('{"order_id": "#W1234567", "total": 42.50, "n": 3}', "w1234567/42.5/3"),
        ("The zip 02134 is not 2134.", "zip 02134/2134"),
        ("desk  1, desk\n1, desk: 1", "1"),
        ("Desk 1 and desk 1 and DESK 1", "desk 1"),
        ("mail ada@example.com or bob@example.com.", "ada@example.com/bob@example.com"),
        ("", ""),
    ],
)
def test_named_things_by_hand(text: str, names: str) -> None:
    # "4g/5g" is two names: a slash separates them here as in the text.
    assert named_things(text) == frozenset(filter(None, names.split("/")))


def test_numbers_of_the_same_thing_differ_and_order_does_not() -> None:
    real = named_things("On the desk 2, you see a cellphone 1, and a pen 1.")
    assert named_things("A pen 1 and a cellphone 1 lie on the desk 2.") == real
    assert named_things("On the desk 1, you see a cellphone 1, and a pen 1.") != real
    # The same numbers at other things.
    assert named_things("On the desk 1, you see a cellphone 2, and a pen 1.") != real
    assert named_things("On the desk 2, you see a pen 1.") != real
