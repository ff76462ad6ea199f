"""A domain of tau2-bench: its policy, its tools and its databases, loaded once per process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rwml.core.errors import RwmlError, nearest
from rwml.worlds.tau2.package import GET_DATA, data_folder, load
from rwml.worlds.tau2.records import Records, Sharing, own_copy
from rwml.worlds.tau2.session import Access, Session
from rwml.worlds.tau2.tasks import DOMAINS, task

DONE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "done",
        "description": "Ends the work on the ticket. Call it when there is nothing left to do.",
        "parameters": {"properties": {}, "title": "parameters", "type": "object"},
    },
}


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where the official package keeps a domain: "module:name" below tau2.domains.<domain>, and files of its data."""

    environment: str
    tools: str
    database: str
    database_file: str
    policy: tuple[tuple[str, str], ...]
    solo_policy: tuple[tuple[str, str], ...] = ()
    user_tools: str = ""
    user_database: str = ""
    user_database_file: str = ""


_PARTS = {
    "airline": _Parts(
        environment="environment.environment:Environment",
        tools="domains.airline.tools:AirlineTools",
        database="domains.airline.data_model:FlightDB",
        database_file="db.json",
        policy=(("", "policy.md"),),
    ),
    "retail": _Parts(
        environment="environment.environment:Environment",
        tools="domains.retail.tools:RetailTools",
        database="domains.retail.data_model:RetailDB",
        database_file="db.json",
        policy=(("", "policy.md"),),
    ),
    "telecom": _Parts(
        environment="domains.telecom.environment:TelecomEnvironment",
        tools="domains.telecom.tools:TelecomTools",
        database="domains.telecom.data_model:TelecomDB",
        database_file="db.toml",
        policy=(("main_policy", "main_policy.md"), ("tech_support_policy", "tech_support_manual.md")),
        solo_policy=(("main_policy", "main_policy_solo.md"), ("tech_support_policy", "tech_support_manual.md")),
        user_tools="domains.telecom.user_tools:TelecomUserTools",
        user_database="domains.telecom.user_data_model:TelecomUserDB",
        user_database_file="user_db.toml",
    ),
}


def get_domain(name: str, folder: str | Path | None = None, *, solo: bool) -> Domain:
    """The domain `name`, with the agent alone (`solo`, telecom only) or with a user; one object per process.

    folder: by default $TAU2_DATA_DIR. Only the data folder is located here; the official package loads with the first
    tool or session. Raises RwmlError for an unknown domain, a domain without solo mode, and missing data.
    """
    return _domain(name, data_folder(folder), solo=solo)


class Domain:
    """Policy, tools and databases of one domain; makes sessions. Get it from `get_domain`.

    name, solo: as given. data: the folder that holds the domains' files.
    """

    def __init__(self, name: str, data: Path, *, solo: bool) -> None:
        self.name = name
        self.solo = solo
        self.data = data
        self._parts = _PARTS[name]

    @cached_property
    def policy(self) -> str:
        """The agent's policy, in the words and tags in which the official environment gives it."""
        parts = []
        for tag, file in self._parts.solo_policy if self.solo else self._parts.policy:
            path = self.data / self.name / file
            if not path.is_file():
                raise RwmlError(f"{path} is not there", "the agent's policy is read from it", GET_DATA)
            text = path.read_text(encoding="utf-8")
            parts.append(f"<{tag}>\n{text}\n</{tag}>" if tag else text)
        return "\n".join(parts)

    @cached_property
    def tools(self) -> list[dict[str, Any]]:
        """The agent's tools as OpenAI function schemas; in solo mode the user's tools and `done` after them.

        Not to be changed: every caller gets the same list.
        """
        environment = self._environment()[0]
        agent = [tool.openai_schema for tool in environment.get_tools()]
        return [*agent, *self.user_tools, DONE] if self.solo else agent

    @cached_property
    def user_tools(self) -> list[dict[str, Any]]:
        """The user's tools as OpenAI function schemas; none in airline and retail. Not to be changed."""
        environment = self._environment()[0]
        return [] if environment.user_tools is None else [tool.openai_schema for tool in environment.get_user_tools()]

    @cached_property
    def access(self) -> Access:
        """What its sessions' tools are allowed."""
        return Access(self.agent_writes, self.user_writes, self.solo)

    @cached_property
    def agent_writes(self) -> Mapping[str, bool]:
        """For each tool of the agent's toolkit whether it may write to the database."""
        kit = self._environment()[0].tools
        return {name: kit.tool_mutates_state(name) for name in kit.tools}

    @cached_property
    def user_writes(self) -> Mapping[str, bool]:
        """For each tool of the user's toolkit whether it may write to the databases; empty without one."""
        kit = self._environment()[0].user_tools
        return {} if kit is None else {name: kit.tool_mutates_state(name) for name in kit.tools}

    def start(self, task_id: str) -> Session:
        """Start a task: a session in the task's initial state. Sessions share no mutable data. Raises RwmlError for an
        unknown task, a missing official package and missing data.
        """
        record = task(self.name, task_id, self.data.parents[1])
        environment, tables, sharing = self._environment()
        state = _initial_state(record.id, self)
        if state is not None:
            environment.set_state(
                initialization_data=state.initialization_data,
                initialization_actions=state.initialization_actions,
                message_history=state.message_history or [],
            )
        shared = environment.tools.db is not None and all(
            getattr(environment.tools.db, name) is table for name, table in tables.items()
        )
        return Session(record, self.data, self.access, environment, tables if shared else {}, sharing)

    def _environment(self) -> tuple[Any, dict[str, Records], Sharing]:
        """An official environment over the shared databases; its tables; their switch."""
        parts, sharing = self._parts, Sharing()
        agent, user = _databases(self.name, self.data)
        database, tables = agent.copy(sharing)
        kits = [agent.kit(parts.tools, database)]
        if user is not None:
            kits.append(user.kit(parts.user_tools, user.copy(sharing)[0]))
        environment = _class(parts.environment)(self.name, self.policy, *kits)
        # Not by `set_solo_mode`, which builds all tool schemas again to see that no name is in both toolkits.
        environment.solo_mode = self.solo
        return environment, tables, sharing


@dataclass(frozen=True, slots=True)
class _Database:
    """A database as it is before any session. kit_state: models that hang on the toolkit's class, as they are when the
    domain is loaded: one play in the official environment changes them for every later one of the process."""

    whole: Any
    kit_state: Mapping[str, Any]

    def copy(self, sharing: Sharing) -> tuple[Any, dict[str, Records]]:
        """A database for one session, and its tables with shared records."""
        fields: dict[str, Any] = {
            name: Records(value, sharing) if isinstance(value, dict) else own_copy(value)
            for name, value in self.whole.__dict__.items()
        }
        tables = {name: value for name, value in fields.items() if isinstance(value, Records)}
        return type(self.whole).model_construct(**fields), tables

    def kit(self, place: str, database: Any) -> Any:
        """The toolkit at `place` over a session's `database`, with its own state."""
        kit = _class(place)(database)
        for name, value in self.kit_state.items():
            setattr(kit, name, own_copy(value))
        return kit


@lru_cache(maxsize=16)
def _domain(name: str, data: Path, *, solo: bool) -> Domain:
    if name not in DOMAINS:
        raise RwmlError(
            f"tau2-bench has no domain '{name}' here", "tasks, tools and policies belong to one", nearest(name, DOMAINS)
        )
    if solo and not _PARTS[name].solo_policy:
        raise RwmlError(
            f"{name} has no solo mode",
            "its tasks need a user who tells the agent what he wants",
            "play telecom in solo mode, or give a user model",
        )
    return Domain(name, data, solo=solo)


@lru_cache(maxsize=8)
def _databases(name: str, data: Path) -> tuple[_Database, _Database | None]:
    parts = _PARTS[name]
    agent = _read(parts.database, data / name / parts.database_file, parts.tools)
    if not parts.user_tools:
        return agent, None
    return agent, _read(parts.user_database, data / name / parts.user_database_file, parts.user_tools)


def _read(database: str, path: Path, kit: str) -> _Database:
    if not path.is_file():
        raise RwmlError(f"{path} is not there", "it is the database that the domain's tools work on", GET_DATA)
    whole = _class(database).load(str(path))
    state = {name: own_copy(value) for name, value in vars(_class(kit)).items() if isinstance(value, BaseModel)}
    return _Database(whole, state)


@lru_cache(maxsize=512)
def _initial_state(task_id: str, domain: Domain) -> Any:
    """The official record of a task's initial state, None if the task starts from the domain's own."""
    raw = task(domain.name, task_id, domain.data.parents[1]).initial_state
    return None if raw is None else load("data_model.tasks").InitialState.model_validate(raw)


@lru_cache(maxsize=64)
def _class(place: str) -> Any:
    module, name = place.split(":")
    return getattr(load(module), name)
