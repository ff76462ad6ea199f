"""A chat model behind a server on this machine as a world model: what it is sent, and what becomes of its replies."""

from __future__ import annotations

from typing import Any

import torch

from fuzz_servers import MODES, raw_server
from rwml.core.types import PredictedState, Query
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.server import ApiModel
from rwml.world_models.remote import FAILED, RemoteWorldModel, question_messages
from rwml.world_models.world_model import UNPARSED
from rwml.worlds.base import Prompts

PROMPTS = Prompts("", "Predict.", "\nWhat comes of {action}?")
FIRST = Query("first", "A room.", (), "look")
LATER = Query("later", "A room.", ("look", "A desk.", "open desk", "A pen."), "take pen")


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_the_question_stands_in_the_last_message_of_the_user() -> None:
    assert question_messages(PROMPTS, FIRST) == [user("Predict.\n\nA room.\nWhat comes of look?")]
    assert question_messages(PROMPTS, LATER) == [
        user("Predict.\n\nA room."),
        assistant("<action>look</action>"),
        user("A desk."),
        assistant("<action>open desk</action>"),
        user("A pen.\nWhat comes of take pen?"),
    ]
    assert question_messages(Prompts("", "", "{action}?", "calls"), LATER) == [
        user("A room."),
        assistant("look"),
        user("A desk."),
        assistant("open desk"),
        user("A pen.take pen?"),
    ]


def test_every_query_has_its_answers_or_a_reason(chat_server: Any) -> None:
    """A whole answer, one without tags, one that is cut off, and a refused request; tokens of the server are words."""
    answers = {
        "look": "<think>a b</think><next_state>A desk.</next_state>",
        "wave": "Nobody waves.",
        "wait": "<think>one two three four five <next_state>It rains.</next_state>",
        "shout": 400,
    }
    chat_server.answer = lambda messages: answers[messages[-1]["content"].split()[-1].rstrip("?")]
    params = SamplingParams(max_new_tokens=6, temperature=0.25)
    model = RemoteWorldModel(ApiModel(chat_server.url, "m", max_concurrency=1, retries=0), PROMPTS, params)
    queries = [Query(action, "A room.", (), action) for action in answers]
    look, wave, wait, shout = model.predict(queries, 2, torch.Generator())
    assert look == [PredictedState("look", answers["look"], "A desk.", prompt_tokens=7, completion_tokens=3)] * 2
    assert wave == [
        PredictedState("wave", "Nobody waves.", None, reason=UNPARSED, prompt_tokens=7, completion_tokens=2)
    ] * 2  # fmt: skip
    assert [(state.next_state, state.reason, state.truncated) for state in wait] == [(None, UNPARSED, True)] * 2
    assert [state.completion_tokens for state in wait] == [7, 7]
    for state in shout:
        assert (state.transition, state.text, state.next_state, state.truncated) == ("shout", "", None, False)
        assert state.reason.startswith(f"{FAILED}: HTTP 400: ")
        assert (state.prompt_tokens, state.completion_tokens) == (0, 0)
    for asked in chat_server.asked:
        assert (asked["model"], asked["temperature"], asked["max_tokens"], asked["n"]) == ("m", 0.25, 6, 2)
    assert [asked["messages"] for asked in chat_server.asked] == [question_messages(PROMPTS, q) for q in queries]


def test_broken_answers_are_predictions_without_a_next_state() -> None:
    """A sound answer (which has no tags) between broken ones of several sorts: each has its own reason."""
    names = ["content is list", "words of many scripts", "half of a surrogate pair", "count NaN of 3", "half of gzip"]
    with raw_server() as server:
        model = RemoteWorldModel(ApiModel(server.url, "m", retries=0), Prompts("", "", "{action}"), SamplingParams(6))
        states = [group[0] for group in model.predict([Query(n, "", (), n) for n in names], 1, torch.Generator())]
    assert [state.text for state in states] == ["", MODES["words of many scripts"].text, "", "", ""]
    assert [state.next_state for state in states] == [None] * 5
    assert states[1].reason == UNPARSED
    for state in (states[0], *states[2:]):
        assert state.reason.startswith(f"{FAILED}: ")
        assert MODES[state.transition].error in state.reason
