"""tau2-bench as a world: customer service by tool calls, with a user or, in telecom, from a ticket alone (solo)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from rwml.core.errors import RwmlError, nearest
from rwml.core.guard.trust import Server
from rwml.core.tool_calls import ToolCall, calls_of
from rwml.core.types import Task
from rwml.worlds.base import BuiltInPolicy, Prompts, StepResult
from rwml.worlds.by_name import register
from rwml.worlds.tau2 import policies, tasks
from rwml.worlds.tau2.domain import Domain, get_domain
from rwml.worlds.tau2.scoring import Score, score
from rwml.worlds.tau2.session import Session
from rwml.worlds.tau2.user_server import models_of, server_of
from rwml.worlds.tau2.users import REPLAY, STOP_WORDS, ModelUser, ReplayUser, User, recorded_users
from rwml.worlds.tau2.wording import domain_name, identity, task_name, with_identity
from rwml.worlds.tool_world import ToolWorld, opening

NAME = "tau2"
SPLITS = ("train", "test")
GREETING = "Hi! How can I help you today?"  # what every official dialogue begins with
DONE = "done"
UNREADABLE = "Error: neither a message nor a tool call could be read in this answer."
NOBODY = "Error: there is no user here. Call a tool; call done once the ticket is settled."
NOT_YOURS = "Error: only the user can end the dialogue."

# For chat templates that do not say so themselves.
_CALL = (
    'Unless you were taught another way, write a call as <tool_call>{"name": "...", "arguments": {...}}</tool_call>. '
    "You may think first, in <think>...</think>; nobody sees that."
)
_AGENT = (
    "You serve a company's customers. The policy below binds you. In each turn, either write to the user or call "
    "tools, never both in one turn. " + _CALL
)
_SOLO = (
    "You serve a company's customers. The policy below binds you. There is a ticket and no user to talk to: call the "
    "tools that settle it, one at a time, and call done at the end. " + _CALL
)
_PREDICT = (
    "You are shown how a customer-service agent works: its tools, its policy, and all that was said and done so far. "
    "You will be asked what comes back after the agent's next move."
)
_QUESTION = (
    "\n\nThe agent's next move may be:\n{action}\n\nIf it is a tool call, what will the tool respond: a short status "
    'or error as it is, or the JSON schema of the response ({{"type": "object", "properties": {{...}}}})? If it is a '
    "message, what will the user say? First think in <think>...</think>: sum up briefly the facts that matter. Then "
    "answer in <next_state>...</next_state>."
)
STYLES = {
    "full": Prompts(_AGENT, _PREDICT, _QUESTION, "calls"),
    "full-solo": Prompts(_SOLO, _PREDICT, _QUESTION, "calls"),
    "brief": Prompts("", "", "\n\n{action}", "calls"),
}


@register("tau2")
@dataclass
class Tau2World(ToolWorld):
    """The tasks of some domains in one mode.

    domains: of airline, retail, telecom. solo: no user takes part (telecom only). user: the model of the user
    simulator in litellm's words ("openai/<name>"), or "replay" with `user_files`; user_args: for its requests, e.g.
    {api_base = "http://localhost:8000/v1", temperature = 0.0}. Several users, one per episode by its seed, as a list.
    max_errors: tool errors that end an episode as failed (the official limit; 0: none). telecom_tasks: "base" has the
    official splits of 74 and 40; with "full" every task but the 40 is for training. briefing: "none" leaves policy and
    tools out of the opening, for a model that could not read them. data: the folder of the official data
    ($TAU2_DATA_DIR). play: False for imported episodes only: no task can be played, and nothing official is needed.
    Raises RwmlError for options that do not fit together.
    """

    domains: Sequence[str] = ("telecom",)
    solo: bool = True
    user: str | Sequence[str] = ""
    user_args: Mapping[str, Any] = field(default_factory=dict)
    user_files: Sequence[str] = ()
    max_errors: int = 10
    telecom_tasks: Literal["base", "full"] = "base"
    briefing: Literal["full", "none"] = "full"
    data: str = ""
    play: bool = True
    name: str = field(default=NAME, init=False)

    def __post_init__(self) -> None:
        self.domains = (self.domains,) if isinstance(self.domains, str) else tuple(self.domains)
        for domain in self.domains:
            if domain not in tasks.DOMAINS:
                raise RwmlError(f"tau2 has no domain '{domain}'", "tasks belong to one", nearest(domain, tasks.DOMAINS))
        for key, value, allowed in (
            ("telecom_tasks", self.telecom_tasks, ("base", "full")),
            ("briefing", self.briefing, ("full", "none")),
        ):
            if value not in allowed:
                raise RwmlError(
                    f"world.options.{key} is {value!r}", "it is one of two words", nearest(str(value), allowed)
                )
        if self.play:
            self._check_users()

    def _check_users(self) -> None:
        if self.solo and self.domains != ("telecom",):
            raise RwmlError(
                f"solo mode with the domains {', '.join(self.domains)}",
                "only telecom can be played without a user",
                'set world.options.domains = ["telecom"], or solo = false and a user',
            )
        if self.solo == bool(self.user):
            raise RwmlError(
                f"world.options: solo is {str(self.solo).lower()} and user is {self.user!r}",
                "an episode has a user, or it has none",
                'set solo = true, or solo = false and user = "openai/<model>" (docs/reference/tau2.md)',
            )
        if (self.user == REPLAY) != bool(self.user_files):
            raise RwmlError(
                f"world.options: user is {self.user!r} with {len(self.user_files)} user_files",
                "recorded simulations and the user that replays them belong together",
                'set user = "replay" and user_files = ["simulations.json"]',
            )

    def splits(self) -> tuple[str, ...]:
        """Official splits: "train" and "test"."""
        return SPLITS

    def tasks(self, split: str) -> list[Task]:
        """Tasks of a split, domain after domain; none where `play` is off."""
        if split not in SPLITS:
            raise RwmlError(
                f"tau2 has no split '{split}'", "tasks are trained and tested on by split", nearest(split, SPLITS)
            )
        if not self.play:
            return []
        listed = []
        for domain in self.domains:
            kind = domain_name(domain, solo=self.solo) + (" (replayed user)" if self.user == REPLAY else "")
            ids = self._ids(domain, split)
            listed += [Task(task_name(domain, id, solo=self.solo), NAME, split, kind) for id in ids]
        return listed

    def _ids(self, domain: str, split: str) -> Sequence[str]:
        folder = self.data or None
        ids = tasks.task_ids(domain, split, folder)
        if domain == "telecom" and split == "train" and self.telecom_tasks == "full":
            held_out = set(tasks.task_ids(domain, "test", folder))
            ids = tuple(id for id in tasks.task_ids(domain, "full", folder) if id not in held_out)
        if self.user == REPLAY:
            ids = tuple(id for id in ids if id in self._recorded)
        return ids

    @cached_property
    def _recorded(self) -> dict[str, list[Mapping[str, Any]]]:
        return recorded_users(self.user_files)

    def domain(self, task: Task) -> tuple[Domain, str]:
        """The domain of a task, and the task's official id."""
        name, _, task_id = task.id.partition("/")
        return get_domain(name.removesuffix("-solo"), self.data or None, solo=self.solo), task_id

    def env(self) -> Tau2Env:
        """Make an environment; RwmlError where the official package or its data are missing, or `play` is off."""
        if not self.play:
            raise RwmlError(
                "this tau2 world cannot be played: world.options.play is false",
                "it holds imported episodes",
                "set world.options.play = true (it needs the official package: docs/reference/tau2.md)",
            )
        return Tau2Env(self)

    def make_user(self, session: Session, seed: int) -> User:
        """The user of an episode; which of several is by the seed."""
        if self.user == REPLAY:
            return ReplayUser(session, self._recorded[session.task.id])
        names = models_of(self.user)
        return ModelUser(session, names[seed % len(names)], self.user_args, seed)

    def servers(self) -> list[Server]:
        """Those that the user models are asked at; see `worlds.base.AsksServers`."""
        if not self.play or self.solo or self.user == REPLAY:
            return []
        return [server_of(model, self.user_args) for model in models_of(self.user)]

    def policies(self) -> tuple[str, ...]:
        """Names of the built-in policies; they play solo mode."""
        return policies.NAMES if self.solo else ()

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """Make a built-in policy for one episode of solo mode."""
        if not self.solo:
            raise RwmlError(
                f"policy '{name}' plays tau2 in solo mode only",
                "it does not talk",
                'set collect.policy = "model", or world.options.solo = true',
            )
        return policies.make_policy(name, seed, get_domain("telecom", self.data or None, solo=True).tools)

    def prompts(self, style: str) -> Prompts:
        """Wording in the style "full" or "brief"."""
        if style not in ("full", "brief"):
            raise RwmlError(f"unknown style of prompts: '{style}'", "models are asked in it", nearest(style, STYLES))
        return STYLES["full-solo" if style == "full" and self.solo else style]

    def world_model_opening(self, task: Task, opening: str) -> str:
        """The opening and who the user is; a ticket says that by itself."""
        name, _, task_id = task.id.partition("/")
        if not self.play or name.endswith("-solo"):
            return opening
        return with_identity(opening, identity(tasks.task(name, task_id, self.data or None).known_info))


class Tau2Env:
    """One dialogue, or one ticket. Observations after calls are of kind "tool", after messages of kind "user", and of
    kind "text" where an answer of the agent reached nobody."""

    def __init__(self, world: Tau2World) -> None:
        self._world = world
        self._session: Session | None = None
        self._user: User | None = None
        self._score: Score | None = None
        self._calls: list[tuple[str, ToolCall]] = []
        self._said: list[str] = []
        self._errors = 0

    def reset(self, task: Task, seed: int = 0) -> str:
        """Start `task`: tools, policy, and the ticket or what the user said first. seed: reaches the user model."""
        domain, task_id = self._world.domain(task)
        self._session = session = domain.start(task_id)
        self._score, self._calls, self._said, self._errors = None, [], [], 0
        first: list[tuple[str, str]] = []
        if not self._world.solo:
            self._user = self._world.make_user(session, seed)
            self._said.append(GREETING)
            first = [("assistant", GREETING), ("user", self._user.reply(GREETING))]
        ticket = session.task.ticket if self._world.solo else ""
        if self._world.briefing == "none":
            return opening([], "", first, ticket)
        return opening(domain.tools, domain.policy, first, ticket)

    def step(self, action: str) -> StepResult:
        """Play one message of the agent: canonical calls (`core/tool_calls.py`), or words to the user.

        Nothing answers `done`. Where the user model fails, its exception is raised. reward: the official one, with the
        last step.
        """
        assert self._session is not None, "reset comes first"
        calls = calls_of(action)
        if any(call.name == DONE for call in calls) and self._world.solo:
            return self._end("", "tool")
        if calls:
            return self._call(calls)
        if not action.strip():
            return self._failed(UNREADABLE, "text")
        if self._user is None:
            return self._failed(NOBODY, "text")
        if any(word in action for word in STOP_WORDS):
            return self._failed(NOT_YOURS, "text")
        self._said.append(action)
        heard = self._user.reply(action)
        if any(word in heard for word in STOP_WORDS):
            return self._end(heard, "user")
        return StepResult(heard, 0.0, False, True, "user")

    def _call(self, calls: Sequence[ToolCall]) -> StepResult:
        assert self._session is not None
        self._calls += [("assistant", call) for call in calls]
        answers = [self._session.call(call.name, call.arguments) for call in calls]
        text = "\n".join(content for content, _ in answers) or "(empty)"
        failed = sum(error for _, error in answers)
        if failed:
            return self._failed(text, "tool", failed)
        return StepResult(text, 0.0, False, True, "tool")

    def _failed(self, text: str, kind: str, errors: int = 1) -> StepResult:
        """A step that reached nothing; too many of them end the episode without reward."""
        self._errors += errors
        over = 0 < self._world.max_errors <= self._errors
        return StepResult(text, 0.0, over, False, kind)

    def _end(self, text: str, kind: str) -> StepResult:
        assert self._session is not None
        of_user = [("user", call) for call in self._user.calls] if self._user else []
        self._score = score(self._session, self._calls + of_user, self._said, ended_properly=True)
        return StepResult(text, self._score.reward, True, True, kind)

    @property
    def score(self) -> Score | None:
        """What the reward is made of, once the episode is over."""
        return self._score

    @property
    def admissible(self) -> Sequence[str]:
        """Empty: calls with their arguments cannot be listed."""
        return ()

    @property
    def success(self) -> bool:
        """Whether the episode has ended with the full reward."""
        return self._score is not None and self._score.reward >= 1.0
