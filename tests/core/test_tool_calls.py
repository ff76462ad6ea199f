"""Calls read out of what models write: formats, broken ones, and texts that only look like calls."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from rwml.core.tool_calls import Spoken, ToolCall, call_text, calls_of, parse_message, read_message

A = '{"name": "get_user", "arguments": {"id": "u1"}}'
B = '{"name": "done", "arguments": {}}'
TAGGED_A, TAGGED_B = f"<tool_call>\n{A}\n</tool_call>", f"<tool_call>\n{B}\n</tool_call>"
XML_A = "<tool_call>\n<function=get_user>\n<parameter=id>\nu1\n</parameter>\n</function>\n</tool_call>"


def one(**arguments: Any) -> str:
    return call_text([ToolCall("f", arguments)])


READ = {
    # Messages.
    "message": ("  Hello.\nHow can I help?\n", "Hello.\nHow can I help?"),
    "message with braces": ("Use {name} and [1], or {", "Use {name} and [1], or {"),
    "message that begins with a number in brackets": ("[1] Restart it.\n[2] Call me.", "[1] Restart it.\n[2] Call me."),
    "json that is no call": ('{"plan": "gold", "price": 3}', '{"plan": "gold", "price": 3}'),
    "json with a name only": ('{"name": "Anna"}', '{"name": "Anna"}'),
    "a tool's schema is no call": ('{"name": "f", "description": "", "parameters": {"type": "object"}}',) * 2,
    "broken json that is no call": ('{"plan": "gold", ', '{"plan": "gold",'),
    "empty list": ("[]", "[]"),
    "code fence that is no call": ('Set it so:\n```json\n{"apn": "x"}\n```', 'Set it so:\n```json\n{"apn": "x"}\n```'),
    "html is no call": ("Press <b>OK</b> in <function keys>", "Press <b>OK</b> in <function keys>"),
    # Hermes and Qwen.
    "hermes": (TAGGED_A, A),
    "hermes on one line": (f"<tool_call>{A}</tool_call>", A),
    "hermes without white space in the json": (
        '<tool_call>{"name":"f","arguments":{"x":[1,2]}}</tool_call>', one(x=[1, 2])),
    "hermes, arguments first": ('<tool_call>\n{"arguments": {"x": null}, "name": "f"}\n</tool_call>', one(x=None)),
    "two calls": (f"{TAGGED_A}\n{TAGGED_B}", f"{A}\n{B}"),
    "calls win over the text around them": (f"Let me see.\n\n{TAGGED_A}\nDone!", A),
    "text between calls": (f"{TAGGED_A} and then {TAGGED_B}", f"{A}\n{B}"),
    "last closing tag missing": (f"{TAGGED_A}\n<tool_call>\n{B}\n", f"{A}\n{B}"),
    "list in tags": (f"<tool_call>[{A}, {B}]</tool_call>", f"{A}\n{B}"),
    "no arguments in tags": ('<tool_call>{"name": "done"}</tool_call>', B),
    "null arguments": ('<tool_call>{"name": "done", "arguments": null}</tool_call>', B),
    "arguments as text": ('<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', one(x=1)),
    "empty text of arguments": ('<tool_call>{"name": "done", "arguments": ""}</tool_call>', B),
    "closing tag inside a string": ('<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>',
                                    one(x="</tool_call>")),
    "braces and quotes in strings": ('<tool_call>{"name": "f", "arguments": {"x": "}{\\"] {\\"a\\": 1"}}</tool_call>',
                                     one(x='}{"] {"a": 1')),
    "nested": ('<tool_call>{"name": "f", "arguments": {"x": {"y": [{"z": {}}, []]}}}</tool_call>',
               one(x={"y": [{"z": {}}, []]})),
    "unicode": ('<tool_call>{"name": "f", "arguments": {"größe": "你好 🎉", "y": "\\u00e9\\u2028"}}</tool_call>',
                one(größe="你好 🎉", y="é\u2028")),
    "a line end inside a string": ('<tool_call>{"name": "f", "arguments": {"x": "a\nb"}}</tool_call>', one(x="a\nb")),
    "numbers keep their kind": ('<tool_call>{"name": "f", "arguments": {"i": 1, "x": 1.0, "t": "1"}}</tool_call>',
                                one(i=1, x=1.0, t="1")),
    # Qwen3 Coder.
    "xml": (XML_A, A),
    "xml without tags around": (XML_A.replace("<tool_call>\n", "").replace("\n</tool_call>", ""), A),
    "xml after text, twice": (f"So:\n{XML_A}\n{XML_A}", f"{A}\n{A}"),
    "xml without parameters": ("<tool_call>\n<function=done>\n</function>\n</tool_call>", B),
    "xml values": ("<function=f><parameter=a>12</parameter><parameter=b>\n[1, \"x\"]\n</parameter><parameter=c>True"
                   "</parameter><parameter=d>02134</parameter><parameter=e>\na\n\nb\n</parameter><parameter=f>"
                   "</parameter></function>", one(a=12, b=[1, "x"], c=True, d="02134", e="a\n\nb", f="")),
    "function tag with json": ('<function=get_user>{"id": "u1"}</function>', A),
    # JSON without a mark.
    "plain": (A, A),
    "plain with parameters": ('{"name": "get_user", "parameters": {"id": "u1"}}', A),
    "plain list": (f"[{A},\n {B}]", f"{A}\n{B}"),
    "one call per line": (f"{A}\n{B}", f"{A}\n{B}"),
    "openai": (
        '{"id": "c1", "type": "function", "function": {"name": "get_user", "arguments": "{\\"id\\": \\"u1\\"}"}}', A),
    "openai without a type": ('[{"function": {"name": "get_user", "arguments": {"id": "u1"}}}]', A),
    "type beside name": ('{"type": "function", "name": "get_user", "parameters": {"id": "u1"}}', A),
    "spread over lines": (json.dumps(json.loads(A), indent=2), A),
    "fence": (f"```json\n{A}\n```", A),
    "fence after text": (f"I will look.\n\n```json\n[{A}]\n```\nOne moment.", A),
    "fence without a language": (f"```\n{A}\n```", A),
    "tags inside a plain call's string": ('{"name": "f", "arguments": {"x": "<tool_call>"}}', one(x="<tool_call>")),
    # Mistral and Llama.
    "mistral": (f"[TOOL_CALLS] [{A}, {B}]", f"{A}\n{B}"),
    "mistral with ids": ('[TOOL_CALLS][{"name": "done", "arguments": {}, "id": "abcdefghi"}]', B),
    "mistral by name": ('[TOOL_CALLS]get_user[ARGS]{"id": "u1"}[TOOL_CALLS]done{}', f"{A}\n{B}"),
    "llama": ('<|python_tag|>{"name": "get_user", "parameters": {"id": "u1"}}<|eom_id|>', A),
    "llama, two": (f"<|python_tag|>{A}; {B}", f"{A}\n{B}"),
    # The marks of other families.
    "glm": ("<tool_call>get_user\n<arg_key>id</arg_key>\n<arg_value>u1</arg_value>\n</tool_call>", A),
    "glm, no arguments": ("<tool_call>done\n</tool_call>", B),
    "glm, values": ("<tool_call>f<arg_key>a</arg_key><arg_value>12</arg_value><arg_key>b</arg_key><arg_value>x y"
                    "</arg_value></tool_call>", one(a=12, b="x y")),
    "deepseek v3": ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_user\n```json\n"
                    '{"id": "u1"}\n```<｜tool▁call▁end｜>\n'
                    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>done\n```json\n{}\n```"
                    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>", f"{A}\n{B}"),
    "deepseek v3.1": ('Well.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_user<｜tool▁sep｜>{"id": "u1"}'
                      "<｜tool▁call▁end｜><｜tool▁calls▁end｜>", A),
    "deepseek v3.2": ('<｜DSML｜function_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="x" string="true">y'
                      '</｜DSML｜parameter>\n<｜DSML｜parameter name="n" string="false">3</｜DSML｜parameter>\n'
                      "</｜DSML｜invoke>\n</｜DSML｜function_calls>", one(x="y", n=3)),
    "kimi": ("<|tool_calls_section_begin|><|tool_call_begin|>functions.get_user:0<|tool_call_argument_begin|>"
             '{"id": "u1"}<|tool_call_end|>'
             "<|tool_call_begin|>functions.done:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
             "<|tool_calls_section_end|>", f"{A}\n{B}"),
    "gpt-oss": ('<|channel|>analysis<|message|>done() first?<|end|><|start|>assistant<|channel|>commentary '
                'to=functions.get_user <|constrain|>json<|message|>{"id": "u1"}<|call|>', A),
    "gpt-oss, receiver first": ("<|start|>assistant to=functions.get_user<|channel|>commentary json<|message|>"
                                '{"id": "u1"}', A),
    "gpt-oss, message": ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello.",
                         "Hello."),
    "llama, python": ('[get_user(id="u1"), done()]', f"{A}\n{B}"),
    "lfm2": ("<|tool_call_start|>[get_user(id='u1')]<|tool_call_end|>Wait.", A),
    "gemma": ('```tool_code\nget_user(id="u1")\ndone()\n```', f"{A}\n{B}"),
    "olmo": ("<function_calls>\nf(x=[1, {'a': None}], y=-2.5)\n</function_calls>", one(x=[1, {"a": None}], y=-2.5)),
    "phi": (f"<|tool_call|>[{A}]<|/tool_call|>", A),
    "granite": (f"<|tool_call|>[{A}, {B}]", f"{A}\n{B}"),
    "cohere": ('<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "get_user", '
               '"parameters": {"id": "u1"}}\n]<|END_ACTION|>', A),
    "cohere, message": ("<|START_RESPONSE|>Hello.<|END_RESPONSE|>", "Hello."),
    "minimax": ('<minimax:tool_call>\n<invoke name="get_user">\n<parameter name="id">u1</parameter>\n</invoke>\n'
                '</minimax:tool_call>', A),
    "seed": (f"<seed:think>hm</seed:think>{XML_A.replace('tool_call', 'seed:tool_call')}", A),
    "nemotron": (f"<TOOLCALL>[{A}]</TOOLCALL>", A),
    "internlm": (f"I look.<|action_start|><|plugin|>\n{A}<|action_end|>", A),
    "arguments under args": ('<tool_call>{"name": "get_user", "args": {"id": "u1"}}</tool_call>', A),
    "arguments under input": ('<tool_call>{"name": "get_user", "input": {"id": "u1"}}</tool_call>', A),
    "a note in square brackets": ("[item(s) below]\nA lamp.", "[item(s) below]\nA lamp."),
    "a list that begins no call": ("[\n[\n{", "[\n[\n{"),
    # Thinking.
    "other marks of thinking": ("[THINK]hm[/THINK]Hello.", "Hello."),
    "kimi's thinking that the prompt opened": (f"{TAGGED_B}◁/think▷Hello.", "Hello."),
    "a closed thought in a call's string": (one(x="a</think>b"), one(x="a</think>b")),
    "thinking, then a message": ("<think>\nhm\n</think>\n\nHello.", "Hello."),
    "thinking, then a call": (f"<think>hm</think>{TAGGED_A}", A),
    "thinking that the prompt opened": (f"I need the user.\n</think>\n\n{TAGGED_A}", A),
    "a call quoted in thinking": (f"<think>I could write {TAGGED_B} now</think>\nHello.", "Hello."),
    "a call quoted in thinking that the prompt opened": (f"maybe\n{TAGGED_B}\nno\n</think>\n{TAGGED_A}", A),
    "plain call quoted in thinking": (f"<think>\n{B}\n</think>\n{A}", A),
    "two thoughts": (f"<think>a</think>\n<think>{TAGGED_B}</think>{TAGGED_A}", A),
    "a thought in the middle": ("Well. <think>hm</think>Hello.", "Well. Hello."),
    "a thinking tag inside a string": (
        '<tool_call>{"name": "f", "arguments": {"x": "<think>"}}</tool_call>', one(x="<think>")),
}  # fmt: skip

UNREADABLE = {
    "nothing": "",
    "white space": " \n",
    "thinking only": "<think>hm</think>\n",
    "unclosed thinking": f"<think>I should call {TAGGED_A}",
    "unclosed thinking in the middle": "Hello. <think>and",
    "cut off": '<tool_call>\n{"name": "f", "arguments": {"x": "a',
    "cut off before the last brace": '<tool_call>\n{"name": "f", "arguments": {"x": 1}',
    "one brace too many": '<tool_call>\n{"name": "f", "arguments": {"x": 1}}}\n</tool_call>',
    "two calls, one broken": f'{TAGGED_A}\n<tool_call>\n{{"name": "f", "arguments": }}\n</tool_call>',
    "two calls, the first broken": f"<tool_call>\n{{get_user}}\n</tool_call>\n{TAGGED_B}",
    "a closing tag missing in the middle": f"<tool_call>{A}\n{TAGGED_B}",
    "a lone opening tag": "<tool_call>",
    "a lone closing tag": f"{A}</tool_call>",
    "text in tags": "<tool_call>done()</tool_call>",
    "no name in tags": '<tool_call>{"arguments": {}}</tool_call>',
    "name that is not a text": '<tool_call>{"name": 7, "arguments": {}}</tool_call>',
    "empty name": '{"name": " ", "arguments": {}} </tool_call>',
    "empty list in tags": "<tool_call>[]</tool_call>",
    "arguments as a list": '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    "plain, arguments as a list": '{"name": "f", "arguments": [1]}',
    "arguments as broken text": '{"name": "f", "arguments": "{\\"x\\": "}',
    "a plain call cut off": '{"name": "f", "arguments": {"x": ',
    "a plain call cut off in its second key": '{"name": "f", "argu',
    "a fenced call cut off": 'Now:\n```json\n{"name": "f", "arguments": {',
    "a list in which one is no call": f'[{A}, {{"note": "x"}}]',
    "a list cut off": f"[{A}, ",
    "calls in lines, the second cut off": f'{A}\n{{"name": "f", "arguments": {{"x"',
    "calls on one line, the second cut off": f'{A}; {{"name": "f"',
    "mistral, cut off": f"[TOOL_CALLS] [{A}, ",
    "mistral with text": "[TOOL_CALLS] I would call get_user",
    "mistral, goes on after the list": f"[TOOL_CALLS] [{A}], {B}",
    "llama with python": '<|python_tag|>brave_search.call(query="x")',
    "xml cut off": "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n",
    "xml parameter unclosed": "<function=f><parameter=x>1<parameter=y>2</parameter></function>",
    "xml parameter twice": "<function=f><parameter=x>1</parameter><parameter=x>2</parameter></function>",
    "xml text between parameters": "<function=f><parameter=x>1</parameter> and </function>",
    "a form that is not known": "<|tool_request|>done<|tool_request_end|>",
    "another form": "<start_function_call>call:done{}<end_function_call>",
    "an answer that the model made up": "<｜tool▁outputs▁begin｜>4<｜tool▁outputs▁end｜>",
    "react": 'Action: get_user\nAction Input: {"id": "u1"}',
    "functionary": '>>>get_user\n{"id": "u1"}',
    "an argument without a name": '<|tool_call_start|>[get_user("u1")]<|tool_call_end|>',
    "an expression": "[f(x=1 + 1)]",
    "python cut off": '[get_user(id="u1"',
    "deepseek cut off": '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_user<｜tool▁sep｜>{"id": "u',
    "gpt-oss cut off": '<|channel|>commentary to=functions.get_user<|message|>{"id": ',
    "glm, a value without a key": "<tool_call>f<arg_value>1</arg_value></tool_call>",
    "arguments under a key of no form": '<tool_call>{"name": "f", "kwargs": {"x": 1}}</tool_call>',
    "nested deeper than can be kept": one(x=1).replace("1", "[" * 150 + "]" * 150),
    "more digits than can be kept": one(x=1).replace("1", "1" * 5000),
    "more digits, in python": f"[f(x={'1' * 5000})]",
    "an empty bracket": "<|START_ACTION|><|END_ACTION|>",
    "not a number": '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
    "infinity in disguise": '<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>',
    "half a surrogate pair": '<tool_call>{"name": "f", "arguments": {"x": "\\ud83c"}}</tool_call>',
    "too deep": '<tool_call>{"name": "f", "arguments": {"x": ' + "[" * 100_000 + "}}</tool_call>",
}


@pytest.mark.parametrize("case", READ)
def test_what_can_be_read(case: str) -> None:
    text, action = READ[case]
    assert parse_message(text) == action
    calls = calls_of(action)
    assert call_text(calls) == (action if calls else "")
    assert parse_message(action) == action, "an action reads as itself"


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read(case: str) -> None:
    assert parse_message(UNREADABLE[case]) is None


def test_calls_and_messages_are_kept_apart() -> None:
    assert calls_of(f"{A}\n{B}") == (ToolCall("get_user", {"id": "u1"}), ToolCall("done", {}))
    for message in ("", "Hello.", f"{A}\nHello.", f"{A}\n", A.replace(": ", ":"), f" {A}", '{"name": "f"}',
                    f"[{A}]", '{"name": "f", "arguments": []}', '{"name": "f", "arguments": {"x": NaN}}',
                    '{"name": "f", "arguments": {}, "id": 1}',
                    '{"name": "f", "arguments": {"x": 1, "x": 2}}'):  # fmt: skip
        assert calls_of(message) == (), message


def test_only_json_can_be_kept() -> None:
    with pytest.raises(ValueError, match="JSON"):
        call_text([ToolCall("f", {"x": float("nan")})])


def random_value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return "".join(draw.choices('ab"\\{}[]<>/,: \n\t\u2028\x85é你🎉', k=draw.randrange(9)))
    if kind == 1:
        return draw.choice(["</tool_call>", "<tool_call>", "<think>", "[TOOL_CALLS]", "```json", '{"name": "x"}', "1"])
    if kind == 2:
        return draw.choice([True, False, None])
    if kind == 3:
        return draw.choice([0, -7, 10**20, 0.1, 1e-9, -2.5e30])
    if kind == 4:
        return draw.randrange(1000)
    if kind == 5:
        return [random_value(draw, depth + 1) for _ in range(draw.randrange(3))]
    return {f"k{number}": random_value(draw, depth + 1) for number in range(draw.randrange(3))}


def test_every_call_comes_back_from_every_format() -> None:
    draw = random.Random(0)
    for _ in range(300):
        calls = tuple(
            ToolCall(name, {f"a{number}": random_value(draw) for number in range(draw.randrange(4))})
            for name in draw.choices(["f", "get_user", "send-x.y"], k=draw.randrange(1, 4))
        )
        text = call_text(calls)
        assert text.count("\n") == len(calls) - 1
        assert calls_of(text) == calls
        objects = [{"name": call.name, "arguments": call.arguments} for call in calls]
        functions = [{"name": call.name, "arguments": json.dumps(call.arguments)} for call in calls]
        openai = [{"type": "function", "function": function} for function in functions]
        for written in (
            text,
            "".join(f"<tool_call>\n{json.dumps(item, indent=1)}\n</tool_call>\n" for item in objects),
            f"<think>\n{text}\n</think>\n\nSo:\n[TOOL_CALLS] {json.dumps(objects)}",
            f"<|python_tag|>{'; '.join(text.split(chr(10)))}",
            f"```json\n{json.dumps(openai, indent=2)}\n```",
        ):
            assert parse_message(written) == text


def test_a_text_is_taken_apart_into_words_thoughts_and_calls() -> None:
    spoken = read_message(f"<think>One.</think>Well.\n{TAGGED_A}<think>Two.</think>")
    assert spoken == Spoken("Well.", (ToolCall("get_user", {"id": "u1"}),), "One.\nTwo.")
    assert read_message(f"```json\n{A}\n```") == Spoken("```", (ToolCall("get_user", {"id": "u1"}),), "")
    assert read_message("<tool_call>{") is None


LONG = 300_000
SLOW = {  # each takes hours where the time grows with the square of the length
    "mistral": "[TOOL_CALLS]a" + " " * LONG,
    "parameters": "<function=f>" + " " * LONG + "</function>",
    "open parameters": "<function=f>" + "<parameter=a>" * LONG + "</function>",
    "open lists": "[1,\n" * 990 + "1," * LONG,
    "broken objects": "{\n" * LONG,
    "angles": "<" * LONG,
    "name spaces": "<a:" * LONG,
    "harmony": "<|start|>" * LONG,
    "channels": "<|channel|>" * LONG,
    "thoughts": "</think>" * LONG,
    "open strings": '[f(x="' + "\\" * LONG,
    "python": "[f(\n" * LONG,
    "fences": "```\n" * LONG,
    "a fence": "```" + "\n" * LONG,
}


@pytest.mark.parametrize("case", SLOW)
@pytest.mark.slow
def test_the_time_grows_with_the_length_alone(case: str) -> None:
    text = SLOW[case]
    read = {"parameters": one(), "thoughts": text[len("</think>") :]}.get(case)
    assert parse_message(text) in ((read,) if read else (None, text.strip()))


def test_no_beginning_of_a_message_is_half_of_its_calls() -> None:
    """Cut off anywhere after the first mark, two calls are both or nothing, until the second has a mark of its own."""
    calls = '{"name": "f", "arguments": {"x": {"y": "}"}}}', '{"name": "g", "arguments": {"z": [1]}}'
    tagged = "".join(f"<tool_call>\n{call}\n</tool_call>\n" for call in calls)
    for whole, mark in ((tagged, "<tool_call>"), (f"[TOOL_CALLS] [{calls[0]}, {calls[1]}]", "[TOOL_CALLS]")):
        reads = {end: parse_message(whole[:end]) for end in range(len(mark), len(whole) + 1)}
        both = "\n".join(calls)
        assert reads[len(whole)] == both
        firsts = [end for end, read in reads.items() if read not in (None, both)]
        assert all(reads[end] == calls[0] and whole[:end].count(mark) == 1 for end in firsts)
        assert bool(firsts) == (mark == "<tool_call>")


def test_noise_is_read_or_not_but_never_fails() -> None:
    draw = random.Random(1)
    parts = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<function=f>", "</function>", "<parameter=x>",
             "</parameter>", "[TOOL_CALLS]", "<|python_tag|>", "```json", "```", "\n", " ", "{", "}", "[", "]", '"',
             ",", ":", "name", '"name"', '"arguments"', A, B, "é", "\\", ";", "1"]  # fmt: skip
    kinds = set()
    for _ in range(20_000):
        read = parse_message("".join(draw.choices(parts, k=draw.randrange(1, 9))))
        kinds.add(None if read is None else bool(calls_of(read)))
        if read is not None:
            assert read == read.strip() != ""
    assert kinds == {None, True, False}
