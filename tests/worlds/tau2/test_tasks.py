"""Tasks and splits as the official data have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.tau2.tasks import splits, task, task_ids, tasks

SIZES = {
    "airline": {"train": 30, "test": 20, "base": 50},
    "retail": {"train": 74, "test": 40, "base": 114},
    "telecom": {"small": 20, "train": 74, "test": 40, "full": 2285, "base": 114},
}


@pytest.mark.parametrize("domain", SIZES)
def test_splits_have_the_official_sizes(domain: str, tau2_data: Path) -> None:
    assert {split: len(task_ids(domain, split, tau2_data)) for split in splits(domain, tau2_data)} == SIZES[domain]
    assert not set(task_ids(domain, "train", tau2_data)) & set(task_ids(domain, "test", tau2_data))


@pytest.mark.parametrize("domain", SIZES)
def test_records_are_the_files_own(domain: str, tau2_data: Path) -> None:
    raw = json.loads((tau2_data / "tau2" / "domains" / domain / "tasks.json").read_text(encoding="utf-8"))
    by_id = {record["id"]: record for record in raw}
    base = set(task_ids(domain, "base", tau2_data))
    assert task_ids(domain, "base", tau2_data) == tuple(record["id"] for record in raw if record["id"] in base)
    for record in tasks(domain, "test", tau2_data):
        given = by_id[record.id]
        assert record.answers == given["evaluation_criteria"]
        assert record.initial_state == given.get("initial_state")
        assert record.scenario == given["user_scenario"]
        assert record.known_info == given["user_scenario"]["instructions"]["known_info"]
        assert record.ticket == given.get("ticket", "")
        assert (record.domain, "test" in record.splits, "train" in record.splits) == (domain, True, False)


def test_what_the_user_wants_is_not_in_what_is_known(tau2_data: Path) -> None:
    record = task("airline", "0", tau2_data)
    assert record.known_info == "You are Emma Kim.\nYour user id is emma_kim_9957."
    assert record.splits == ("test", "base") or record.splits == ("train", "base")
    assert record.user_tools is None


@pytest.mark.slow
def test_unknown_names_are_named_with_the_nearest(tau2_data: Path) -> None:
    with pytest.raises(RwmlError) as error:
        task_ids("airlines", "base", tau2_data)
    assert "did you mean 'airline'?" in error.value.fix
    with pytest.raises(RwmlError) as error:
        task_ids("retail", "trian", tau2_data)
    assert "did you mean 'train'?" in error.value.fix
    some = task_ids("telecom", "test", tau2_data)[0]
    with pytest.raises(RwmlError) as error:
        task("telecom", some.replace("PERSONA", "PERSONAL"), tau2_data)
    assert error.value.fix == f"did you mean '{some}'?"


def write_domain(folder: Path, tasks_text: str, split: dict[str, list[str]]) -> Path:
    place = folder / "tau2" / "domains" / "retail"
    place.mkdir(parents=True)
    (place / "tasks.json").write_text(tasks_text, encoding="utf-8")
    (place / "split_tasks.json").write_text(json.dumps(split), encoding="utf-8")
    return folder


def test_a_task_in_few_words(tmp_path: Path) -> None:
    text = '[ {"id": "é", "user_scenario": {"instructions": "Buy a mug."}, "user_tools": []} ,\n {"id": "b"}\n]\n'
    folder = write_domain(tmp_path, text, {"base": ["b", "é"], "test": ["é"]})
    assert task_ids("retail", "base", folder) == ("é", "b")
    record = task("retail", "é", folder)
    assert (record.known_info, record.ticket, record.answers, record.initial_state) == ("", "", None, None)
    assert (record.splits, record.user_tools) == (("base", "test"), ())


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RwmlError) as error:
        splits("retail", write_domain(tmp_path / "a", '[{"id": "a"}]', {"base": ["a", "b"]}))
    assert "names 1 tasks that tasks.json has not, 'b' among them" in error.value.what
    with pytest.raises(RwmlError) as error:
        splits("retail", write_domain(tmp_path / "b", '[{"id": "a"}, {"id": ', {"base": []}))
    assert "is not JSON" in error.value.what
    with pytest.raises(RwmlError) as error:
        splits("airline", tmp_path / "a")
    assert "tasks.json is not there" in error.value.what
