"""Users of a tau2 dialogue: the official simulator around a language model, and one that replays recorded words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rwml.core.errors import RwmlError
from rwml.core.tool_calls import ToolCall
from rwml.worlds.tau2.package import load
from rwml.worlds.tau2.session import Session
from rwml.worlds.tau2.user_server import TIMEOUT_S, request_arguments, said, within

# How a user ends a dialogue: satisfied, handed over to a human, or asked beyond the scenario.
STOP_WORDS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
REPLAY = "replay"
MOST_CALLS = 30
_THOUGHT = re.compile(r"^.*?</think>", re.DOTALL)


class User(Protocol):
    """One user in one dialogue. calls: tool calls that the user made, which the reward may ask for."""

    calls: list[ToolCall]

    def reply(self, message: str) -> str:
        """The user's words after the agent's message. Every failure is raised: a failure is not a reply."""


class ModelUser:
    """The official user simulator: a model behind any server that litellm reaches, with the user's own tools.

    model: litellm's name, e.g. "openai/Qwen3-8B" for an OpenAI-compatible server at arguments["api_base"]. seed:
    reaches the server with every request. The model's thinking is no part of what it says. arguments: those of
    `user_server.ARGUMENTS`; `timeout` (600 s) is for a whole reply.
    """

    def __init__(self, session: Session, model: str, arguments: Mapping[str, Any], seed: int) -> None:
        self._session, self.calls = session, list[ToolCall]()
        self._messages = load("data_model.message")
        scenario = load("data_model.tasks").UserScenario.model_validate(dict(session.task.scenario))
        only = session.task.user_tools
        environment = session.environment
        tools = None
        if environment.user_tools:
            tools = environment.get_user_tools(include=None if only is None else list(only))
        simulator = load("user.user_simulator").UserSimulator
        known = request_arguments(model, arguments)
        self._timeout_s = float(known["timeout"] or TIMEOUT_S)
        self._user = simulator(instructions=str(scenario), tools=tools, llm=model, llm_args=known)
        self._user.set_seed(seed)
        self._state = self._user.get_init_state()

    def reply(self, message: str) -> str:
        """See `User.reply`. The user's own tool calls are done first; the agent sees none of them."""
        heard: Any = self._messages.AssistantMessage(role="assistant", content=message)
        for _ in range(MOST_CALLS):
            ask = partial(self._user.generate_next_message, heard, self._state)
            answer, self._state = within(self._timeout_s, ask)
            if not answer.is_tool_call():
                text = _THOUGHT.sub("", said(answer.content)).strip()
                if not text:
                    raise RuntimeError("the user model said nothing")
                answer.content = text
                return text
            answers = [self._answer(call) for call in answer.tool_calls]
            many = self._messages.MultiToolMessage
            heard = answers[0] if len(answers) == 1 else many(role="tool", tool_messages=answers)
        raise RuntimeError(f"the user model called tools {MOST_CALLS} times without a word to the agent")

    def _answer(self, call: Any) -> Any:
        self.calls.append(ToolCall(call.name, call.arguments))
        content, error = self._session.call(call.name, call.arguments, requestor="user")
        return self._messages.ToolMessage(id=call.id, role="tool", content=content, requestor="user", error=error)


class ReplayUser:
    """Says what the user of a recorded simulation said, in order, whatever the agent says; then ends the dialogue.

    The user's recorded tool calls are made again. It serves tests of the plumbing, and every table labels it so: it
    does not listen to the agent.
    """

    def __init__(self, session: Session, recorded: Sequence[Mapping[str, Any]]) -> None:
        self._session, self.calls = session, list[ToolCall]()
        self._left = list(recorded)

    def reply(self, message: str) -> str:
        """The next recorded words."""
        while self._left:
            turn = self._left.pop(0)
            for call in turn.get("tool_calls") or ():
                self.calls.append(ToolCall(call["name"], call["arguments"]))
                self._session.call(call["name"], call["arguments"], requestor="user")
            if turn.get("content"):
                return str(turn["content"])
        return STOP_WORDS[0]


def recorded_users(files: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """The user's turns of every task in simulation files, the first simulation of each; RwmlError for a bad file."""
    users: dict[str, list[Mapping[str, Any]]] = {}
    for name in files:
        try:
            simulations = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))["simulations"]
            for simulation in simulations:
                turns = [message for message in simulation["messages"] if message["role"] == "user"]
                if turns:
                    users.setdefault(str(simulation["task_id"]), turns)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RwmlError(
                f"'{name}' is not a file of tau2 simulations: {type(error).__name__}: {error}",
                "a replayed user says what it holds",
                "name files as the official `tau2 run` writes them in world.options.user_files",
            ) from None
    return users
