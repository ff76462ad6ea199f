"""Long texts are cut into windows of about equal length, and compared by the part that is farthest off."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from rwml.models.embedding.embedder import Embedder
from rwml.models.embedding.minilm import installed_folder
from rwml.models.embedding.parts import MAX_PARTS, part_distance, windows
from rwml.worlds.schema import mask_response

pytestmark = pytest.mark.slow  # seconds in all


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def test_windows_by_hand() -> None:
    words = [(0, 2), (2, 4), (5, 7), (7, 9), (10, 12), (12, 14)]
    assert windows(words, 6) == [(0, 14)]
    assert windows(words, 4) == [(0, 7), (7, 14)]
    assert windows([(i, i + 1) for i in range(10)], 3) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert windows([], 3) == []


def test_windows_hold_all_tokens_and_no_more_than_there_is_room_for() -> None:
    draw = random.Random(1)
    for _ in range(300):
        spans, at = [], 0
        for _ in range(draw.randrange(1, 900)):
            at += draw.randrange(2)
            spans.append((at, at + draw.randrange(1, 5)))
            at = spans[-1][1]
        room = draw.choice([1, 2, 7, 30, 254])
        found = windows(spans, room)
        held = [[span for span in spans if start <= span[0] and span[1] <= end] for start, end in found]
        assert [span for each in held for span in each] == spans
        assert max(map(len, held)) <= room


def test_the_farthest_part_decides() -> None:
    assert part_distance(np.array([[0.0, 0.9], [0.8, 0.1]])) == pytest.approx(0.1)
    assert part_distance(np.array([[0.0], [0.7]])) == pytest.approx(0.7)
    assert part_distance(np.array([[0.0, 0.6]])) == pytest.approx(0.6)
    assert part_distance(np.array([[0.3]])) == pytest.approx(0.3)


def _schema(fields: list[str]) -> str:
    return mask_response(json.dumps(dict.fromkeys(fields, 1)))


def test_schemas_that_differ_behind_the_limit_of_the_model_have_a_distance(embedder: Embedder) -> None:
    """Of 45 fields the last third is other: the beginnings are the same, up to more than the model reads."""
    names = [f"column_{chr(97 + n // 9)}{n % 9}_of_table" for n in range(45)]
    real, wrong = _schema(names), _schema([*names[:30], *(f"zz_{n}_unasked" for n in range(15))])
    assert len(embedder.parts(real)) > 2
    common = next(i for i, (a, b) in enumerate(zip(real, wrong, strict=False)) if a != b)
    assert len(embedder.parts(real[:common])) > 1, "they differ behind the limit"
    near, far = embedder.distances([(_schema(names[1:]), real), (wrong, real)])
    assert 0 < near < 0.03 < 0.1 < far
    assert embedder.distances([(real, real)]).tolist() == [0.0]
    left, right = embedder.distances([(real, wrong), (wrong, real)])
    assert left == pytest.approx(right, abs=1e-6)
    assert embedder.stats.parted_pairs == 4
    assert embedder.stats.truncated == 0


def test_parts_are_read_whole_and_short_texts_are_one(embedder: Embedder) -> None:
    text = "The fridge 1 is open. In it, you see a mug 2, and an Äpfel-Saft 31. " * 60
    parts = embedder.parts(text)
    assert 1 < len(parts) < MAX_PARTS
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert embedder._encoder.encode(parts)[1] == 0
    for short in ("", "a mug 1", "x" * 300, "On the desk 1, you see a mug 2. " * 8):
        assert embedder.parts(short) == [short]


def test_what_lies_behind_the_last_part_is_counted() -> None:
    own = Embedder(device="cpu")
    text = "a mug 1, " * 4000
    assert len(own.parts(text)) == MAX_PARTS
    own.distances([(text, text + "."), (text, "x")])
    assert (own.stats.truncated, own.stats.parted_pairs) == (2, 2)


def test_a_prefix_takes_room_in_every_part() -> None:
    text = "You see a pen 1, and a book 2. " * 40
    prefixed = Embedder(prefix="query: the state of a room after the action, " * 3, device="cpu")
    parts = prefixed.parts(text)
    assert len(parts) > len(Embedder(device="cpu").parts(text))
    assert prefixed._encoder.encode(parts)[1] == 0


@pytest.mark.slow
def test_a_folder_of_sentence_transformers_is_cut_too(tmp_path: Path) -> None:
    shutil.copytree(installed_folder(), tmp_path / "own")
    own = Embedder(str(tmp_path / "own"), device="cpu")
    parts = own.parts("go to the desk 1, and take a mug. " * 80)
    assert len(parts) > 1
    assert own._encoder.encode(parts)[1] == 0
