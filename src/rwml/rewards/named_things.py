"""The individual things that a text names: desk 1, #W2378156, 5G, 28243, ada9@example.com.

Embeddings hardly tell "desk 1" from "desk 2". A digit or an @ marks a name: this needs no list of words and serves any
world. Capital letters and quotation marks say too little (docs/concepts/rewards.md).
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\w+(?:[.@:,'-]+\w+)*")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
# "the card ending in 7334" names 7334 and no thing called "in". English words that are never a sort of thing.
_FUNCTION_WORDS = frozenset(
    "a about above after all am an and any are around as at be been before below between but by can did do does for "
    "from had has have i in into is it its just like most my no nor not of off on only onto or other our out over per "
    "plus see so some than that the their then there these they this those through to under until up was we were "
    "when which who will with you your".split()
)


def named_things(text: str) -> frozenset[str]:
    """Lowercase names in the text.

    A word right before a number is one thing with it ("mug 3"), a number after anything else stands alone ("28243";
    "1,200.50" and "1200.5" are the same), and any other run of letters and digits with a digit or an @ in it is an
    identifier, the signs . @ : , ' - within it included.
    """
    names = set()
    before, end = "", 0
    for match in _TOKEN.finditer(text):
        token = match[0].lower()
        if _NUMBER.fullmatch(token):
            number = _plain(token)
            joined = before and text[end : match.start()] == " "
            names.add(f"{before} {number}" if joined else number)
        elif "@" in token or any(sign.isdecimal() for sign in token):
            names.add(token)
        before = token if _WORD.fullmatch(token) and token not in _FUNCTION_WORDS else ""
        end = match.end()
    return frozenset(names)


def _plain(number: str) -> str:
    """Without thousands separators and trailing zeros. Leading zeros stay: a zip code is not a quantity."""
    number = number.replace(",", "")
    return number.rstrip("0").rstrip(".") if "." in number else number
