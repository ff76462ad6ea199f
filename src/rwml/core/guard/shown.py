"""Text from elsewhere as it may be shown and kept: without the keys of this process, and without terminal escapes."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

from rwml.core.text import printable

PLACEHOLDERS = ("", "empty", "none", "null", "dummy", "unused", "no-key", "placeholder")
"""What people write as the key of a server that asks for none; it is no secret."""
SHORTEST_SECRET = 6
_SECRETS: dict[str, str] = {}
_SPACES = re.compile(r"[\t\n\r\x0b\x0c]")


def is_placeholder(value: str) -> bool:
    """Whether the value means "no key"."""
    return value.strip().lower() in PLACEHOLDERS


def remember_secret(name: str, value: str) -> None:
    """From now on, `without_secrets` writes `[NAME]` for the value, for as long as the process lives.

    A placeholder, and a value of fewer than `SHORTEST_SECRET` characters, is left alone: it may be a word of any text.
    """
    if len(value) < SHORTEST_SECRET or is_placeholder(value):
        return
    escaped = json.dumps(value)[1:-1]
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    for form in (value, quote(value, safe=""), escaped, escaped.replace("/", r"\/"), encoded):
        _SECRETS[form] = name


def without_secrets(text: str) -> str:
    """The text with `[NAME]` instead of every remembered secret, whatever the case of its letters."""
    lower = text.lower() if _SECRETS else ""
    for value in sorted(_SECRETS, key=len, reverse=True):
        if value.lower() in lower:
            mark = f"[{_SECRETS[value]}]"
            text = re.sub(re.escape(value), lambda _, mark=mark: mark, text, flags=re.IGNORECASE)  # type: ignore[misc]
    return text


def shown(text: str, limit: int | None = None) -> str:
    """The text in one line for a message: no secret, no control character, and no more than `limit` characters.

    Secrets go first: a cut through one of them would leave a part of it. White space becomes a blank, and every other
    control character its escape (`\\x1b`).
    """
    clean = printable(_SPACES.sub(" ", without_secrets(text if limit is None else text[: 64 * limit])))
    return clean if limit is None else clean[:limit]
