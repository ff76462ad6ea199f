"""What a server sent back, read within bounds: a body of limited size, and the answers in it or their errors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from rwml.core.guard.shown import shown, without_secrets

LARGEST_BODY = 8_000_000
"""Bytes of a body, as it is sent and as it is after decompression: some hundred times what 4,096 tokens need."""
LARGEST_COUNT = 10**9
LONGEST_REASON = 100
BODY_SHOWN = 300
ENCODINGS = "gzip, deflate"
"""What a request says that it can read: both have bounds in zlib."""
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


class BodyError(Exception):
    """A body that is not read to its end, and why."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One reply, or the reason why it is missing. finish_reason: the server's own word ("stop", "length", ...), empty
    on error. error: empty if the request succeeded. attempts: requests made for it. Tokens are the server's counts for
    the whole request (0 if the server gives no counts).

    Texts are Unicode that any file can hold, and none holds a key of this process.
    """

    text: str
    finish_reason: str
    error: str
    attempts: int
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut at max_tokens."""
        return self.finish_reason == "length"


async def read_body(response: httpx.Response, limit: int = LARGEST_BODY) -> bytes:
    """The body, decompressed. BodyError beyond `limit` bytes, in an unknown encoding, and for broken compression."""
    inflate = _inflater(response.headers.get("content-encoding", ""))
    body, received = bytearray(), 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        body += inflate(chunk, limit + 1 - len(body))
        if max(received, len(body)) > limit:
            raise BodyError(f"the body is longer than {limit:,} bytes")
    inflate(b"", 1)
    return bytes(body)


def _inflater(encoding: str) -> Callable[[bytes, int], bytes]:
    """Decompresses chunk by chunk, at most so many bytes; an empty chunk asks whether the end was reached."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda chunk, _: chunk
    if name not in ("gzip", "x-gzip", "deflate"):
        raise BodyError(f"the body is in an encoding that was not asked for ({shown(name, 40)})")
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)

    def inflate(chunk: bytes, limit: int) -> bytes:
        if not chunk and not stream.eof:
            raise BodyError(f"the body is broken {name}: it ends too early")
        try:
            return b"" if stream.eof else stream.decompress(chunk, limit)
        except zlib.error as problem:
            raise BodyError(f"the body is broken {name} ({problem})") from None

    return inflate


def body_shown(body: bytes) -> str:
    """The head of a body for a message. JSON is shown decoded: escapes of its own would hide a key."""
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body[: 64 * BODY_SHOWN].decode(errors="replace")
    return shown(text, BODY_SHOWN)


def read_answers(body: bytes, n: int, attempts: int) -> list[ChatReply]:
    """The n answers in a body; each that is missing or malformed is an answer with an error."""

    @cache
    def head() -> str:
        return body_shown(body)

    def failed(why: str) -> ChatReply:
        return ChatReply("", "", f"not a chat completion ({shown(why)}): {head()}", attempts)

    try:
        choices, counts = _choices_and_counts(json.loads(body))
    except (ValueError, RecursionError) as problem:
        named = "" if type(problem) is ValueError else f"{type(problem).__name__}: "
        return [failed(f"{named}{problem}")] * n
    answers = []
    for choice in choices[:n]:
        try:
            answers.append(ChatReply(*_text_and_reason(choice), "", attempts, *counts))
        except ValueError as problem:
            answers.append(failed(str(problem)))
    missing = ChatReply("", "", f"the server gave {len(answers)} of {n} answers", attempts)
    return answers + [missing] * (n - len(answers))


def _choices_and_counts(whole: Any) -> tuple[list[Any], tuple[int, int]]:
    if not isinstance(whole, dict) or not isinstance(whole.get("choices"), list):
        raise ValueError("no list of choices")
    usage = whole.get("usage") or {}
    if not isinstance(usage, dict):
        raise ValueError("usage is no object")
    prompt, completion = (_count(key, usage.get(key)) for key in ("prompt_tokens", "completion_tokens"))
    return whole["choices"], (prompt, completion)


def _count(key: str, value: Any) -> int:
    if value is None:
        return 0
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= LARGEST_COUNT or value != int(value):  # NaN is in no range
        raise ValueError(f"usage.{key} is no number of tokens")
    return int(value)


def _text_and_reason(choice: Any) -> tuple[str, str]:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or "content" not in message:
        raise ValueError("a choice without a message")
    text, reason = message["content"], choice.get("finish_reason")
    for name, value in (("content", text), ("finish_reason", reason)):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} is no text")
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} holds characters that are no Unicode") from None
    return without_secrets(text or ""), without_secrets(reason or "")[:LONGEST_REASON]
