"""Chat pieces against `apply_chat_template`, for three families of templates on small tokenizers."""

from __future__ import annotations

from typing import Any

import pytest

from made import byte_level_tokenizer
from rwml.core.errors import RwmlError
from rwml.core.prompts import action_text, next_state_text
from rwml.models.chat import ChatFormat
from rwml.models.tiny import TAGS, TEMPLATE, train_tokenizer

# Opens with a default system message, and with an empty thinking block where the model is to answer.
CHATML = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THINKING = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n'")
HEADERS = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
MARKS = {
    "chatml": (CHATML, "<|im_end|>", ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]),
    "headers": (HEADERS, "<|end_of_text|>", ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                                             "<|end_header_id|>", "<|eot_id|>"]),
}  # fmt: skip
INSTRUCTION = "You act in a household.\nAnswer with one command."
OPENING = "You are in the middle of a room. You see a desk 1, and a drawer 2.\n\nYour task is to: put a pen in drawer."
EXCHANGES = [
    ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a pen 1."),
    ("take pen 1 from desk 1", "You pick up the pen 1 from the desk 1."),
    ("fly", "Nothing happens."),
    ("go to drawer 2", "Naïve “quotes”, 10% — and 你好 🎉"),
]


def corpus() -> list[str]:
    return [OPENING, INSTRUCTION, *(text for pair in EXCHANGES[:3] for text in (action_text(pair[0], "go"), pair[1]))]


def make_tokenizer(family: str) -> Any:
    if family == "tiny":
        return train_tokenizer(corpus(), 400)
    template, eos, marks = MARKS[family]
    return byte_level_tokenizer(template, eos, marks, [*corpus() * 3, "user\n\nassistant\n\n"])


@pytest.fixture(scope="module", params=["tiny", "chatml", "headers"])
def chat(request: pytest.FixtureRequest) -> ChatFormat:
    return ChatFormat(make_tokenizer(request.param))


def conversation(exchanges: list[tuple[str, str]]) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": f"{INSTRUCTION}\n\n{OPENING}"}]
    for action, observation in exchanges:
        messages.append({"role": "assistant", "content": action_text(action, "so")})
        messages.append({"role": "user", "content": observation})
    return messages


def rendered(chat: ChatFormat, messages: list[dict[str, str]], *, generation: bool) -> list[int]:
    text = chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_pieces_are_the_templates_own_tokens(chat: ChatFormat) -> None:
    """At every step: what the pieces make is what the tokenizer makes of the whole rendered conversation."""
    ids = chat.opening(INSTRUCTION, OPENING)
    assert ids + chat.ask() == rendered(chat, conversation([]), generation=True)
    for count, (action, observation) in enumerate(EXCHANGES, start=1):
        ids += chat.past_turn(action_text(action, "so"), observation)
        assert ids + chat.ask() == rendered(chat, conversation(EXCHANGES[:count]), generation=True)


def test_the_history_at_a_step_begins_the_history_at_the_next(chat: ChatFormat) -> None:
    trunk = chat.opening("", OPENING)
    before = trunk + chat.ask()
    for count, (action, observation) in enumerate(EXCHANGES, start=1):
        trunk = trunk + chat.past_turn(action_text(action), observation)
        now = trunk + chat.ask()
        shared = len(before) - len(chat.ask())
        assert now[:shared] == before[:shared], count
        assert len(now) > len(before)
        before = now


def test_an_opening_without_instruction_stands_alone(chat: ChatFormat) -> None:
    messages = [{"role": "user", "content": OPENING}]
    assert chat.opening("", OPENING) + chat.ask() == rendered(chat, messages, generation=True)


def test_a_sampled_turn_is_closed_once(chat: ChatFormat) -> None:
    """With and without the stop token, the conversation continues exactly as the template would write it."""
    start = chat.opening(INSTRUCTION, OPENING) + chat.ask()
    written_ids = chat.text(action_text("go to desk 1", "so"))
    stop = chat.to_user[0]
    whole = rendered(chat, conversation(EXCHANGES[:1]), generation=True)
    stopped, cut = [*written_ids, stop], written_ids
    assert start + stopped + chat.turn_after(stopped, EXCHANGES[0][1]) + chat.ask() == whole
    assert start + cut + chat.turn_after(cut, EXCHANGES[0][1]) + chat.ask() == whole
    assert start + chat.turn_after([], EXCHANGES[0][1])[:1] == [*start, stop]


def test_the_stop_token_and_the_tags(chat: ChatFormat) -> None:
    tokenizer = chat.tokenizer
    ends = {"<|end|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>"}
    assert {tokenizer.convert_ids_to_tokens(i) for i in chat.stop_ids} <= ends
    assert chat.to_user[0] in chat.stop_ids
    assert tokenizer.eos_token_id in chat.stop_ids
    text = next_state_text("You see a pen 1, and 你好.", "known")
    assert chat.decode([*chat.text(text), chat.to_user[0]]) == text


def test_headers_stop_at_both_ends() -> None:
    chat = ChatFormat(make_tokenizer("headers"))
    assert sorted(chat.tokenizer.convert_ids_to_tokens(sorted(chat.stop_ids))) == ["<|end_of_text|>", "<|eot_id|>"]


def test_tags_of_the_tiny_model_are_single_tokens_and_stay_in_the_text() -> None:
    chat = ChatFormat(make_tokenizer("tiny"))
    assert [len(chat.text(tag)) for tag in TAGS] == [1] * len(TAGS)
    assert chat.tokenizer.chat_template == TEMPLATE
    assert chat.decode(chat.text(action_text("look", ""))) == "<think></think><action>look</action>"


def test_a_thinking_block_of_the_generation_prompt_is_not_put_into_the_history() -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = THINKING
    chat = ChatFormat(tokenizer)
    assert tokenizer.decode(chat.to_assistant).endswith("<think>\n\n</think>\n\n")
    assert "<think>" not in tokenizer.decode(chat.history_to_assistant)
    ids = chat.opening("", OPENING) + chat.past_turn("look", "A desk.") + chat.ask()
    messages = [
        {"role": "user", "content": OPENING},
        {"role": "assistant", "content": "look"},
        {"role": "user", "content": "A desk."},
    ]
    assert ids == rendered(chat, messages, generation=True)


def test_a_thought_that_the_prompt_opens_is_no_part_of_the_completion() -> None:
    """What the prompt and a completion make together is the message, whatever the template's prompt ends in."""
    tokenizer = make_tokenizer("chatml")
    messages = [next_state_text("A desk."), action_text("look", "hm"), "<think>\nhm\n</think>\n\nHello.", "<think>hm"]
    for template in (CHATML, THINKING):
        tokenizer.chat_template = template
        chat = ChatFormat(tokenizer)
        assert [chat.completion_of(text) for text in messages] == messages
        assert [chat.message_of(text) for text in messages] == messages
        assert chat.completion_of("Hello.") == "Hello."
    tokenizer.chat_template = THINKING.replace("<think>\\n\\n</think>\\n\\n", "<think>\\n")
    chat = ChatFormat(tokenizer)
    assert tokenizer.decode(chat.to_assistant).endswith("assistant\n<think>\n")
    assert chat.completion_of(messages[0]) == "</think><next_state>A desk.</next_state>"
    assert chat.completion_of(messages[1]) == "hm</think><action>look</action>"
    assert [chat.message_of(chat.completion_of(text)) for text in messages] == messages
    assert chat.completion_of("Hello.") == "</think>Hello."
    assert chat.completion_of("hm</think>Hello.") == "hm</think>Hello.", "a completion is one already"


@pytest.mark.parametrize(
    ("template", "what"),
    [
        pytest.param(CHATML.replace("m.content", "m.content | upper"), "each message exactly once", id="upper"),
        pytest.param(CHATML.replace("m.content", "m.content | lower"), "each message exactly once", id="lower"),
        pytest.param(CHATML.replace("in messages %}", "in messages[-1:] %}"), "each message exactly once", id="drops"),
        pytest.param(CHATML.replace("m.content", "m.content + m.content"), "each message exactly once", id="doubles"),
        pytest.param(CHATML.replace("in messages %}", "in messages | reverse %}"), "in their order", id="reorders"),
        pytest.param("{{ raise_exception('no system message') }}", "no system message", id="raises"),
        pytest.param("{% for %}", "cannot be rendered", id="broken"),
    ],
)
def test_a_template_that_cannot_serve_is_refused(template: str, what: str) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = template
    with pytest.raises(RwmlError) as caught:
        ChatFormat(tokenizer, "'some/model'")
    assert what in caught.value.what
    assert "some/model" in caught.value.what
    assert caught.value.why
    assert "template" in caught.value.fix


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = None
    with pytest.raises(RwmlError) as caught:
        ChatFormat(tokenizer, "'some/model'")
    assert caught.value.what == "'some/model' has no chat template"
    assert "chat turns" in caught.value.why
    assert "chat_template.jinja" in caught.value.fix
