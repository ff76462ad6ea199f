"""Files of all sorts: what becomes an episode, what is kept with a reason, and that nothing else disappears."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.types import StopReason
from rwml.exchange.importer import Imported, check_paths, import_files

LOG: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Is it sunny?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "sky", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "blue"},
        {"role": "assistant", "content": "Yes. Which town was it?"},
        {"role": "user", "content": "Zürich 🌞"},
    ]
}


def take(folder: Path, content: str | bytes, name: str = "logs.jsonl") -> Imported:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done: list[int] = []
    imported = import_files(check_paths([path]), done.append)
    (counts,) = imported.files
    assert counts.items == counts.episodes + counts.rejected
    assert len(imported.episodes) == counts.episodes
    assert len(imported.rejected) == counts.rejected + counts.broken
    assert len({episode.id for episode in imported.episodes}) == counts.episodes
    assert sum(done) >= path.stat().st_size
    return imported


def reasons(imported: Imported) -> list[tuple[str, str]]:
    return [(item.item, item.reason) for item in imported.rejected]


def test_a_record_with_all_its_fields(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "sky"}}, {"name": "sea"}]
    record = LOG | {"tools": tools, "id": "r7", "task": "sun", "split": "test", "success": True, "model": "m"}
    (episode,) = take(tmp_path, json.dumps(record)).episodes
    assert episode.id == "sun#r7"
    assert (episode.task.id, episode.task.world, episode.task.split, episode.task.kind) == (
        "sun",
        "chat",
        "test",
        "chat",
    )
    assert (episode.policy, episode.rollout, episode.stop, episode.success) == ("m", 0, StopReason.SUCCESS, True)
    assert episode.opening == (
        '<tools>\n{"type": "function", "function": {"name": "sky"}}\n{"type": "function", "function": {"name": "sea"}}'
        "\n</tools>\n\nBe kind.\n\nUser: Is it sunny?"
    )
    assert [(s.action, s.observation, s.kind) for s in episode.steps] == [
        ('{"name": "sky", "arguments": {}}', "blue", "tool"),
        ("Yes. Which town was it?", "Zürich 🌞", "user"),
    ]


def test_logs_with_one_opening_are_one_task(tmp_path: Path) -> None:
    other = {"messages": [{"role": "user", "content": "Another."}, *LOG["messages"][2:]]}
    imported = take(tmp_path, "\n".join(json.dumps(x) for x in (LOG, LOG["messages"], other)))
    first, second, third = imported.episodes
    assert first.task.id == second.task.id != third.task.id
    assert [episode.rollout for episode in imported.episodes] == [0, 1, 0]
    assert first.id == f"{first.task.id}#log0"
    assert first.task.split == "train"
    assert imported.left_out == {"outcomes that are not stated": 3}


@pytest.mark.parametrize(
    ("stated", "success"),
    [
        ({"success": False}, False),
        ({"reward": 1}, True),
        ({"reward": 0.9}, False),
        ({"success": None, "reward": 1.0}, True),
    ],
)
def test_success_and_reward(tmp_path: Path, stated: dict[str, Any], success: bool) -> None:
    imported = take(tmp_path, json.dumps(LOG | stated))
    assert imported.episodes[0].success is success
    assert imported.left_out == {}


def test_broken_lines_are_kept_with_their_reason(tmp_path: Path) -> None:
    good = json.dumps(LOG)
    bad = {
        1: '{"messages": [',
        2: "[]",
        3: "{}",
        4: '"hello"',
        5: '{"messages": []}',
        6: '{"messages": "none"}',
        7: '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}',
        8: '{"messages": [{"content": "no role"}]}',
        9: json.dumps(LOG | {"tools": "sky"}),
        10: json.dumps(LOG | {"split": ["train"]}),
        11: json.dumps({"task_id": "1", "termination_reason": "user_stop", "messages": []}),
        12: "[" * 100_000,
        13: "hello",
        14: "7" * 5000,
    }
    imported = take(tmp_path, "\n".join([*bad.values(), good, "", "  ", good]))
    assert len(imported.episodes) == 2
    assert [(item.item, item.text.strip("\n")) for item in imported.rejected] == [
        (f"line {number}", line) for number, line in bad.items()
    ]
    assert [item.reason for item in imported.rejected] == [
        "no JSON",
        "a record without messages",
        "a record without messages",
        "a record is not an object",
        "a record without messages",
        "messages is a text that is not JSON",
        "no action with a next state",
        "a message has no known role",
        "tools is not a list of objects",
        "split is not a text",
        "a tau2 simulation without its results file",
        "no JSON",
        "no JSON",
        "no JSON",
    ]


def test_a_log_that_is_broken_on_the_way_keeps_its_good_part(tmp_path: Path) -> None:
    messages = [*LOG["messages"][:4], {"role": "wizard"}, *LOG["messages"][4:]]
    imported = take(tmp_path, json.dumps({"messages": messages, "success": True}))
    (episode,), (rejected,) = imported.episodes, imported.rejected
    assert [step.observation for step in episode.steps] == ["blue"]
    assert episode.stop is StopReason.ERROR
    assert episode.error == "the log breaks off: a message has no known role: message 4: role is 'wizard'"
    assert (rejected.item, rejected.reason, rejected.kept_steps) == ("line 1", "a message has no known role", 1)
    assert json.loads(rejected.text)["messages"] == messages


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom", b"\xef\xbb\xbf" + json.dumps(LOG, ensure_ascii=False).encode()),
        ("crlf", json.dumps(LOG, ensure_ascii=False).encode() + b"\r\n\r\n"),
        ("utf-16", json.dumps(LOG, ensure_ascii=False).encode("utf-16")),
        ("pretty", json.dumps(LOG, indent=2).encode()),
        ("list", json.dumps([LOG]).encode()),
        ("pretty list", json.dumps([LOG], indent=2).encode()),
        ("bare", json.dumps(LOG["messages"]).encode()),
        ("pretty bare", b"\n" + json.dumps(LOG["messages"], indent=1).encode()),
        ("line separator", json.dumps(LOG, ensure_ascii=False).replace("sunny", "sunny\u2028\x85").encode()),
    ],
)
def test_encodings_and_forms(tmp_path: Path, name: str, content: bytes) -> None:
    imported = take(tmp_path, content)
    assert reasons(imported) == []
    assert imported.episodes[0].steps[1].observation == "Zürich 🌞"


def test_a_huge_line(tmp_path: Path) -> None:
    messages = [*LOG["messages"][:3], {"role": "tool", "tool_call_id": "1", "content": "x" * 5_000_000}]
    imported = take(tmp_path, json.dumps({"messages": messages}) + "\n" + json.dumps(LOG))
    assert [len(episode.steps) for episode in imported.episodes] == [1, 2]
    assert len(imported.episodes[0].steps[0].observation) == 5_000_000


def test_characters_that_are_no_unicode_are_replaced_and_counted(tmp_path: Path) -> None:
    text = json.dumps(LOG)
    half = text.replace("\\ud83c", "")  # the sun without its first half
    bytes_ = json.dumps(LOG, ensure_ascii=False).encode().replace("ü".encode(), b"\xfc")  # latin-1
    imported = take(tmp_path, half.encode() + b"\n" + bytes_ + b"\n" + text.encode())
    assert [e.steps[1].observation for e in imported.episodes] == ["Zürich \ufffd", "Z\ufffdrich 🌞", "Zürich 🌞"]
    assert imported.left_out["logs with characters that are not Unicode"] == 2


def test_documents_that_break_off(tmp_path: Path) -> None:
    whole = json.dumps([LOG, LOG, LOG], indent=1)
    imported = take(tmp_path, whole[:-200], "cut.json")
    assert len(imported.episodes) == 2
    assert reasons(imported) == [("end of the document", "the file breaks off")]
    assert whole[:-200].endswith(imported.rejected[0].text)

    bare = json.dumps(LOG["messages"], indent=1)
    imported = take(tmp_path, bare[:-20], "bare.json")
    (episode,) = imported.episodes
    assert ([len(episode.steps)], episode.stop) == ([1], StopReason.ERROR)
    assert reasons(imported) == [("document", "the file breaks off")]

    for text in ("", "\n \n", "{", '{"messages": [{"role": "user"', json.dumps(LOG, indent=1)[:-9]):
        imported = take(tmp_path, text, "one.json")
        assert imported.episodes == []
        assert [item.text for item in imported.rejected] == [text.lstrip()]


def test_a_first_line_that_is_broken_does_not_take_the_others_along(tmp_path: Path) -> None:
    imported = take(tmp_path, '{"messages": [{"role"\n' + json.dumps(LOG) + "\n" + json.dumps(LOG))
    assert len(imported.episodes) == 2
    assert reasons(imported) == [("line 1", "no JSON")]


def test_files_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    for paths, words in (([tmp_path / "b"], "there is no file"), ([path, path], "twice"), ([tmp_path], "results.json")):
        with pytest.raises(RwmlError, match=words):
            check_paths(paths)


def test_documents_one_after_another(tmp_path: Path) -> None:
    other = {"messages": [{"role": "user", "content": "Another."}, *LOG["messages"][2:]]}
    both = json.dumps(LOG, indent=1), json.dumps(other, indent=1)
    for text in ("\n".join(both), "".join(both), ",\n".join(both), json.dumps(LOG) + json.dumps(other)):
        imported = take(tmp_path, text, "jq.json")
        assert reasons(imported) == []
        assert [episode.opening[-11:] for episode in imported.episodes] == ["s it sunny?", "r: Another."]
    cut_off = take(tmp_path, "\n".join(both)[:-5])
    assert len(cut_off.episodes) == 1
    assert [item.reason for item in cut_off.rejected] == ["no JSON"]
    lines = take(tmp_path, f"{json.dumps(LOG)}{json.dumps(other)}\n{{\n{json.dumps(LOG)} x\n{json.dumps(other)}")
    assert len(lines.episodes) == 4
    assert [item.text.strip() for item in lines.rejected] == ["{", "x"]


def test_a_part_that_is_nested_too_deep_costs_only_itself(tmp_path: Path) -> None:
    deep = json.dumps(LOG | {"id": "x"}).replace('"x"', "[" * 150 + "]" * 150)
    for text in (f"{json.dumps(LOG)}\n{deep}\n{json.dumps(LOG)}", f"[{json.dumps(LOG)}, {deep},\n{json.dumps(LOG)}]"):
        imported = take(tmp_path, text)
        assert len(imported.episodes) == 2
        assert [(item.reason, item.text.strip()) for item in imported.rejected] == [("nested too deep", deep)]


def test_escapes_of_half_characters_within_strings_do_not_stop_the_import(tmp_path: Path) -> None:
    broken = json.loads(json.dumps(LOG))
    broken["messages"][2]["tool_calls"][0]["function"]["arguments"] = '{"at": "\\ud83d"}'
    broken["messages"][3]["content"] = '{"\\ud83d": 1}'
    imported = take(tmp_path, f"{json.dumps(LOG)}\n{json.dumps(broken)}")
    step = imported.episodes[1].steps[0]
    assert (step.action, step.observation) == ('{"name": "sky", "arguments": {"at": "\ufffd"}}', '{"\\ufffd": 1}')
    assert imported.left_out["characters that are not Unicode, in JSON within a text"] == 2


def test_requests_that_were_logged_one_by_one_are_one_episode(tmp_path: Path) -> None:
    requests = [json.dumps({"messages": LOG["messages"][:end], "id": f"r{end}"}) for end in (2, 4, 6)]
    imported = take(tmp_path, "\n".join(requests))
    assert [len(episode.steps) for episode in imported.episodes] == [2]
    assert reasons(imported) == [("line 1", "no action with a next state"), ("line 2", "the beginning of a longer log")]
    assert imported.rejected[1].detail.startswith("all of it is in line 3 of ")
    assert imported.rejected[1].text == '{"id": "r4"}'
    differing = [json.dumps({"messages": LOG["messages"][:end], "success": end == 4}) for end in (4, 6)]
    imported = take(tmp_path, "\n".join(differing))
    assert [episode.success for episode in imported.episodes] == [True, False]
    assert imported.left_out["logs that begin another one, and are kept"] == 1


def test_messages_and_tools_as_json_texts(tmp_path: Path) -> None:
    tools = [{"name": "sky", "input_schema": {"type": "object"}}, {"type": "web_search"}]
    record = {"messages": json.dumps(LOG["messages"]), "tools": json.dumps(tools)}
    imported = take(tmp_path, json.dumps(record))
    (episode,) = imported.episodes
    assert episode.opening.startswith(
        '<tools>\n{"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}}\n</tools>'
    )
    assert len(episode.steps) == 2
    assert imported.left_out["tools without a schema"] == 1


def test_trajectories_of_tau_bench(tmp_path: Path) -> None:
    runs = [{"task_id": task, "reward": reward, "traj": LOG["messages"], "trial": trial, "info": {}}
            for task, trial, reward in ((3, 0, 1.0), (3, 1, 0.0), (4, 0, 1.0))]  # fmt: skip
    imported = take(tmp_path, json.dumps(runs), "gpt-airline.json")
    first, again, other = imported.episodes
    assert first.task.id == again.task.id == f"{other.task.id[:-1]}3"
    assert [episode.rollout for episode in imported.episodes] == [0, 1, 0]
    assert [episode.success for episode in imported.episodes] == [True, False, True]
    assert first.task.id.startswith("tau-bench-")
    assert first.task.id.endswith("/3")


def test_conversations_of_sharegpt(tmp_path: Path) -> None:
    record = {
        "system": "Be kind.",
        "tools": '[{"name": "sky", "parameters": {}}]',
        "conversations": [
            {"from": "human", "value": "Is it sunny?"},
            {"from": "function_call", "value": '{"name": "sky", "arguments": {}}'},
            {"from": "observation", "value": "blue"},
            {"from": "gpt", "value": "Yes. More?"},
            {"from": "human", "value": "No."},
        ],
    }
    (episode,) = take(tmp_path, json.dumps([record])).episodes
    assert episode.opening.endswith("</tools>\n\nBe kind.\n\nUser: Is it sunny?")
    assert [(step.action, step.observation) for step in episode.steps] == [
        ('{"name": "sky", "arguments": {}}', "blue"),
        ("Yes. More?", "No."),
    ]


def test_a_name_that_is_not_utf_8_is_written_with_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.jsonl"
    path.write_text(json.dumps(LOG) + "\n{")
    imported = import_files(check_paths([path]))
    assert len(imported.episodes) == 1
    assert [Path(name).name for name in (imported.files[0].path, imported.rejected[0].file)] == ["caf\ufffd.jsonl"] * 2


def test_results_whose_simulations_are_no_list(tmp_path: Path) -> None:
    imported = take(tmp_path, json.dumps({"info": {}, "tasks": [], "simulations": 3.5}))
    assert reasons(imported) == [("document", "simulations is not a list")]


def test_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RwmlError, match="is not a file"):
        check_paths([tmp_path / "pipe"])
