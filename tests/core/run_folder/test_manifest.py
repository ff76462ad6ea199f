"""A manifest is read as it was written, or it is said what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.run_folder.manifest import OUTPUTS, WRITTEN, new_manifest, read_manifest, write_manifest

RECORD: dict[str, Any] = {
    "rwml": "0.1.0", "sections": ["world"], "config_hash": "0", "inputs": {}, "outputs": {"episodes": "1"}, "seed": 0,
    "counts": {}, "seconds": 1.5, "peak_rss_mb": 2, "attempts": 1, "error": "", "state": "done",
}  # fmt: skip


def _written(folder: Path, **changes: Any) -> Path:
    write_manifest(folder, new_manifest() | {"stages": {"collect": RECORD | changes}})
    return folder / "manifest.json"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = json.loads(_written(tmp_path).read_text())
    assert record["stages"]["collect"] == RECORD
    assert read_manifest(tmp_path)["stages"] == {"collect": RECORD}
    _written(tmp_path, error="half \ud83d of a pair")
    assert read_manifest(tmp_path)["stages"]["collect"]["error"] == "half \ud83d of a pair"


def test_a_folder_without_one_has_an_empty_one(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "none") == new_manifest()


@pytest.mark.parametrize(("old", "new"), [("1.5", "1.6"), ('"done"', '"stale"'), ('"attempts": 1', '"attempts": 7')])
def test_a_changed_byte_is_seen(tmp_path: Path, old: str, new: str) -> None:
    path = _written(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RwmlError, match=r"manifest\.json' is damaged: its content does not fit its checksum") as caught:
        read_manifest(tmp_path)
    assert "put back a copy of it" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"seconds": "long"}, "its seconds is 'long'"),
        ({"outputs": ["episodes"]}, r"its outputs is \['episodes'\]"),
        ({"outputs": {"../../x": "1"}}, r"it does not write '\.\./\.\./x'"),
        ({"outputs": {"policy": "1"}}, "it does not write 'policy'"),
        ({"state": "finished"}, "its state is 'finished'"),
        ({"sections": None}, "its sections is None"),
    ],
)
def test_a_record_of_another_shape_is_named(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    _written(tmp_path, **changes)
    with pytest.raises(RwmlError, match=f"is damaged: the stage collect: {fault}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("stages", [{"collekt": RECORD}, {"collect": 3}, {"collect": {"state": "done"}}])
def test_stages_of_another_shape_are_named(tmp_path: Path, stages: dict[str, Any]) -> None:
    write_manifest(tmp_path, new_manifest() | {"stages": stages})
    with pytest.raises(RwmlError, match=r"manifest\.json' is damaged: the stage colle[ck]t: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ["{", "\0" * 40, "[" * 100_000, "1" * 5000, '{"rwml": "\xff'])
def test_what_is_no_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RwmlError, match=r"manifest\.json'"):
        read_manifest(tmp_path)


def test_all_that_stages_write_is_known_as_written() -> None:
    assert {name for names in OUTPUTS.values() for name in names} < WRITTEN["run"]
