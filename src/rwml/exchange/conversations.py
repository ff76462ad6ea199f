"""Conversations of an agent with tools and a user, cut into the steps of an episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rwml.core.types import Step
from rwml.exchange.message_parts import Call
from rwml.exchange.messages import Message, Role


@dataclass(frozen=True, slots=True)
class Conversation:
    """rules: the system messages before the agent's first action. before: (role, text) of the others before it."""

    rules: str
    before: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]


def cut(messages: Sequence[Message], counts: Counter[str]) -> Conversation:
    """The steps of a conversation: one for each tool call with its response, one for each message that the user
    answers.

    The text of a step holds what the agent says with its calls, or before them without an answer. A call whose
    arguments cannot be read is a step without an action (parsed = False), and so is what a user says without being
    asked; no transition is cut from them, but the history of later ones holds them. counts: such cases, and what was
    left out, are added.
    """
    start = _first_action(messages)
    head = [message for message in messages[:start] if message.role != "tool"]
    counts["responses to no call"] += start - len(head)
    rules = "\n\n".join(message.text for message in head if message.role == "system")
    before = tuple((message.role, message.text) for message in head if message.role != "system")
    return Conversation(rules, before, tuple(_Cutter(messages[start:], counts).steps()))


def _first_action(messages: Sequence[Message]) -> int:
    """The index of the agent's first message that is not a greeting: a text without calls before the user speaks."""
    heard = False
    for number, message in enumerate(messages):
        heard = heard or message.role == "user"
        later = (m.role for m in messages[number + 1 :] if m.role == "user" or m.calls)
        greeting = not heard and not message.calls and next(later, "") == "user"
        if message.role == "assistant" and not greeting:
            return number
    return len(messages)


@dataclass(slots=True)
class _Open:
    """A call that has no response yet. turn: calls without a word of others between them have the same."""

    call: Call
    turn: int
    answer: Message | None = None


class _Cutter:
    """Walks through the messages. words: the agent's, which nothing has answered yet; thoughts: before them."""

    def __init__(self, messages: Sequence[Message], counts: Counter[str]) -> None:
        self.messages, self.counts = messages, counts
        self.words: list[str] = []
        self.thoughts: list[str] = []
        self.open: list[_Open] = []
        self.turn = 0
        self.ids = {call.id for message in messages for call in message.calls if call.id}

    def steps(self) -> Iterator[Step]:
        at = 0
        while at < len(self.messages):
            message = self.messages[at]
            at += 1
            if message.role == "assistant":
                self.words += [message.text] if message.text else []
                self.thoughts += [message.thought] if message.thought else []
                self.open += [_Open(call, self.turn) for call in message.calls]
                self.counts["words beside tool calls"] += bool(message.calls and self.words)
            elif message.role == "user":
                end = self._run(at, "user")
                yield self._answered("\n".join(m.text for m in self.messages[at - 1 : end]))
                at, self.turn = end, self.turn + 1
            elif message.role == "tool":
                end = self._run(at, "tool")
                yield from self._responded(self.messages[at - 1 : end])
                at, self.turn = end, self.turn + 1
            else:
                self.counts["system messages in mid-conversation"] += 1
        self.counts["calls without a response"] += len(self.open)
        self.counts["messages with no next state"] += bool(self.words)

    def _run(self, start: int, role: Role) -> int:
        """The end of the messages of that role from `start` on."""
        while start < len(self.messages) and self.messages[start].role == role:
            start += 1
        return start

    def _written(self, action: str) -> str:
        thought = "\n".join(self.thoughts)
        parts = [f"<think>{thought}</think>" if thought else "", *self.words, action]
        self.words, self.thoughts = [], []
        return "\n".join(part for part in parts if part)

    def _answered(self, observation: str) -> Step:
        action = "\n".join(self.words)
        self.words = []
        if not action:
            self.counts["user messages that answer no message"] += 1
        return Step(action, self._written(action), observation, "user", parsed=bool(action), valid=bool(action))

    def _responded(self, responses: Sequence[Message]) -> Iterator[Step]:
        """The steps of the calls that a run of responses answers, in the order of the calls."""
        for response in responses:
            asked = self._asked(response)
            if asked is None:
                self.counts["responses to no call"] += 1
            else:
                asked.answer = response
        answered = [asked for asked in self.open if asked.answer]
        self.open = [asked for asked in self.open if not asked.answer]
        for asked in answered:
            call, answer = asked.call, asked.answer
            assert answer is not None
            parsed = bool(call.action)
            self.counts["calls with unreadable arguments"] += not parsed
            valid = parsed and not answer.failed
            yield Step(call.action, self._written(call.action or call.text), answer.text, "tool", parsed, valid)

    def _asked(self, response: Message) -> _Open | None:
        """The call that a response belongs to: by id; else by the tool's name; else, without both, the first open one.

        An id is looked for in all of the conversation, first among the latest calls. Name and order count among the
        latest calls alone, of which one of the two has no id, or the response has an id that no call has.
        """
        open_ = [asked for asked in self.open if not asked.answer]
        latest = [asked for asked in open_ if asked.turn == self.turn]
        if response.call_id:
            same = [asked for asked in (*latest, *open_) if asked.call.id == response.call_id]
            if same:
                return same[0]
            if response.call_id in self.ids:
                return None  # that call is answered already
        if response.name:
            named = [asked for asked in latest if asked.call.name == response.name]
            certain = not response.call_id or not all(asked.call.id for asked in named) or len(named) == 1
            if named and certain:
                return named[0]
            if any(asked.call.name for asked in latest):
                return None
        unnamed = (asked for asked in latest if not response.call_id or not asked.call.id)
        return next(unnamed, None)
