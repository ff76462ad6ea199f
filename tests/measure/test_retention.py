"""Losses against separate forward passes, spans and means worked by hand, and the corpus that ships with rwml."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.core.recipe.sections import ModelConfig
from rwml.core.types import Transition
from rwml.loading import sampler_of
from rwml.measure.retention import (
    _state_span,
    measure_text,
    measure_transitions,
    path_losses,
    read_corpus,
    retention_change,
)
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.world_models.language import LanguageWorldModel, label_ids, question_ids
from rwml.worlds.base import World


def nll(lm: LanguageModel, ids: list[int]) -> list[float]:
    """Of every token after the first, by a plain forward pass."""
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-float(logits[n - 1, ids[n]]) for n in range(1, len(ids))]


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_losses_of_paths_are_those_of_separate_passes(lm: LanguageModel, budget: int) -> None:
    """Common beginnings, a path inside another one, spans that others only pass through, and other first tokens."""
    paths = [
        ([5, 6, 7, 8, 9], 2, 5),
        ([5, 6, 7, 8, 9, 10, 11], 5, 7),
        ([5, 6, 7, 20], 3, 4),
        ([5, 6, 7], 1, 3),
        ([30, 31, 32, 33], 1, 3),
    ]
    for found, (ids, start, stop) in zip(path_losses(lm, paths, budget), paths, strict=True):
        assert found == pytest.approx(sum(nll(lm, ids)[start - 1 : stop - 1]), abs=1e-4)


def test_loss_of_text(lm: LanguageModel) -> None:
    passages = ["You see a desk 1.", "Nothing happens to the drawer.", "x"]
    found = measure_text(lm, passages, 9, 100)
    ids = [lm.tokenizer(text)["input_ids"] for text in passages]
    assert len(ids[2]) == 1, "a text of one token has nothing to predict"
    losses = [nll(lm, one[:9]) for one in ids[:2]]
    means = [sum(one) / len(one) for one in losses]
    assert [found["rows"][n]["loss"] for n in "01"] == pytest.approx(means, abs=1e-4)
    assert found["loss"]["mean"] == pytest.approx(sum(means) / 2, abs=1e-4)
    assert (found["passages"], found["tokens"]) == (2, sum(map(len, losses)))
    assert found["cut"] == sum(len(one) > 9 for one in ids)
    size = sum(len(lm.tokenizer.decode(one[1:9]).encode()) for one in ids[:2])
    assert found["bits_per_byte"] == pytest.approx(sum(map(sum, losses)) / math.log(2) / size, abs=1e-4)


def test_the_state_in_a_label_is_found(lm: LanguageModel, rows: list[Transition]) -> None:
    for row in rows:
        label = label_ids(lm.chat, row)
        start, stop = _state_span(lm.chat, label)
        assert lm.tokenizer.decode(label[start:stop], clean_up_tokenization_spaces=False) == row.next_state
        assert lm.chat.decode(label[:start]) == "<think></think><next_state>"


def test_transitions_against_separate_passes(lm: LanguageModel, rows: list[Transition], world: World) -> None:
    params = SamplingParams(max_new_tokens=24, temperature=0.0)
    limit = max(len(question_ids(lm.chat, world.prompts("brief"), row)) for row in rows[:-1]) + 40
    model = LanguageWorldModel(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), params, limit)
    found = measure_transitions(model, rows, torch.Generator().manual_seed(0), 100)
    assert found["n"] + found["too_long"] == len(rows)
    assert found["n"] > 5
    for row in rows:
        if row.id not in found["rows"]:
            continue
        question, label = question_ids(lm.chat, world.prompts("brief"), row), label_ids(lm.chat, row)
        start, stop = _state_span(lm.chat, label)
        each = nll(lm, question + label)[len(question) + start - 1 : len(question) + stop - 1]
        assert found["rows"][row.id]["loss"] == pytest.approx(sum(each) / len(each), abs=1e-4)
        assert found["rows"][row.id]["tokens"] == stop - start
    losses = [row["loss"] for row in found["rows"].values()]
    assert found["loss"]["mean"] == pytest.approx(sum(losses) / len(losses))


def test_change_by_hand() -> None:
    def rows(*values: tuple[str, float, float, str]) -> dict[str, object]:
        table = {key: {"loss": loss, "exact": right, "cluster": task} for key, loss, right, task in values}
        return {"loss": {}, "exact": {}, "rows": table}

    before = rows(("a", 1.0, 1.0, "t"), ("b", 2.0, 1.0, "u"), ("c", 9.0, 0.0, "u"))
    after = rows(("a", 1.5, 0.0, "t"), ("b", 4.0, 1.0, "u"))
    found = retention_change(before, after, 100)
    assert (found["loss"]["before"], found["loss"]["after"], found["loss"]["difference"]) == (1.5, 2.75, 1.25)
    assert found["loss"]["interval"] == [0.5, 2.0]
    assert (found["exact"]["difference"], found["exact"]["n"], found["exact"]["unpaired"]) == (-0.5, 2, 1)
    assert list(retention_change({"loss": {}, "rows": {}}, {"rows": {}}, 100)) == ["loss"]


def test_the_corpus_that_ships_with_rwml() -> None:
    passages = read_corpus()
    words = [len(passage.split()) for passage in passages]
    assert len(passages) == len(set(passages)) == 25
    assert 2500 < sum(words) < 3500
    assert min(words) > 90
    assert sum(len(passage.encode()) for passage in passages) < 30_000
    assert all(passage.isascii() and passage.endswith(".") for passage in passages)


def test_a_corpus_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("One line\nand its end.\n\n\n  Another. \n")
    assert read_corpus(tmp_path / "own.txt") == ["One line and its end.", "Another."]
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(RwmlError) as empty:
        read_corpus(tmp_path / "empty.txt")
    assert "holds no text" in empty.value.what
    with pytest.raises(RwmlError) as missing:
        read_corpus(tmp_path / "missing.txt")
    assert "cannot be read" in missing.value.what
