"""Files of all sorts: what becomes an episode, what is kept with a reason, and that nothing else disappears."""

from __future__ import annotations

import json
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
        "a record without messages",
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
