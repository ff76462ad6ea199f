"""Where the requests of a user model go, with which key, and how long one may take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rwml.core.errors import RwmlError, nearest
from rwml.core.guard.shown import is_placeholder, shown, without_secrets
from rwml.core.guard.trust import KNOWN_KEYS, Server
from rwml.core.progress import note

T = TypeVar("T")
ARGUMENTS = (
    *("api_base", "api_key", "api_key_env", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens"),
    *("stop", "seed", "presence_penalty", "frequency_penalty", "reasoning_effort", "extra_body", "tool_choice"),
    *("timeout", "num_retries", "max_retries"),
)
"""litellm reads many more, and some of them name files, callbacks and credentials."""
COMPATIBLE = ("openai", "hosted_vllm", "lm_studio", "litellm_proxy")
"""Prefixes of a model that is asked as OpenAI's are: with the key that is given here, and no other."""
PROVIDERS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks_ai": "FIREWORKS_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "huggingface": "HF_TOKEN",
    "mistral": "MISTRAL_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "together_ai": "TOGETHER_API_KEY",
    "xai": "XAI_API_KEY",
}
TIMEOUT_S = 600.0
_PLACE = "world.options.user_args.api_base"
_ANNOUNCED: set[Server] = set()


def server_of(model: str, arguments: Mapping[str, Any]) -> Server:
    """Who is asked, and the environment variable whose value is sent. RwmlError for arguments that are not known."""
    for key in arguments:
        if key not in ARGUMENTS:
            raise RwmlError(
                f"world.options.user_args has no argument '{shown(str(key), 100)}'",
                "it would reach the library that asks the user model, where it may name files and credentials",
                nearest(str(key), ARGUMENTS),
            )
    provider, base = _provider(model), str(arguments.get("api_base") or "")
    named = str(arguments.get("api_key_env") or "")
    if base:
        taken = "" if provider in COMPATIBLE else PROVIDERS.get(provider, f"{provider}_API_KEY".upper())
        return Server.of(_PLACE, base, named or taken)
    key = named or PROVIDERS.get(provider, "")
    host = KNOWN_KEYS.get(PROVIDERS.get(provider, ""), provider)
    return Server.of("world.options.user", f"https://{host}", key)


def request_arguments(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What litellm is given with each request; a line on stderr says once where they go. RwmlError: no such key."""
    server = server_of(model, arguments)
    given = {key: value for key, value in arguments.items() if key != "api_key_env"}
    by_hand = str(given.get("api_key") or "")
    if arguments.get("api_key_env"):
        given["api_key"] = server.key()
    elif given.get("api_base") and is_placeholder(by_hand):
        given["api_key"] = "none"  # without a key of ours litellm takes one of the environment
    if server not in _ANNOUNCED and not server.harmless:
        _ANNOUNCED.add(server)
        note(f"user model {shown(model, 100)}: {server.sentence}")
    return {"timeout": TIMEOUT_S, **given}


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns; RuntimeError, without a key in its words, where it raises or takes longer than `seconds`.

    A library's own time limit is between two bytes: a server that sends one now and then would keep us for ever.
    """
    answers: list[T] = []
    problems: list[Exception] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as problem:  # whatever the library and the server raise is a failed reply
            problems.append(problem)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if answers:
        return answers[0]
    if problems:
        raise RuntimeError(shown(f"{type(problems[0]).__name__}: {problems[0]}", 1000)) from None
    raise RuntimeError(f"the user model did not answer within {seconds:g} s")


def said(content: Any) -> str:
    """The words of an answer, without keys; RuntimeError for what is no text that a file can hold."""
    if content is not None and not isinstance(content, str):
        raise RuntimeError(f"the user model's words are no text but {type(content).__name__}")
    try:
        (content or "").encode()
    except UnicodeEncodeError:
        raise RuntimeError("the user model's words hold characters that are no Unicode") from None
    return without_secrets(content or "")


def models_of(user: str | Sequence[str]) -> list[str]:
    """The user models of a world's option `user`."""
    return [user] if isinstance(user, str) else list(user)


def _provider(model: str) -> str:
    prefix, slash, _ = model.partition("/")
    if slash:
        return prefix
    return "openai" if prefix.startswith(("gpt-", "o1", "o3", "o4", "chatgpt")) else prefix
