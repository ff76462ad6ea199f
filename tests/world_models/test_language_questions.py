"""Questions that nest along an episode, the label, and sampled answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from rwml.core.prompts import action_text, parse_next_state
from rwml.core.tool_calls import ToolCall, call_text, calls_of
from rwml.core.types import Transition
from rwml.models.language_model import LanguageModel
from rwml.playing.rollout import play_built_in, seats_for
from rwml.world_models.language import QuestionLengths, label_ids, question_ids, too_long
from rwml.worlds.base import Prompts, World
from rwml.worlds.transitions import transitions_of


def test_a_question_reads_as_the_template_would_write_it(
    lm: LanguageModel, world: World, rows: list[Transition]
) -> None:
    row = rows[2]
    assert row.step == 2
    prompts = world.prompts("full")
    question = prompts.question.format(action=row.action)
    messages = [{"role": "user", "content": f"{prompts.world_model}\n\n{row.opening}"}]
    for action, observation in zip(row.history[::2], row.history[1::2], strict=True):
        messages.append({"role": "assistant", "content": action_text(action)})
        messages.append({"role": "user", "content": observation})
    messages[-1]["content"] += question
    text = lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    decoded = lm.tokenizer.decode(question_ids(lm.chat, prompts, row), clean_up_tokenization_spaces=False)
    assert decoded == text


def test_questions_nest_inside_an_episode(lm: LanguageModel, world: World, rows: list[Transition]) -> None:
    """Without its last turn, each question is how the next one begins: what a tree shares."""
    prompts, chat = world.prompts("brief"), lm.chat
    pairs = [(a, b) for a, b in pairwise(rows) if a.episode == b.episode]
    assert len(pairs) == 12
    for row, after in pairs:
        tail = chat.ask(prompts.question.format(action=row.action))
        question, longer = question_ids(lm.chat, prompts, row), question_ids(lm.chat, prompts, after)
        trunk = question[: -len(tail)]
        assert question[-len(tail) :] == tail
        turn = chat.past_turn(action_text(row.action), row.next_state)
        assert longer[: len(trunk) + len(turn)] == trunk + turn
        assert len(longer) == len(trunk) + len(turn) + len(chat.ask(prompts.question.format(action=after.action)))


def test_a_history_window_leaves_the_opening_and_the_last_exchanges(lm: LanguageModel, world: World) -> None:
    [episode] = play_built_in(world, seats_for(world.tasks("train")[:1], 1, seed=0), "noisy", 5)
    last = list(transitions_of(episode, world, "train", history_steps=2))[-1]
    assert last.history == tuple(text for step in episode.steps[2:4] for text in (step.action, step.observation))
    decoded = lm.tokenizer.decode(question_ids(lm.chat, world.prompts("brief"), last))
    first_kept = f"<|assistant|><action>{episode.steps[2].action}</action>"
    assert decoded.startswith(f"<|user|>{episode.opening}<|end|>{first_kept}")


def test_the_label_is_an_empty_thought_and_the_truth(lm: LanguageModel, rows: list[Transition]) -> None:
    for row in rows:
        ids = label_ids(lm.chat, row)
        text = lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert text == f"<think></think><next_state>{row.next_state}</next_state><|end|>"
        assert ids[-1] in lm.chat.stop_ids
        assert parse_next_state(lm.chat.decode(ids)) == row.next_state.strip()


LOOK = call_text([ToolCall("look", {"at": "desk 1"})])
TALK = [(LOOK, '{"pen": 1}'), (LOOK, "Error: too dark"), ("Which pen?", "The red one."), ("", "Error: unread."),
        (call_text([ToolCall("done", {}), ToolCall("look", {})]), "ok\nok"), ("It is done.", "Thank you.")]  # fmt: skip
CALLS = Prompts("", "Predict.", "\nIf {action}\nthen?", actions="calls")


def talk_rows(row: Transition, history_steps: int) -> list[Transition]:
    rows = []
    for step, (action, observation) in enumerate(TALK):
        history = tuple(text for pair in TALK[:step] for text in pair)[-2 * history_steps :]
        kind = "tool" if calls_of(action) else "user"
        rows.append(replace(row, step=step, history=history, action=action, next_state=observation, kind=kind))
    return rows


def test_calls_and_responses_in_a_question(lm: LanguageModel, rows: list[Transition]) -> None:
    """Responses of tools and a user's words are kept apart, at every step and however the history is cut."""
    tagged = "\n".join(["<tool_call>\n{}\n</tool_call>"] * 2).format(*TALK[4][0].split("\n"))
    look = f"<|assistant|><tool_call>\n{LOOK}\n</tool_call><|end|>"
    turns = [
        look + '<|user|><tool_response>\n{"pen": 1}\n</tool_response>',
        look + "<|user|><tool_response>\nError: too dark\n</tool_response>",
        "<|assistant|>Which pen?<|end|><|user|>The red one.",
        "<|assistant|><|end|><|user|>Error: unread.",
        f"<|assistant|>{tagged}<|end|><|user|><tool_response>\nok\nok\n</tool_response>",
        "<|assistant|>It is done.<|end|><|user|>Thank you.",
    ]
    opening = f"<|user|>Predict.\n\n{rows[0].opening}"
    for history_steps in (2, len(TALK)):
        for row in talk_rows(rows[0], history_steps):
            shown = "<|end|>".join([opening, *turns[max(0, row.step - history_steps) : row.step]])
            text = f"{shown}\nIf {row.action}\nthen?<|end|><|assistant|>"
            ids = question_ids(lm.chat, CALLS, row)
            assert lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_questions_about_calls_nest(lm: LanguageModel, rows: list[Transition]) -> None:
    """The trunk of a step, without what closes its last message, begins every later question."""
    chat, asked = lm.chat, talk_rows(rows[0], len(TALK))
    questions = [question_ids(lm.chat, CALLS, row) for row in asked]
    for number, row in enumerate(asked):
        after_tool = number > 0 and bool(calls_of(TALK[number - 1][0]))
        tail = chat.ask(CALLS.question.format(action=row.action), after_tool=after_tool)
        trunk = questions[number][: -len(tail)]
        assert questions[number] == trunk + tail
        assert all(later[: len(trunk)] == trunk for later in questions[number:])
        assert len(trunk) > len(chat.opening("Predict.", row.opening)) or number == 0


def test_lengths_are_those_of_the_questions(lm: LanguageModel, world: World, rows: list[Transition]) -> None:
    talk = [row for steps in (1, 2, len(TALK)) for row in talk_rows(rows[0], steps)]
    for prompts, asked in ((world.prompts("brief"), rows), (CALLS, talk)):
        lengths = QuestionLengths(lm.chat, prompts)
        assert [lengths.of(row) for row in asked] == [len(question_ids(lm.chat, prompts, row)) for row in asked]


def test_too_long_is_what_question_and_answer_say(lm: LanguageModel, rows: list[Transition]) -> None:
    """At every limit from the shortest to the longest, against question and label written out."""
    asked = [replace(row, id=str(row.step)) for row in talk_rows(rows[0], len(TALK))]
    sizes = {row.id: (len(question_ids(lm.chat, CALLS, row)), len(label_ids(lm.chat, row))) for row in asked}
    seen = set()
    for limit in range(min(q for q, _ in sizes.values()), max(q + label for q, label in sizes.values()) + 12):
        for answer in (0, 10):
            long = {name for name, (question, label) in sizes.items() if question + max(answer, label) > limit}
            assert too_long(lm.chat, CALLS, asked, answer, limit) == long
            seen.add(len(long))
    assert seen == set(range(len(TALK) + 1))


def test_a_long_episode_is_tokenised_once_and_not_beyond_the_limit(
    lm: LanguageModel, rows: list[Transition], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    texts = [text for n in range(40) for text in (f"Do {n}?", f"It is {n}. " * 30)]
    asked = [
        replace(rows[0], id=str(n), step=n, history=tuple(texts[: 2 * n]), action=f"Do {n}?", next_state="Yes.")
        for n in range(41)
    ]
    chat, text = lm.chat, lm.chat.text
    monkeypatch.setattr(chat, "text", lambda piece: seen.append(piece) or text(piece))
    lengths = QuestionLengths(chat, CALLS)
    whole = [lengths.of(row) for row in asked]
    assert sorted(piece for piece in seen if piece in texts[1::2]) == sorted(texts[1::2]), "each observation once"
    seen.clear()
    fits = 5
    limit = whole[fits] + 20
    assert too_long(chat, CALLS, asked, 20, limit) == {row.id for row in asked[fits + 1 :]}
    assert sorted(piece for piece in seen if piece in texts[1::2]) == sorted(texts[1 : 2 * fits + 2 : 2])
