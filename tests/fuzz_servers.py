"""A server on raw sockets that answers in some ninety ways, sound and broken, and what has to become of each answer.

`violations(names)` asks `ApiModel` each of them beside two sound answers, and says in sentences what went wrong.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rwml.models.server import ApiModel
from rwml.models.server_reply import LARGEST_BODY

Reaction = Callable[[socket.socket], None]
LONGEST_S = 60.0
"""How long a reaction without end lasts, if nobody hangs up."""
MATE = "mate"
LATE = "no whole answer within"


@dataclass(frozen=True)
class Mode:
    """A way to answer. text: the answer that is right; None: an error, which has `error` in it."""

    react: Reaction
    text: str | None = "yes"
    error: str = ""


def completion(content: object = "yes", reason: object = "stop", usage: object = None, **more: object) -> bytes:
    """The body of an answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage, **more}).encode()


def with_usage(count: str) -> bytes:
    """The same with a count of tokens that is written as it is."""
    return completion(usage={"prompt_tokens": "COUNT"}).replace(b'"COUNT"', count.encode())


def sent(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> Reaction:
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return raw("\r\n".join([*lines, "", ""]).encode() + body)


def raw(data: bytes) -> Reaction:
    """These bytes, and the end of the connection."""
    return lambda connection: connection.sendall(data)


def dripped(head: bytes, drop: bytes = b"x", every_s: float = 0.05) -> Reaction:
    """The head, then a drop now and then, without end."""

    def react(connection: socket.socket) -> None:
        connection.sendall(head)
        began = time.monotonic()
        while time.monotonic() - began < LONGEST_S:
            connection.sendall(drop)
            time.sleep(every_s)

    return react


def silent(head: bytes = b"") -> Reaction:
    """The head, then nothing until the other side hangs up."""

    def react(connection: socket.socket) -> None:
        connection.sendall(head)
        connection.settimeout(LONGEST_S)
        with contextlib.suppress(OSError):
            connection.recv(1)

    return react


def reset(connection: socket.socket) -> None:
    """The connection is torn down instead of closed."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n", header: str = "") -> bytes:
    """A response in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{header}\r\n".encode() + body + end


def bomb(wbits: int) -> bytes:
    """A body that is small until it is decompressed: 25 times as long as what is read."""
    stream = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join([*(stream.compress(bytes(LARGEST_BODY)) for _ in range(25)), stream.flush()])


GOOD = completion()
DEEP = b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIP = "Content-Encoding: gzip"


def _sound() -> dict[str, Mode]:
    pieces = [GOOD[at : at + 1] for at in range(len(GOOD))]
    packed = gzip.compress(GOOD)
    twice = GOOD.replace(b'"id": "x"', b'"choices": 1')
    return {
        MATE: Mode(sent(GOOD)),
        "chunks of a byte": Mode(raw(chunked(*pieces))),
        "gzip": Mode(sent(packed, GZIP)),
        "gzip in chunks of a byte": Mode(
            raw(chunked(*(packed[at : at + 1] for at in range(len(packed))), header=f"{GZIP}\r\n"))
        ),
        "x-gzip": Mode(sent(packed, "content-encoding: X-GZIP")),
        "deflate": Mode(sent(zlib.compress(GOOD), "Content-Encoding: deflate")),
        "identity": Mode(sent(GOOD, "Content-Encoding: identity")),
        "no length": Mode(raw(HEAD + b"\r\n" + GOOD)),
        "http 1.0": Mode(raw(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD)),
        "no reason phrase": Mode(sent(GOOD, status="200 ")),
        "201": Mode(sent(GOOD, status="201 Created")),
        "100 first": Mode(lambda c: c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n" + GOOD)),
        "utf-8 with a mark": Mode(sent(b"\xef\xbb\xbf" + GOOD)),
        "utf-16": Mode(sent(GOOD.decode().encode("utf-16"))),
        "white space around": Mode(sent(b" \n" * 5000 + GOOD + b"\n" * 5000)),
        "a megabyte more": Mode(sent(completion(more="x" * 1_000_000))),
        "nothing said": Mode(sent(completion(None)), ""),
        "no reason": Mode(sent(completion(reason=None))),
        "usage is an empty object": Mode(sent(completion(usage={}))),
        "count 7.0": Mode(sent(with_usage("7.0"))),
        "count null": Mode(sent(with_usage("null"))),
        "more than was asked": Mode(sent(completion().replace(b"[{", b'[{"message": {"content": "yes"}}, {'))),
        "a key twice": Mode(sent(twice)),
        "words of many scripts": Mode(sent(completion("für 東京 🙂")), "für 東京 🙂"),
        "a pair of surrogates": Mode(sent(GOOD.replace(b'"yes"', b'"\\ud83d\\ude42"')), "🙂"),
        "control characters": Mode(sent(completion("a\x00b\x1b[31m")), "a\x00b\x1b[31m"),
    }  # fmt: skip


def _wrong_values() -> dict[str, Mode]:
    contents = {"list": ["yes"], "number": 3, "object": {"text": "yes"}, "true": True, "empty list": []}
    reasons = {"list": ["stop"], "number": 1, "object": {}, "false": False}
    counts = ["Infinity", "-Infinity", "NaN", "1e400", "1e23", "-1", "7.5", "true", '"7"', "[1]", "9" * 400, "9" * 5000]
    bodies = {
        "no body": b"",
        "html": b"<html>502</html>",
        "half of it": GOOD[:40],
        "null": b"null",
        "a number": b"17",
        "a text": b'"yes"',
        "a list": b"[" + GOOD + b"]",
        "deep lists": DEEP,
        "deep objects": b'{"a":' * 100_000,
        "a number of 5,000 digits": b'{"choices": ' + b"1" * 5000 + b"}",
        "bytes that are no text": b"\xff\xfe\xfd" + GOOD,
        "choices is an object": b'{"choices": {"0": {"message": {"content": "yes"}}}}',
        "no choices": b'{"id": "x"}',
        "an error with status 200": b'{"error": {"message": "no such model"}}',
        "events": b'data: {"choices": []}\n\ndata: [DONE]\n\n',
        "a choice that is null": b'{"choices": [null]}',
        "a choice that is a text": b'{"choices": ["yes"]}',
        "a message that is null": b'{"choices": [{"message": null}]}',
        "a message that is a list": b'{"choices": [{"message": ["content"]}]}',
        "a message without content": b'{"choices": [{"message": {"role": "assistant"}}]}',
        "usage is a list": completion(usage=[1]),
        "usage is a text": completion(usage="much"),
        "half of a surrogate pair": GOOD.replace(b'"yes"', b'"\\ud83d"'),
        "half of a pair, raw": GOOD.replace(b'"yes"', b'"\xed\xa0\xbd"'),
        "half of a pair as reason": GOOD.replace(b'"stop"', b'"\\udc00"'),
        **{f"content is {name}": completion(value) for name, value in contents.items()},
        **{f"reason is {name}": completion(reason=value) for name, value in reasons.items()},
        **{f"count {count[:12]} of {len(count)}": with_usage(count) for count in counts},
    }
    modes = {name: Mode(sent(body), None, "not a chat completion") for name, body in bodies.items()}
    return modes | {"no choice": Mode(sent(b'{"choices": []}'), None, "gave 0 of 1 answers")}


def _broken_bodies() -> dict[str, Mode]:
    packed, broken, long = gzip.compress(GOOD), "the body is broken gzip", "the body is longer than"
    flipped = packed[:20] + bytes([packed[20] ^ 0xFF]) + packed[21:]
    spread = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    megabyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    return {
        "gzip with a flipped byte": Mode(sent(flipped, GZIP), None, broken),
        "half of gzip": Mode(sent(packed[:30], GZIP), None, broken),
        "empty gzip": Mode(sent(b"", GZIP), None, broken),
        "plain text that is called gzip": Mode(sent(GOOD, GZIP), None, broken),
        "an encoding that was not asked for": Mode(sent(GOOD, "Content-Encoding: br"), None, "not asked for (br)"),
        "gzip twice": Mode(sent(gzip.compress(packed), "Content-Encoding: gzip, gzip"), None, "not asked for"),
        "gzip bomb": Mode(sent(bomb(31), GZIP), None, long),
        "deflate bomb": Mode(sent(bomb(15), "Content-Encoding: deflate"), None, long),
        "one byte too long": Mode(sent(GOOD.ljust(LARGEST_BODY + 1)), None, long),
        "as long as it may be": Mode(sent(GOOD.ljust(LARGEST_BODY))),
        "endless, fast": Mode(dripped(HEAD + b"\r\n", b" " * 0x100000, 0.0), None, long),
        "endless chunks, fast": Mode(dripped(spread, megabyte, 0.0), None, long),
        "endless bytes that are no gzip": Mode(dripped(HEAD + b"Content-Encoding: gzip\r\n\r\n"), None, broken),
        "endless error": Mode(dripped(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 0x100000, 0.0), None, long),
        "a length of a terabyte": Mode(silent(HEAD + b"Content-Length: 1000000000000\r\n\r\n{"), None, LATE),
        "a length below zero": Mode(sent(GOOD, length=-5), None, "ProtocolError"),
        "a length that is no number": Mode(raw(HEAD + b"Content-Length: many\r\n\r\n" + GOOD), None, "ProtocolError"),
        "two lengths": Mode(sent(GOOD, "Content-Length: 3"), None, "ProtocolError"),
        "a length that is too large": Mode(sent(GOOD, length=len(GOOD) + 9), None, "ProtocolError"),
        "a chunk without a size": Mode(raw(spread + b"zz\r\n{}\r\n"), None, "ProtocolError"),
        "chunks without an end": Mode(raw(chunked(GOOD, end=b"")), None, "ProtocolError"),
    }


def _broken_connections() -> dict[str, Mode]:
    late, protocol = LATE, "ProtocolError"
    return {
        "hangs up": Mode(raw(b""), None, protocol),
        "hangs up within the headers": Mode(raw(HEAD), None, protocol),
        "hangs up within the body": Mode(raw(HEAD + b"Content-Length: 50\r\n\r\n{"), None, protocol),
        "reset": Mode(reset, None, "Error"),
        "no http": Mode(raw(b"\x16\x03\x01\x02\x00\x01\x00hello" + b"\n" * 10), None, protocol),
        "status 99": Mode(sent(GOOD, status="99 Odd"), None, "Error"),
        "status that is a word": Mode(sent(GOOD, status="fine"), None, protocol),
        "204": Mode(raw(b"HTTP/1.1 204 No Content\r\n\r\n"), None, "not a chat completion"),
        "302": Mode(sent(b"", "Location: http://127.0.0.1:9/elsewhere", status="302 Found"), None, "HTTP 302"),
        "400 that is no text": Mode(sent(b"\xff\x00\x1b[2J", status="400 Bad"), None, "HTTP 400"),
        "404": Mode(sent(b'{"error": "no model"}', status="404 Not Found"), None, "HTTP 404"),
        "503": Mode(sent(b"busy", status="503 Busy"), None, "HTTP 503"),
        "429 for nan seconds": Mode(sent(b"", "Retry-After: nan", status="429 Later"), None, "HTTP 429"),
        "headers of a megabyte": Mode(raw(HEAD + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n" + GOOD), None, protocol),
        "endless headers, fast": Mode(dripped(HEAD, b"X: y\r\n" * 1000, 0.0), None, protocol),
        "headers, slowly": Mode(dripped(HEAD + b"X: "), None, late),
        "body, slowly": Mode(dripped(HEAD + b"\r\n", b" "), None, late),
        "chunks, slowly": Mode(dripped(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), None, late),
        "gzip, slowly": Mode(
            dripped(HEAD + f"{GZIP}\r\n\r\n".encode() + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff"), None, late
        ),
        "103 without end": Mode(dripped(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), None, late),
        "an error, slowly": Mode(dripped(b"HTTP/1.1 500 No\r\n\r\n"), None, late),
        "silent": Mode(silent(), None, late),
        "silent after the headers": Mode(silent(HEAD + b"Content-Length: 50\r\n\r\n"), None, late),
    }


MODES: dict[str, Mode] = _sound() | _wrong_values() | _broken_bodies() | _broken_connections()
"""All of them by name; the last word of a question chooses one."""


@dataclass
class RawServer:
    """A running server. asked: the names of the modes that were asked for, in order; heads: of the requests."""

    url: str
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def raw_server(extra: dict[str, Mode] | None = None, otherwise: Mode | None = None) -> Iterator[RawServer]:
    """A server on loopback that answers as the last message of a request says.

    extra: modes besides `MODES`. otherwise: for a message that names no mode.
    """
    modes = MODES | (extra or {})
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        server = RawServer(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                head, _, body = _request(connection).partition(b"\r\n\r\n")
                name = json.loads(body)["messages"][-1]["content"]
                server.asked.append(name)
                server.heads.append(head)
                mode = modes.get(name, otherwise)
                assert mode is not None, name
                mode.react(connection)
                if mode.react is not reset:
                    connection.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with contextlib.suppress(OSError):  # the end of the server
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head = data.partition(b"\r\n\r\n")[0]
    [length] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(data) < len(head) + 4 + length:
        data += connection.recv(65536)
    return data


def violations(names: Sequence[str], timeout_s: float = 2.0, slack_s: float = 20.0, at_once: int = 8) -> list[str]:
    """What is wrong with the answers to these modes, each asked between two sound ones, in sentences.

    An attempt at a mode without end may last `timeout_s`; slack_s: what the machine may add, and what others may last.
    at_once: batches in flight.
    """
    with raw_server() as server, ThreadPoolExecutor(at_once) as pool:
        asked = pool.map(lambda name: _asked(server.url, name, timeout_s, slack_s), names)
        return [line for lines in asked for line in lines]


def _asked(url: str, name: str, timeout_s: float, slack_s: float) -> list[str]:
    mode, began = MODES[name], time.monotonic()
    limit_s = timeout_s if mode.error == LATE else slack_s
    model = ApiModel(url, "m", timeout_s=limit_s, retries=0)
    try:
        groups = model.chat([[{"role": "user", "content": word}] for word in (MATE, name, MATE)], 0.0, 9)
    except Exception as error:
        return [f"{name}: the batch is lost: {type(error).__name__}: {error}"]
    seconds = time.monotonic() - began
    first, answer, last = (group[0] for group in groups)
    lines = [f"{name}: a mate is lost: {mate}" for mate in (first, last) if (mate.text, mate.error) != ("yes", "")]
    if seconds > timeout_s + slack_s:
        lines.append(f"{name}: {seconds:.1f} s")
    if mode.text is None and (answer.text or mode.error not in answer.error or not answer.error):
        lines.append(f"{name}: no error with '{mode.error}' in it: {answer}")
    if mode.text is not None and (answer.text, answer.error) != (mode.text, ""):
        lines.append(f"{name}: another answer: {answer}")
    if not all(str(value).isprintable() for value in (answer.error, answer.finish_reason)):
        lines.append(f"{name}: an error that is not printable")
    if not all(type(count) is int and count >= 0 for count in (answer.prompt_tokens, answer.completion_tokens)):
        lines.append(f"{name}: counts {answer.prompt_tokens}, {answer.completion_tokens}")
    return lines
