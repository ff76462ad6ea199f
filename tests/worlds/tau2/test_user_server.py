"""Where a user model's requests go, with which key, and what is made of its words. Nothing official is needed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.guard.trust import Server, allow
from rwml.worlds.by_name import get_world, world_of
from rwml.worlds.tau2.user_server import request_arguments, said, server_of, within

HERE = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("model", "arguments", "server"),
    [
        ("openai/qwen", {"api_base": HERE}, Server("http", "127.0.0.1", "8000", "")),
        ("openai/qwen", {"api_base": HERE, "api_key_env": "MINE"}, Server("http", "127.0.0.1", "8000", "MINE")),
        ("openai/gpt-x", {}, Server("https", "api.openai.com", "", "OPENAI_API_KEY")),
        ("gpt-x", {}, Server("https", "api.openai.com", "", "OPENAI_API_KEY")),
        ("anthropic/c", {}, Server("https", "api.anthropic.com", "", "ANTHROPIC_API_KEY")),
        ("anthropic/c", {"api_base": "https://evil.org"}, Server("https", "evil.org", "", "ANTHROPIC_API_KEY")),
        ("vertex_ai/g", {"api_base": "https://evil.org"}, Server("https", "evil.org", "", "VERTEX_AI_API_KEY")),
        ("bedrock/x", {}, Server("https", "bedrock", "", "")),
        ("openai/gpt-x", {"api_key_env": "AWS_KEY"}, Server("https", "api.openai.com", "", "AWS_KEY")),
    ],
)
def test_who_is_asked_with_which_key(model: str, arguments: dict[str, Any], server: Server) -> None:
    assert server_of(model, arguments) == server


def test_a_key_of_the_environment_goes_nowhere_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a key of ours the library would take OPENAI_API_KEY, wherever api_base is."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-person")
    monkeypatch.setenv("MINE", "the-key-of-mine")
    assert request_arguments("openai/q", {"api_base": HERE, "temperature": 0.5}) == {
        "api_base": HERE, "temperature": 0.5, "api_key": "none", "timeout": 600.0,
    }  # fmt: skip
    assert request_arguments("openai/q", {"api_base": HERE, "api_key": "none"})["api_key"] == "none"
    assert capsys.readouterr().err == ""
    given = request_arguments("openai/q", {"api_base": HERE, "api_key_env": "MINE", "timeout": 5})
    assert given == {"api_base": HERE, "api_key": "the-key-of-mine", "timeout": 5}
    said_once = "user model openai/q: requests go to http://127.0.0.1:8000, with the key in MINE\n"
    assert capsys.readouterr().err == said_once
    assert said("the-key-of-mine is yours") == "[MINE] is yours"


@pytest.mark.parametrize("key", ["vertex_credentials", "callbacks", "azure_ad_token", "custom_llm_provider", "api_bse"])
def test_other_arguments_never_reach_the_library(key: str) -> None:
    with pytest.raises(RwmlError, match=f"user_args has no argument '{key}'"):
        request_arguments("openai/q", {key: "oidc/file/etc/passwd"})


def test_a_recipes_world_asks_whom_the_user_allowed() -> None:
    def options(**arguments: str) -> dict[str, Any]:
        return {"domains": ["retail"], "solo": False, "user": "openai/q", "user_args": arguments}

    assert world_of("tau2", options(api_base=HERE)).name == "tau2"
    assert world_of("tau2", options()).name == "tau2"
    for given, word in (
        ({"api_base": "http://far.org/v1"}, "--allow-host far.org"),
        ({"api_base": HERE, "api_key_env": "HOME"}, "--allow-key HOME@127.0.0.1:8000"),
        ({"api_key_env": "AWS_KEY"}, "--allow-key AWS_KEY@api.openai.com"),
    ):
        with pytest.raises(RwmlError, match="the world tau2 would send") as error:
            world_of("tau2", options(**given))
        assert word in error.value.fix
        assert get_world("tau2", **options(**given)).name == "tau2", "by hand"
    allow(hosts=["far.org"])
    assert world_of("tau2", options(api_base="http://far.org/v1")).name == "tau2"


@pytest.mark.parametrize(("content", "why"), [(["a"], "list"), (3, "int"), ({}, "dict"), ("a \ud83d", "no Unicode")])
def test_words_that_are_none_are_a_failure(content: Any, why: str) -> None:
    with pytest.raises(RuntimeError, match=why):
        said(content)
    assert (said(None), said("yes")) == ("", "yes")


def test_a_reply_has_a_limit_of_time_and_its_failure_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE_TOO", "the-second-key")
    request_arguments("openai/q", {"api_base": HERE, "api_key_env": "MINE_TOO"})
    never = threading.Event()
    with pytest.raises(RuntimeError, match=r"did not answer within 0.05 s"):
        within(0.05, lambda: never.wait(60))
    never.set()
    assert within(60, lambda: "said") == "said"
    with pytest.raises(RuntimeError, match=r"^ValueError: no such key: \[MINE_TOO\] \\x1b\[0m$"):
        within(60, lambda: _raise("no such key: the-second-key \x1b[0m"))


def _raise(text: str) -> None:
    raise ValueError(text)
