"""Chat models behind an OpenAI-compatible server (vLLM, llama.cpp, a hosted one): many requests at once, none lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from rwml.core.errors import RwmlError
from rwml.core.recipe.sections import JudgeConfig

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
BODY_SHOWN = 300


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One reply, or the reason why it is missing. finish_reason: the server's own word ("stop", "length", ...), empty
    on error. error: empty if the request succeeded. attempts: requests made for it. Tokens are the server's counts for
    the whole request (0 if the server gives no counts).
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


class _UnreachableError(Exception):
    """No connection, and no request of this batch has had an answer so far."""


class ApiModel:
    """A chat model at base_url (up to and including "/v1").

    api_key_env: name of the environment variable that holds the key, or None for a server without keys;
    max_concurrency: requests in flight; timeout_s: for one attempt; retries: further attempts after 429, 5xx, a timeout
    or a broken connection, each after twice the wait of the one before (or what Retry-After says).

    Raises RwmlError where the variable is not set.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None = None,
        max_concurrency: int = 32,
        timeout_s: float = 120.0,
        retries: int = 5,
    ) -> None:
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.base_url, self.model = base_url, model
        self.max_concurrency, self.timeout_s, self.retries = max_concurrency, timeout_s, retries
        self._headers: dict[str, str] = {}
        if api_key_env:
            key = os.environ.get(api_key_env)
            if not key:
                raise RwmlError(
                    f"the environment variable '{api_key_env}' is not set",
                    f"requests to {base_url} are signed with the key that it holds",
                    f"export {api_key_env}=..., or set api_key_env to nothing for a server without keys",
                )
            self._headers["Authorization"] = f"Bearer {key}"

    @classmethod
    def of(cls, config: JudgeConfig) -> ApiModel:
        """The model of the section [judge]."""
        return cls(config.base_url, config.model, config.api_key_env or None, config.max_concurrency, config.timeout_s)

    def chat(
        self, messages_batch: Sequence[Sequence[Mapping[str, str]]], temperature: float, max_tokens: int, n: int = 1
    ) -> list[list[ChatReply]]:
        """n answers to each conversation: [conversations][n]; failed ones carry their error.

        Raises RwmlError where the server cannot be reached at all.
        """
        bodies = [
            {
                "model": self.model,
                "messages": [dict(message) for message in messages],
                "temperature": temperature,
                "max_tokens": max_tokens,
                "n": n,
            }
            for messages in messages_batch
        ]
        # A notebook already runs an event loop in this thread.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(lambda: asyncio.run(self._all(bodies, n))).result()

    async def _all(self, bodies: Sequence[dict[str, Any]], n: int) -> list[list[ChatReply]]:
        limits = httpx.Limits(max_connections=self.max_concurrency)
        # Waiting for a free connection is not the server's fault, and has no time limit.
        timeout = httpx.Timeout(self.timeout_s, pool=None)
        batch = _Batch()
        gate = asyncio.Semaphore(self.max_concurrency)
        async with httpx.AsyncClient(headers=self._headers, limits=limits, timeout=timeout) as client:
            tasks = [asyncio.create_task(self._one(client, gate, batch, body, n)) for body in bodies]
            try:
                return await asyncio.gather(*tasks)
            except _UnreachableError as error:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise RwmlError(
                    f"no connection to {self.base_url} ({error})",
                    "every answer of this model comes from that server",
                    "start the server, or correct base_url (with http:// or https://, and usually ending in /v1)",
                ) from None

    async def _one(
        self, client: httpx.AsyncClient, gate: asyncio.Semaphore, batch: _Batch, body: dict[str, Any], n: int
    ) -> list[ChatReply]:
        error, attempts = "", 0
        for attempts in range(1, self.retries + 2):
            wait_s = min(FIRST_WAIT_S * 2 ** (attempts - 1), LONGEST_WAIT_S)
            async with gate:
                try:
                    response = await client.post(self.url, json=body)
                except (httpx.UnsupportedProtocol, httpx.InvalidURL) as problem:
                    raise _UnreachableError(f"{type(problem).__name__}: {problem}") from None
                except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
                    error = f"{type(problem).__name__}: {problem}"
                    if attempts > self.retries and not batch.reached:
                        raise _UnreachableError(error) from None
                except httpx.TransportError as problem:
                    error, batch.reached = f"{type(problem).__name__}: {problem}", True
                else:
                    batch.reached = True
                    if response.is_success:
                        return _answers(response, n, attempts)
                    error = f"HTTP {response.status_code}: {response.text[:BODY_SHOWN]}"
                    if response.status_code != 429 and response.status_code < 500:
                        break
                    wait_s = _asked_wait_s(response, wait_s)
            if attempts <= self.retries:
                await asyncio.sleep(wait_s)
        return [ChatReply("", "", error, attempts)] * n


@dataclass(slots=True)
class _Batch:
    reached: bool = False


def _asked_wait_s(response: httpx.Response, default_s: float) -> float:
    try:
        return min(max(float(response.headers["retry-after"]), 0.0), LONGEST_WAIT_S)
    except (KeyError, ValueError):  # absent, or given as a date
        return default_s


def _answers(response: httpx.Response, n: int, attempts: int) -> list[ChatReply]:
    """The n answers in a response; one that is missing or malformed is an answer with an error."""
    try:
        body = response.json()
        choices = list(body["choices"])[:n]
        usage = body.get("usage") or {}
        counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        answers = [
            ChatReply(choice["message"]["content"] or "", choice.get("finish_reason") or "", "", attempts, *counts)
            for choice in choices
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        shown = response.text[:BODY_SHOWN]
        return [ChatReply("", "", f"not a chat completion ({type(problem).__name__}): {shown}", attempts)] * n
    missing = ChatReply("", "", f"the server gave {len(answers)} of {n} answers", attempts)
    return answers + [missing] * (n - len(answers))
