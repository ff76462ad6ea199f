"""Tool calls and responses as five kinds of templates write them, and as plain text where a template has no tools."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from made import byte_level_tokenizer
from rwml.core.tool_calls import ToolCall, call_text, calls_of, parse_message
from rwml.models.chat import ChatFormat
from rwml.models.tiny import TEMPLATE

# Tools in a system message, responses inside a user's turn.
JSON_CALL = (
    "{{ '<tool_call>\\n' + '{\"name\": \"' + c.function.name + '\", \"arguments\": ' + c.function.arguments | tojson }}"
    "{{ '}\\n</tool_call>' }}"
)
TAGS = (
    "{% if tools %}{{ '<|im_start|>system\\nTools:' }}{% for t in tools %}{{ '\\n' + t | tojson }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endif %}{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{% if not loop.first %}{{ '\\n' }}{% endif %}" + JSON_CALL + "{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# The same, with tags for each argument.
PARAMETERS = TAGS.replace(
    JSON_CALL,
    "{{ '<tool_call>\\n<function=' + c.function.name + '>\\n' }}{% for k, v in c.function.arguments.items() %}"
    "{{ '<parameter=' + k + '>\\n' + (v if v is string else v | tojson) + '\\n</parameter>\\n' }}{% endfor %}"
    "{{ '</function>\\n</tool_call>' }}",
)
# The same, with an empty thinking block in what follows the last user's message, which the prompt opens.
LAST = "{% set n = namespace(i=0) %}{% for m in messages if m.role == 'user' %}{% set n.u = m %}{% endfor %}"
THINKING = (
    TAGS.replace(
        "{% for m in messages %}", LAST + "{% for m in messages %}{% if m == n.u %}{% set n.i = 1 %}{% endif %}"
    )
    .replace(
        "'\\n' + m.content }}", "'\\n' + ('<think>\\n\\n</think>\\n\\n' if n.i and m != n.u else '') + m.content }}"
    )
    .replace("'<|im_start|>assistant\\n' }}{% endif %}", "'<|im_start|>assistant\\n<think>\\n' }}{% endif %}")
)
# Tools before the first user message's text, one call a message, responses as escaped JSON under a role of their own.
HEADERS = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "{% set role = 'ipython' if m.role == 'tool' else m.role %}"
    "{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}"
    "{% if loop.first and tools %}{% for t in tools %}{{ t | tojson + '\\n\\n' }}{% endfor %}{% endif %}"
    "{% if m.role == 'tool' %}{{ {'output': m.content} | tojson }}"
    "{% elif m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one call at once') }}{% endif %}"
    "{% set f = m.tool_calls[0].function %}"
    "{{ '{\"name\": \"' + f.name + '\", \"parameters\": ' + f.arguments | tojson + '}' }}"
    "{% else %}{{ m.content | trim }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
# Users and assistants must alternate, ids have nine characters, arguments are text, responses say what they answer.
BRACKETS = (
    "{{ '<s>' }}{% if tools %}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{% set n = namespace(i=0) %}{% for m in messages %}"
    "{% if m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}{{ raise_exception('bad id') }}{% endif %}"
    "{{ '[TOOL_RESULTS] ' + m.name + ': ' + m.content + '[/TOOL_RESULTS]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}{% set f = c.function %}"
    '{{ \'{"name": "\' + f.name + \'", "arguments": \' + f.arguments + \', "id": "\' + c.id + \'"}\' }}'
    "{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']</s>' }}"
    "{% else %}{% if (m.role == 'user') != (n.i % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set n.i = n.i + 1 %}{{ '[INST] ' + m.content + '[/INST]' if m.role == 'user' else ' ' + m.content + '</s>' }}"
    "{% endif %}{% endfor %}"
)
MARKS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
         "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]",
         "[/AVAILABLE_TOOLS]", "<|user|>", "<|assistant|>", "<|end|>"]  # fmt: skip
FAMILIES = {
    "tags": (TAGS, "<|im_end|>"),
    "parameters": (PARAMETERS, "<|im_end|>"),
    "thinking": (THINKING, "<|im_end|>"),
    "headers": (HEADERS, "<|eot_id|>"),
    "brackets": (BRACKETS, "</s>"),
    "tiny": (TEMPLATE, "<|end|>"),
}
NATIVE = ["tags", "parameters", "thinking", "headers", "brackets"]
# Those that write the present as they write the past.
ALIKE = ["tags", "parameters", "headers", "brackets"]

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_user",
        "description": "Look a user up.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
}
DONE: dict[str, Any] = {
    "type": "function",
    "function": {"name": "done", "parameters": {"type": "object", "properties": {}}},
}
BLOCK = f"<tools>\n{json.dumps(TOOL)}\n{json.dumps(DONE['function'])}\n</tools>\n\n"
OPENING = "The policy is short.\n\nuser: I am u1, and my phone is slow."
ONE = call_text([ToolCall("get_user", {"id": "u1"})])
OTHER = call_text([ToolCall("get_user", {"id": 'Zoë "Z" <b>'})])
TWO = call_text([ToolCall("done", {}), ToolCall("get_user", {"id": "u2"})])
DATA = '{"name": "Zoë", "lines": [1, null], "note": "a \\"b\\" <c>"}'
HISTORY = [(ONE, DATA), (OTHER, "Error: no such user"), ("Which user\nare you?", "u1, as I said."), (OTHER, DATA),
           ("", "Error: that could not be read."), ("Thank you.", "So?"), (ONE, "ok"), (ONE, DATA)]  # fmt: skip
QUESTION = "\n\nNext: {action}\nWhat will happen?"


def make_chat(family: str) -> ChatFormat:
    template, end = FAMILIES[family]
    texts = [BLOCK, OPENING, *(text for pair in HISTORY for text in pair)] * 3
    return ChatFormat(byte_level_tokenizer(template, end, MARKS, texts))


@pytest.fixture(scope="module", params=list(FAMILIES))
def chat(request: pytest.FixtureRequest) -> ChatFormat:
    return make_chat(request.param)


@pytest.fixture(scope="module", params=NATIVE)
def native(request: pytest.FixtureRequest) -> tuple[str, ChatFormat]:
    return request.param, make_chat(request.param)


def past(chat: ChatFormat, history: list[tuple[str, str]]) -> tuple[list[int], bool]:
    """The ids of a history, and whether it ends in a response."""
    ids, after_tool = chat.opening("Act.", BLOCK + OPENING), False
    for action, observation in history:
        calls = calls_of(action)
        if calls:
            ids += chat.past_calls(calls, observation, after_tool=after_tool)
        else:
            ids += chat.past_turn(action, observation, after_tool=after_tool)
        after_tool = bool(calls)
    return ids, after_tool


def messages_of(history: list[tuple[str, str]], *, arguments_as_text: bool) -> list[dict[str, Any]]:
    """The same history as a chat template takes it."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"Act.\n\n{OPENING}"}]
    for action, observation in history:
        calls = calls_of(action)
        if not calls:
            messages += [{"role": "assistant", "content": action}, {"role": "user", "content": observation}]
            continue
        functions = [
            {
                "name": c.name,
                "arguments": json.dumps(c.arguments, ensure_ascii=False) if arguments_as_text else c.arguments,
            }
            for c in calls
        ]
        written = [{"id": f"rwml{n:05d}", "type": "function", "function": f} for n, f in enumerate(functions)]
        messages.append({"role": "assistant", "content": "", "tool_calls": written})
        messages.append({"role": "tool", "content": observation, "tool_call_id": "rwml00000", "name": calls[0].name})
    return messages


def rendered(chat: ChatFormat, messages: list[dict[str, Any]]) -> str:
    render = chat.tokenizer.apply_chat_template
    return str(render(messages, tools=[TOOL, DONE], tokenize=False, add_generation_prompt=True))


def text_of(chat: ChatFormat, ids: list[int]) -> str:
    return str(chat.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def test_who_writes_tools(chat: ChatFormat) -> None:
    assert chat.tools.native == (chat.tokenizer.chat_template != TEMPLATE)


@pytest.mark.parametrize("family", ALIKE)
def test_a_history_reads_as_the_template_writes_it(family: str) -> None:
    """At every step, before the model's next message."""
    chat = make_chat(family)
    history = HISTORY if family == "headers" else [*HISTORY, (TWO, "ok\n{}"), (TWO, DATA)]
    for count in range(len(history) + 1):
        ids, after_tool = past(chat, history[:count])
        whole = rendered(chat, messages_of(history[:count], arguments_as_text=family == "brackets"))
        assert text_of(chat, ids + chat.ask(after_tool=after_tool)) == whole


@pytest.mark.parametrize("family", ["tags", "parameters"])
def test_a_history_has_the_tokens_of_its_whole_text(family: str) -> None:
    """Where a template lays messages side by side, between line ends, the cuts are cuts of the tokenizer too."""
    chat = make_chat(family)
    for count in range(len(HISTORY) + 1):
        ids, after_tool = past(chat, HISTORY[:count])
        assert ids + chat.ask(after_tool=after_tool) == chat.text(
            rendered(chat, messages_of(HISTORY[:count], arguments_as_text=False))
        )


def test_a_question_stands_in_a_users_message(native: tuple[str, ChatFormat]) -> None:
    family, chat = native
    for count in range(len(HISTORY) + 1):
        ids, after_tool = past(chat, HISTORY[:count])
        asked = text_of(chat, ids + chat.ask(QUESTION.format(action=ONE), after_tool=after_tool))
        messages = messages_of(HISTORY[:count], arguments_as_text=family == "brackets")
        if not after_tool:
            messages[-1]["content"] += QUESTION.format(action=ONE)
        elif family == "brackets":  # it refuses a user's message after a response
            assert asked.endswith(f"[/TOOL_RESULTS][INST] {QUESTION.format(action=ONE).lstrip()}[/INST]")
            continue
        else:
            messages.append({"role": "user", "content": QUESTION.format(action=ONE).lstrip()})
        assert asked == rendered(chat, messages)


def test_the_history_at_a_step_begins_the_history_at_the_next(chat: ChatFormat) -> None:
    draw = random.Random(0)
    for _ in range(20):
        history = draw.choices([*HISTORY, (TWO, "ok\n{}")], k=6)
        before: list[int] = []
        for count in range(7):
            ids, _ = past(chat, history[:count])
            assert ids[: len(before)] == before
            assert len(ids) > len(before)
            before = ids


@pytest.mark.parametrize("family", ALIKE)
def test_a_sampled_call_is_closed_once_and_answered(family: str) -> None:
    """With and without the stop token, the conversation continues exactly as the template would write it."""
    chat = make_chat(family)
    trunk, after_tool = past(chat, HISTORY[:2])
    start = trunk + chat.ask(after_tool=after_tool)
    written = {
        "tags": f"<tool_call>\n{OTHER}\n</tool_call>",
        "parameters": '<tool_call>\n<function=get_user>\n<parameter=id>\nZoë "Z" <b>\n</parameter>\n</function>\n'
        "</tool_call>",
        "headers": OTHER.replace("arguments", "parameters"),
        "brackets": f'[TOOL_CALLS] [{OTHER[:-1]}, "id": "rwml00000"}}]',
    }[family]
    assert parse_message(written) == OTHER
    whole = rendered(chat, messages_of([*HISTORY[:2], (OTHER, DATA)], arguments_as_text=family == "brackets"))
    written_ids = chat.text(written)
    for sampled in (written_ids, [*written_ids, chat.to_user[0]]):
        after = chat.turn_after(sampled, DATA, calls_of(OTHER)) + chat.ask(after_tool=True)
        assert text_of(chat, start + sampled + after) == whole


def test_tools_are_handed_to_the_template(native: tuple[str, ChatFormat]) -> None:
    _, chat = native
    text = text_of(chat, chat.opening("Act.", BLOCK + OPENING) + chat.ask())
    assert text == rendered(chat, [{"role": "user", "content": f"Act.\n\n{OPENING}"}])
    assert text.count("Look a user up.") == 1
    assert "<tools>" not in text
    plain = text_of(chat, chat.opening("Act.", OPENING))
    assert "get_user" not in plain
    assert chat.opening("Act.", OPENING)[: len(chat.user_open)] == chat.user_open


def test_a_block_that_is_no_list_of_tools_stays_in_the_text(native: tuple[str, ChatFormat]) -> None:
    _, chat = native
    for opening in ("<tools>\nhammer\n</tools>\n\nGo.", "<tools>\n[1]\n</tools>\n\nGo.", f"{BLOCK[:-2]} Go.",
                    '<tools>\n{"name": ""}\n</tools>\n\nGo.', f"Go.\n\n{BLOCK}"):  # fmt: skip
        assert chat.opening("", opening) == chat.user_open + chat.text(opening)


def test_without_native_tools_all_is_plain_text() -> None:
    chat = make_chat("tiny")
    ids, after_tool = past(chat, [*HISTORY[:3], (TWO, "ok")])
    tagged = [f"<tool_call>\n{line}\n</tool_call>" for line in (ONE, OTHER, *TWO.split("\n"))]
    response = "<|user|><tool_response>\n{}\n</tool_response><|end|>".format
    text = (
        f"<|user|>Act.\n\n{BLOCK}{OPENING}<|end|><|assistant|>{tagged[0]}<|end|>{response(DATA)}"
        f"<|assistant|>{tagged[1]}<|end|>{response('Error: no such user')}"
        f"<|assistant|>Which user\nare you?<|end|><|user|>u1, as I said.<|end|>"
        f"<|assistant|>{tagged[2]}\n{tagged[3]}<|end|>{response('ok')}"
    )
    assert text_of(chat, ids + chat.ask(after_tool=after_tool)) == f"{text}<|assistant|>"
    asked = text_of(chat, ids + chat.ask("\nThen?", after_tool=after_tool))
    assert asked == f"{text.removesuffix('<|end|>')}\nThen?<|end|><|assistant|>"
    written_ids = chat.text(tagged[0])
    after = chat.turn_after(written_ids, DATA, calls_of(ONE)) + chat.ask(after_tool=True)
    assert text_of(chat, after) == f"<|end|>{response(DATA)}<|assistant|>"


def test_calls_that_a_template_refuses_are_put_in_tags() -> None:
    """One call a message is what it takes; two are written all the same, and their response as any other."""
    chat = make_chat("headers")
    ids, _ = past(chat, [(TWO, "ok")])
    lines = [f"<tool_call>\n{line}\n</tool_call>" for line in TWO.split("\n")]
    assert text_of(chat, ids).endswith(
        "<|start_header_id|>assistant<|end_header_id|>\n\n" + "\n".join(lines)
        + '<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n{"output": "ok'
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("{% if tools %}", "{% if false %}", id="shows no tools"),
        pytest.param("{% for c in m.tool_calls or [] %}", "{% for c in [] %}", id="writes no calls"),
        pytest.param("<tool_call>", "<my_call>", id="writes calls that are not known here"),
        pytest.param("m.role == 'tool'", "m.role == 'tool' and raise_exception('no')", id="takes no responses"),
        pytest.param("'\\n</tool_response>", "'\\n' + m.content + '</tool_response>", id="doubles responses"),
        pytest.param("m.content + '\\n</tool", "m.content | upper + '\\n</tool", id="changes responses"),
    ],
)
def test_a_template_that_knows_half_of_it_gets_plain_text(old: str, new: str) -> None:
    chat = make_chat("tags")
    assert old in TAGS
    chat.tokenizer.chat_template = TAGS.replace(old, new)
    half = ChatFormat(chat.tokenizer)
    assert not half.tools.native
    ids, after_tool = past(half, HISTORY[:1])
    assert BLOCK in text_of(half, ids)
    assert text_of(half, half.ask(after_tool=after_tool)) == "\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


def test_a_thought_that_the_prompt_opens_is_known() -> None:
    assert make_chat("thinking").thought_open == "<think>"
    assert make_chat("tags").thought_open == ""


@pytest.mark.parametrize("text", [ONE, OTHER, TWO])
def test_a_message_with_calls_is_what_stands_between_the_turns(chat: ChatFormat, text: str) -> None:
    message = chat.tools.message(calls_of(text))
    assert parse_message(message) == text
    pieces = chat.tools.calls(calls_of(text))
    before = pieces.after_user.removesuffix(message + pieces.opening)
    assert before + message + pieces.opening == pieces.after_user
    opened = chat.tokenizer.decode(chat.to_assistant).removesuffix("<think>\n")
    assert opened == before, "what stands before the message is what lets the assistant write"
