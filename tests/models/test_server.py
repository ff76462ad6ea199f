"""The API client against a real HTTP server on loopback."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from fuzz_servers import MODES, Mode, completion, raw_server, sent, violations
from rwml.core.errors import RwmlError
from rwml.models import server as api
from rwml.models.server import ApiModel
from rwml.models.server_reply import ChatReply


class ChatHandler(BaseHTTPRequestHandler):
    """Does what the first word of the last message says; everything else is echoed."""

    protocol_version = "HTTP/1.1"
    seen: Counter[str]
    keys: set[str | None]
    running = 0
    most_running = 0
    lock = threading.Lock()
    three = threading.Barrier(3)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        kind = type(self)
        with kind.lock:
            kind.seen[text] += 1
            kind.running += 1
            kind.most_running = max(kind.most_running, kind.running)
            attempt = kind.seen[text]
        kind.keys.add(self.headers.get("Authorization"))
        if text.startswith("three "):  # answered once three are here: whoever asks fewer at a time gets no answer
            kind.three.wait(timeout=60)
        with kind.lock:
            kind.running -= 1
        self.react(body, text, attempt)

    def react(self, body: dict[str, Any], text: str, attempt: int) -> None:
        word = text.split()[0]
        if word == "busy" and attempt < 3:
            return self.reply(429, {"error": "slow down"}, {"Retry-After": "0"})
        if word == "broken":
            return self.reply(503, {"error": "overloaded"})
        if word == "wrong":
            return self.reply(400, {"error": "context too long"})
        if word == "garbage":
            return self.reply(200, {"nothing": 1})
        if word == "hangup" and attempt == 1:
            self.close_connection = True
            return None
        count = 1 if word == "fewer" else body["n"]
        choices = [
            {
                "message": {"content": f"{body['model']} {body['temperature']} {body['max_tokens']} {text} {i}"},
                "finish_reason": "length" if word == "long" else "stop",
            }
            for i in range(count)
        ]
        return self.reply(200, {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def reply(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Keep the test output quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[ChatHandler]]]:
    monkeypatch.setattr(api, "FIRST_WAIT_S", 0.001)
    handler = type("Handler", (ChatHandler,), {"seen": Counter(), "keys": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}/v1", handler
        http_server.shutdown()
        thread.join()


def ask(model: ApiModel, *texts: str, n: int = 1) -> list[list[ChatReply]]:
    return model.chat([[{"role": "user", "content": text}] for text in texts], 0.5, 11, n)


def test_answers_come_in_order_with_their_counts(server: tuple[str, type[ChatHandler]]) -> None:
    out = ask(ApiModel(server[0], "m"), "one", "long two", n=2)
    assert out == [
        [ChatReply(f"m 0.5 11 one {i}", "stop", "", 1, 7, 3) for i in range(2)],
        [ChatReply(f"m 0.5 11 long two {i}", "length", "", 1, 7, 3) for i in range(2)],
    ]
    assert [answer.truncated for answer in (*out[0], *out[1])] == [False, False, True, True]


def test_a_failed_request_is_an_answer_and_loses_no_other(server: tuple[str, type[ChatHandler]]) -> None:
    url, handler = server
    texts = ("fine", "busy", "broken", "wrong", "garbage", "fewer", "hangup")
    out = dict(zip(texts, ask(ApiModel(url, "m", retries=3), *texts, n=2), strict=True))
    assert [answer.error for answer in out["fine"]] == ["", ""]
    assert [(answer.error, answer.attempts) for answer in out["busy"]] == [("", 3)] * 2
    assert [answer.attempts for answer in out["broken"]] == [4, 4]
    assert "HTTP 503" in out["broken"][0].error
    assert "overloaded" in out["broken"][0].error
    assert [answer.attempts for answer in out["wrong"]] == [1, 1]
    assert "context too long" in out["wrong"][1].error
    assert "not a chat completion" in out["garbage"][0].error
    assert [answer.error for answer in out["fewer"]] == ["", "the server gave 1 of 2 answers"]
    assert [(answer.error, answer.attempts) for answer in out["hangup"]] == [("", 2)] * 2
    assert handler.seen == {"fine": 1, "busy": 3, "broken": 4, "wrong": 1, "garbage": 1, "fewer": 1, "hangup": 2}


def test_no_more_requests_at_once_than_allowed(server: tuple[str, type[ChatHandler]]) -> None:
    url, handler = server
    out = ask(ApiModel(url, "m", max_concurrency=3), *(f"three {i}" for i in range(9)))
    assert [group[0].text for group in out] == [f"m 0.5 11 three {i} 0" for i in range(9)]
    assert handler.most_running == 3


def test_the_key_comes_from_the_environment(
    server: tuple[str, type[ChatHandler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    monkeypatch.setenv("RWML_TEST_KEY", "s3cret")
    ask(ApiModel(url, "m", api_key_env="RWML_TEST_KEY"), "hello")
    assert handler.keys == {"Bearer s3cret"}
    monkeypatch.delenv("RWML_TEST_KEY")
    with pytest.raises(RwmlError, match="'RWML_TEST_KEY' is not set"):
        ApiModel(url, "m", api_key_env="RWML_TEST_KEY")


def test_a_server_that_cannot_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "FIRST_WAIT_S", 0.001)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(RwmlError, match="no connection to http://127") as caught:
            ask(ApiModel(url, "m", retries=1), *(f"{i}" for i in range(5)))
    assert "start the server" in caught.value.fix
    with pytest.raises(RwmlError, match="1:1/v1' is no URL"):
        ApiModel("127.0.0.1:1/v1", "m")


SOME = (
    *("gzip in chunks of a byte", "utf-16", "control characters", "as long as it may be", "deep lists", "gzip bomb"),
    *("content is list", "half of a surrogate pair", "count 1e400 of 5", "count 99999999999 of 400", "half of gzip"),
    *("endless chunks, fast", "body, slowly", "headers, slowly", "103 without end", "reset", "400 that is no text"),
)


@pytest.mark.slow
def test_an_answer_of_any_sort_is_right_or_an_error_and_loses_no_other() -> None:
    assert violations([name for name in MODES if name in SOME]) == []


@pytest.mark.slow
def test_an_answer_of_every_sort() -> None:
    assert len(MODES) >= 100
    assert violations([name for name in MODES if name not in SOME]) == []


def test_a_redirect_is_not_followed() -> None:
    with raw_server() as other:
        there = {"away": Mode(sent(b"", f"Location: {other.url}/chat/completions", status="307 There"))}
        with raw_server(there) as server:
            [[answer]] = ask(ApiModel(server.url, "m", retries=0), "away")
        assert (answer.error[:8], other.asked, server.asked) == ("HTTP 307", [], ["away"])


ECHOED = "k3y-of/a+person=="


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mode]:
    """Servers that repeat the key that they were sent: in an answer, and in errors of several forms."""
    monkeypatch.setenv("RWML_TEST_KEY", ECHOED)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in ECHOED)
    return {
        "in the answer": Mode(sent(completion(f"Bearer {ECHOED}, you said"))),
        "in the reason": Mode(sent(completion(reason="x" * 90 + ECHOED))),
        "in a 401": Mode(sent(f"no such key: {ECHOED}".encode(), status="401 No")),
        "in a 401, cut": Mode(sent(b"x" * 290 + ECHOED.encode(), status="401 No")),
        "in a 401, escaped": Mode(sent(f'{{"error": "{escaped}"}}'.encode(), status="401 No")),
        "in a 401, in capitals": Mode(sent(ECHOED.upper().encode(), status="401 No")),
        "in a 401, for a URL": Mode(sent(quote(ECHOED, safe="").encode(), status="401 No")),
        "in no completion": Mode(sent(json.dumps({"key": ECHOED}).encode())),
    }


def test_a_key_that_a_server_repeats_is_in_no_answer(
    echo: dict[str, Mode], capsys: pytest.CaptureFixture[str]
) -> None:
    with raw_server(echo) as server:
        model = ApiModel(server.url, "m", api_key_env="RWML_TEST_KEY", retries=0)
        answers = dict(zip(echo, (str(group) for group in ask(model, *echo)), strict=True))
        assert server.heads[0].lower().count(f"bearer {ECHOED}".encode()) == 1, "it was sent"
    assert "text='Bearer [RWML_TEST_KEY], you said'" in answers["in the answer"]
    for name, answer in answers.items():
        assert not any(part in answer.lower() for part in ("k3y-of", "of%2fa", "person==", "\\u006b")), name
    assert sum("[RWML_TEST_KEY]" in answer for answer in answers.values()) >= 6
    host = server.url.removesuffix("/v1")
    assert capsys.readouterr().err == f"m: requests go to {host}, with the key in RWML_TEST_KEY\n"


@pytest.mark.parametrize("value", ["a\nb-secret", "sch\u00fcssel-secret", "a\x00b-secret", " \n"])
def test_a_key_that_no_header_takes_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(os, "environ", {"RWML_TEST_KEY": value})
    with pytest.raises(RwmlError, match="'RWML_TEST_KEY'") as error:
        ApiModel("http://127.0.0.1:1/v1", "m", api_key_env="RWML_TEST_KEY")
    assert "secret" not in str(error.value)


def test_a_question_that_is_no_unicode_loses_no_other() -> None:
    with raw_server() as server:
        first, second = ask(ApiModel(server.url, "m", retries=0), "a \ud83d half", "mate")
    assert (first[0].text, second[0].text) == ("", "yes")
    assert first[0].error.startswith("UnicodeEncodeError")
