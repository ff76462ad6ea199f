"""Chat models behind an OpenAI-compatible server (vLLM, llama.cpp, a hosted one): many requests at once, none lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from rwml.core.errors import RwmlError
from rwml.core.guard.shown import shown
from rwml.core.guard.trust import Server, check_server
from rwml.core.progress import note
from rwml.core.recipe.sections import JudgeConfig
from rwml.models.server_reply import ENCODINGS, BodyError, ChatReply, body_shown, read_answers, read_body

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
CONNECT_SHARE = 0.9
"""Of an attempt's time, for the connection: a server that cannot be reached then differs from one that is slow."""
LONGEST_ERROR = 300
_ANNOUNCED: set[Server] = set()


class _UnreachableError(Exception):
    """No connection, and no request of this batch has had an answer so far."""


class ApiModel:
    """A chat model at base_url (up to and including "/v1").

    api_key_env: name of the environment variable that holds the key, or None for a server without keys;
    max_concurrency: requests in flight; timeout_s: for one attempt, from the connection to the last byte; retries:
    further attempts after 429, 5xx, a timeout or a broken connection, each after twice the wait of the one before (or
    what Retry-After says). Whoever makes it by hand has chosen the server and the key; `of` asks for the user's word.

    Raises RwmlError where the variable is not set, and for a base_url that is no URL or that holds a key.
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
        self.server = Server.of("base_url", base_url, api_key_env or "")
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.base_url, self.model = base_url, model
        self.max_concurrency, self.timeout_s, self.retries = max_concurrency, timeout_s, retries
        self._headers = {"Accept-Encoding": ENCODINGS}
        if api_key_env:
            self._headers["Authorization"] = f"Bearer {self.server.key()}"

    @classmethod
    def of(cls, config: JudgeConfig) -> ApiModel:
        """The model of the section [judge]; RwmlError where a request would go to a server that nobody allowed."""
        check_server("judge.base_url", Server.of("judge.base_url", config.base_url, config.api_key_env))
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
        if self.server not in _ANNOUNCED and not self.server.harmless:
            _ANNOUNCED.add(self.server)
            note(f"{self.model}: {self.server.sentence}")
        # A notebook already runs an event loop in this thread.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(lambda: asyncio.run(self._all(bodies, n))).result()

    async def _all(self, bodies: Sequence[dict[str, Any]], n: int) -> list[list[ChatReply]]:
        limits = httpx.Limits(max_connections=self.max_concurrency)
        # Waiting for a free connection is not the server's fault, and has no time limit.
        timeout = httpx.Timeout(self.timeout_s, connect=CONNECT_SHARE * self.timeout_s, pool=None)
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
        failure, attempts = _Failure(""), 0
        for attempts in range(1, self.retries + 2):
            async with gate:
                outcome = await self._attempt(client, batch, body, n, attempts)
            if not isinstance(outcome, _Failure):
                return outcome
            failure = outcome
            if failure.unreached and attempts > self.retries and not batch.reached:
                raise _UnreachableError(failure.error)
            if not failure.again or attempts > self.retries:
                break
            await asyncio.sleep(failure.wait_s or min(FIRST_WAIT_S * 2 ** (attempts - 1), LONGEST_WAIT_S))
        return [ChatReply("", "", failure.error, attempts)] * n

    async def _attempt(
        self, client: httpx.AsyncClient, batch: _Batch, body: dict[str, Any], n: int, attempts: int
    ) -> list[ChatReply] | _Failure:
        try:
            # httpx's times are between two bytes: a server that sends one now and then would keep us for ever.
            async with asyncio.timeout(self.timeout_s), client.stream("POST", self.url, json=body) as response:
                batch.reached = True
                data = await read_body(response)
            if response.is_success:
                return read_answers(data, n, attempts)
            again = response.status_code == 429 or response.status_code >= 500
            error = f"HTTP {response.status_code}: {body_shown(data)}"
            return _Failure(error, again=again, wait_s=_asked_wait_s(response))
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as problem:
            raise _UnreachableError(_words(problem)) from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
            return _Failure(_words(problem), unreached=True)
        except (TimeoutError, httpx.TimeoutException):
            batch.reached = True
            return _Failure(f"no whole answer within {self.timeout_s:g} s")
        except httpx.TransportError as problem:
            batch.reached = True
            return _Failure(_words(problem))
        except BodyError as problem:
            return _Failure(shown(str(problem)), again=False)
        except Exception as problem:  # whatever a strange answer provokes costs that answer, and no other of the batch
            return _Failure(_words(problem), again=False)


@dataclass(slots=True)
class _Batch:
    reached: bool = False


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt without answers. again: another one may help. wait_s: before it; None = the usual time."""

    error: str
    again: bool = True
    wait_s: float | None = None
    unreached: bool = False


def _words(problem: Exception) -> str:
    return shown(f"{type(problem).__name__}: {problem}", LONGEST_ERROR)


def _asked_wait_s(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):  # absent, or given as a date
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.001), LONGEST_WAIT_S)
