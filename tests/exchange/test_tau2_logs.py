"""180 simulations of real agents against numbers counted by brute force, and tau2's files in other shapes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rwml.core.tool_calls import calls_of
from rwml.core.types import Episode, StopReason
from rwml.exchange.importer import Imported, check_paths, import_files
from rwml.exchange.tau2_logs import official_split

pytestmark = pytest.mark.slow  # seconds in all

# Counted in the raw JSON by a script of its own: tool messages that answer the agent, those of them with an error,
# and messages of the user with text, less the one that opens each dialogue.
BY_FILE = {
    "airline_default_gpt-4.1": {"episodes": 20, "tool": 148, "user": 116, "errors": 1, "solved": 10},
    "retail_default_gpt-4.1": {"episodes": 40, "tool": 299, "user": 250, "errors": 12, "solved": 34},
    "telecom_default_gpt-4.1": {"episodes": 40, "tool": 207, "user": 416, "errors": 0, "solved": 18},
    "telecom_default_gpt-4.1-sft": {"episodes": 40, "tool": 656, "user": 357, "errors": 10, "solved": 30},
    "telecom_solo_gpt-4.1": {"episodes": 40, "tool": 626, "user": 0, "errors": 2, "solved": 20},
}


@pytest.fixture(scope="module")
def documents(tau2_simulations: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(tau2_simulations.glob("*.json"))}


@pytest.fixture(scope="module")
def imported(tau2_simulations: Path) -> Imported:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TAU2_DATA_DIR", raising=False)
        return import_files(check_paths(sorted(tau2_simulations.glob("*.json"))))


def _by_file(imported: Imported) -> dict[str, list[Episode]]:
    found, start = {}, 0
    for counts in imported.files:
        found[Path(counts.path).stem] = imported.episodes[start : start + counts.episodes]
        start += counts.episodes
    return found


def test_all_simulations_import_and_the_counts_by_kind_hold(imported: Imported) -> None:
    assert imported.rejected == []
    found = {}
    for name, episodes in _by_file(imported).items():
        steps = [step for episode in episodes for step in episode.steps]
        kinds = Counter(step.kind for step in steps)
        found[name] = {
            "episodes": len(episodes),
            "tool": kinds["tool"],
            "user": kinds["user"],
            "errors": sum(not step.valid for step in steps),
            "solved": sum(episode.success for episode in episodes),
        }
    assert found == BY_FILE
    assert all(step.parsed for episode in imported.episodes for step in episode.steps)


def test_what_the_agent_saw_is_there_in_its_order_and_nothing_else(
    imported: Imported, documents: dict[str, Any]
) -> None:
    for name, episodes in _by_file(imported).items():
        for episode, simulation in zip(episodes, documents[name]["simulations"], strict=True):
            solo = "solo" in name
            seen = [
                message["content"].strip()
                for message in simulation["messages"]
                if message.get("requestor") != "user" and message["role"] in ("user", "tool") and message["content"]
            ]
            expected = seen if solo else seen[1:]
            assert [step.observation.strip() for step in episode.steps] == expected
            assert solo or f"\n\nUser: {seen[0]}" in episode.opening


def test_actions_are_the_calls_and_the_messages(imported: Imported, documents: dict[str, Any]) -> None:
    for name, episodes in _by_file(imported).items():
        for episode, simulation in zip(episodes, documents[name]["simulations"], strict=True):
            made = [m for m in simulation["messages"] if m["role"] == "assistant"]
            called = [(c["name"], c["arguments"]) for m in made for c in m["tool_calls"] or ()]
            said = [m["content"] for m in made if m["content"]]
            ours = [(c.name, c.arguments) for step in episode.steps for c in calls_of(step.action)]
            assert ours == called
            user_texts = [step.action for step in episode.steps if step.kind == "user"]
            assert user_texts == ([] if "solo" in name else [text.strip() for text in said[1:]])


def test_ends_are_kept_apart(imported: Imported) -> None:
    stops = {name: Counter(e.stop.value for e in episodes) for name, episodes in _by_file(imported).items()}
    # Five dialogues ran into 200 steps, and one was ended by the tenth tool error: a failure.
    assert stops["telecom_default_gpt-4.1-sft"] == {"success": 30, "failure": 5, "step_limit": 5}
    assert stops["telecom_solo_gpt-4.1"] == {"success": 20, "failure": 20}
    assert imported.left_out == {"messages with no next state": 40, "tool calls of users and their responses": 1744}
    assert sum(episode.stop is StopReason.ERROR for episode in imported.episodes) == 0


def test_tasks_of_both_modes_and_agents(imported: Imported) -> None:
    assert Counter(e.task.kind for e in imported.episodes) == {
        "airline": 20, "retail": 40, "telecom": 80, "telecom-solo": 40
    }  # fmt: skip
    assert len({e.task.id for e in imported.episodes}) == 140
    assert len({e.id for e in imported.episodes}) == 180
    assert {e.rollout for e in imported.episodes} == {0}
    assert {e.task.split for e in imported.episodes} == {"train"}
    assert len(imported.notes) == 3
    assert all("TAU2_DATA_DIR" in note for note in imported.notes)


def test_nothing_that_is_hidden_from_the_agent_reaches_an_opening(
    imported: Imported, documents: dict[str, Any]
) -> None:
    for name, episodes in _by_file(imported).items():
        tasks = {task["id"]: task for task in documents[name]["tasks"]}
        policy = documents[name]["info"]["environment_info"]["policy"].strip()
        for episode, simulation in zip(episodes, documents[name]["simulations"], strict=True):
            task = tasks[simulation["task_id"]]
            instructions = task["user_scenario"]["instructions"]
            assert episode.opening.startswith(policy)
            rest = episode.opening[len(policy) :]
            hidden = [
                instructions["reason_for_call"],
                instructions["task_instructions"],
                task["user_scenario"]["persona"],
            ]
            assert not [text for text in hidden if text and len(text) > 9 and text.strip() in rest]
            if "solo" in name:
                assert rest == f"\n\nTicket: {task['ticket'].strip()}"
            else:
                assert rest.count("\n\nAgent: Hi! How can I help you today?\n\nUser: ") == 1
                assert "\n\nAbout the user: " in rest
                assert not task["ticket"] or task["ticket"] not in rest


def test_official_splits_are_kept(
    tau2_simulations: Path, tau2_data: Path, documents: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAU2_DATA_DIR", str(tau2_data))
    imported = import_files(check_paths(sorted(tau2_simulations.glob("*.json"))))
    assert imported.notes == []
    for name, episodes in _by_file(imported).items():
        domain = documents[name]["info"]["environment_info"]["domain_name"]
        splits = json.loads((tau2_data / "tau2" / "domains" / domain / "split_tasks.json").read_text())
        for episode, simulation in zip(episodes, documents[name]["simulations"], strict=True):
            assert simulation["task_id"] in splits["test"]
            assert episode.task.split == "test"
    trained = json.loads((tau2_data / "tau2" / "domains" / "retail" / "split_tasks.json").read_text())["train"]
    assert official_split("retail", trained[0]) == "train"
    assert official_split("retail", "unheard of") == "other"
    assert official_split("mock", "create_task_1") is None


@pytest.mark.slow
def test_tasks_without_a_split_can_be_held_out(
    tau2_simulations: Path, imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAU2_DATA_DIR", raising=False)
    paths = sorted(tau2_simulations.glob("*.json"))
    held = import_files(paths, hold_out=0.3)
    by_task = {e.task.id: e.task.split for e in held.episodes}
    share = sum(split == "test" for split in by_task.values()) / len(by_task)
    assert 0.2 < share < 0.4
    for episode in held.episodes:
        assert by_task[episode.task.id] == episode.task.split
        assert by_task.get(episode.task.id.replace("telecom-solo/", "telecom/")) == episode.task.split
    assert [e.steps for e in held.episodes] == [e.steps for e in imported.episodes]
    less = {e.task.id for e in import_files(paths, hold_out=0.1).episodes if e.task.split == "test"}
    assert less < {task for task, split in by_task.items() if split == "test"}


def _small(documents: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    """A results document with one simulation, changed."""
    document = documents[name]
    return document | {"simulations": [document["simulations"][0] | changes]}


def _take(path: Path, document: Any) -> Imported:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return import_files([path])


@pytest.mark.parametrize(
    ("reason", "reward", "stop", "error"),
    [
        ("user_stop", 1.0, "success", ""),
        ("agent_stop", 0.0, "failure", ""),
        ("user_stop", 0.9999999, "success", ""),
        ("max_steps", 0.0, "step_limit", ""),
        ("context_window_exceeded", 0.0, "context_limit", ""),
        ("too_many_errors", 0.0, "failure", ""),
        ("timeout", None, "error", "tau2 ended the simulation: timeout"),
        ("user_error", 0.0, "error", "tau2 ended the simulation: user_error"),
        ("what is this", 0.0, "error", "tau2 ended the simulation: what is this"),
    ],
)
def test_reasons_for_an_end(
    documents: dict[str, Any], tmp_path: Path, reason: str, reward: float | None, stop: str, error: str
) -> None:
    ending = {"termination_reason": reason, "reward_info": None if reward is None else {"reward": reward}}
    imported = _take(tmp_path / "a.json", _small(documents, "retail_default_gpt-4.1", **ending))
    (episode,) = imported.episodes
    assert (episode.stop.value, episode.error, episode.success) == (stop, error, bool(reward and reward > 0.99))
    assert imported.left_out["outcomes that are not stated"] == (reward is None)


def test_simulations_that_cannot_be_used(documents: dict[str, Any], tmp_path: Path) -> None:
    solo, retail = "telecom_solo_gpt-4.1", "retail_default_gpt-4.1"
    cases = [
        (_small(documents, retail, messages=None), "a simulation without messages"),
        (_small(documents, retail, messages=None, ticks=[{}]), "a simulation without messages"),
        (_small(documents, retail, task_id=None), "a simulation without domain or task"),
        (_small(documents, retail) | {"info": {}}, "a simulation without domain or task"),
        (_small(documents, solo) | {"tasks": []}, "a solo simulation without its ticket"),
        (documents[retail] | {"simulations": [7]}, "a simulation is not an object"),
        (documents[retail] | {"simulations": []}, "no simulations in the file"),
        (documents[retail] | {"simulations": documents[retail]["simulations"][:1] * 2}, "the same simulation again"),
    ]
    for document, reason in cases:
        imported = _take(tmp_path / "a.json", document)
        assert [item.reason for item in imported.rejected] == [reason]
        assert len(imported.episodes) == (reason == "the same simulation again")


def test_a_results_file_that_was_cut_off(tau2_simulations: Path, tmp_path: Path) -> None:
    text = (tau2_simulations / "airline_default_gpt-4.1.json").read_text(encoding="utf-8")
    imported = _take(tmp_path / "cut.json", text[: len(text) * 2 // 3])
    whole = import_files([tau2_simulations / "airline_default_gpt-4.1.json"])
    assert 1 < len(imported.episodes) < 20
    assert imported.episodes == whole.episodes[: len(imported.episodes)]
    (rest,) = imported.rejected
    assert (rest.item, rest.reason) == ("end of the document", "the file breaks off")


def test_the_folder_format_of_newer_versions(documents: dict[str, Any], tmp_path: Path) -> None:
    document = documents["airline_default_gpt-4.1"]
    tools = {"get_user": {"name": "get_user", "doc": "Who it is.", "params": {"type": "object"}, "returns": {}}}
    info = document["info"] | {"environment_info": document["info"]["environment_info"] | {"tool_defs": tools}}
    first, second, third = document["simulations"][:3]
    index = [{"id": simulation["id"]} for simulation in (first, second, third)]
    results = {"info": info, "tasks": document["tasks"], "simulations": [], "simulation_index": index}
    (tmp_path / "simulations").mkdir()
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "simulations" / f"{first['id']}.json").write_text(json.dumps(first))
    (tmp_path / "simulations" / f"{second['id']}.json").write_text("{")
    (path,) = check_paths([tmp_path])
    imported = import_files([path])
    (episode,) = imported.episodes
    schema = {"name": "get_user", "description": "Who it is.", "parameters": {"type": "object"}}
    head = json.dumps({"type": "function", "function": schema})
    assert episode.opening.startswith(f"<tools>\n{head}\n</tools>\n\n# Airline Agent Policy")
    assert {(item.item, item.reason) for item in imported.rejected} == {
        (f"simulation {second['id']}", "no JSON"),
        (f"simulation {third['id']}", "a simulation file is missing"),
    }


def test_broken_messages_keep_the_steps_before_them(documents: dict[str, Any], tmp_path: Path) -> None:
    messages = documents["retail_default_gpt-4.1"]["simulations"][0]["messages"]
    broken = [*messages[:6], {"role": "tool", "content": "x"} | {"role": None}, *messages[6:]]
    imported = _take(tmp_path / "a.json", _small(documents, "retail_default_gpt-4.1", messages=broken))
    (episode,) = imported.episodes
    assert [step.kind for step in episode.steps] == ["user", "tool"]
    assert (episode.stop, imported.files[0].broken) == (StopReason.ERROR, 1)
