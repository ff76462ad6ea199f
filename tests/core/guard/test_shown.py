"""Text from elsewhere in messages: keys are covered in every form, and escapes are words."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from rwml.core.errors import RwmlError
from rwml.core.guard.shown import is_placeholder, remember_secret, shown, without_secrets

KEY = 'tEst-k3y/with+all"sorts\\of==signs'
remember_secret("TEST_SHOWN_KEY", KEY)


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY.upper(),
        KEY.lower(),
        quote(KEY, safe=""),
        json.dumps(KEY)[1:-1],
        json.dumps(KEY)[1:-1].replace("/", r"\/"),
        base64.b64encode(KEY.encode()).decode(),
        f"{KEY}{KEY}",
    ],
)
def test_a_key_is_covered_in_every_form(form: str) -> None:
    covered = without_secrets(f"before {form} after")
    assert covered.startswith("before [TEST_SHOWN_KEY]")
    assert covered.endswith(" after")
    assert "k3y" not in covered.lower()
    assert form not in str(RwmlError(form, f"why {form}", form))


def test_what_is_no_key_stays() -> None:
    for value in ("", "none", "EMPTY", "dummy", "short"):
        remember_secret("TEST_SHOWN_NONE", value)
    text = "none of the dummy shelves is EMPTY, in short"
    assert without_secrets(text) == text
    assert [is_placeholder(value) for value in ("none", " EMPTY ", "", "sk-live")] == [True, True, True, False]


def test_a_message_is_one_line_of_printable_text() -> None:
    assert shown("a\tb\r\nc") == "a b  c"
    assert shown("\x1b[31mred\x9b0m\x07") == "\\x1b[31mred\\x9b0m\\x07"
    assert shown("left\u202eright \ud83d") == "left\\u202eright \\ud83d"
    assert shown("für 東京 🙂") == "für 東京 🙂"


def test_a_key_is_covered_before_the_text_is_cut() -> None:
    cut = shown("x" * 95 + KEY, 100)
    assert cut == "x" * 95 + "[TEST"
