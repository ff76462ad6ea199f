"""Single records for the report: predictions with the truth, and whole episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rwml.core.files import Json
from rwml.core.prompts import THINK
from rwml.core.records import Parts, read_records
from rwml.core.seeds import chosen_rows, lot
from rwml.core.text import same_text
from rwml.core.types import Episode, PredictedState, Transition
from rwml.reports import formats

T = TypeVar("T")
EPISODES_EACH = 2


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Records under evaluation/, first seed only. predictions, episodes: arm -> records; pairs: names of arms."""

    transitions: dict[str, Transition]
    predictions: dict[str, dict[str, PredictedState]]
    episodes: dict[str, list[Episode]]
    pairs: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, folder: Path, figures: Json | None) -> Evaluation | None:
        """None if nothing was evaluated."""
        if figures is None or not folder.is_dir():
            return None
        seed = min(figures["seeds"], default=0)
        rows = [row for path in sorted(folder.glob("transitions-*.parquet")) for row in read_records(path, Transition)]
        arms = [arm for arm in figures["arms"] if (folder / arm).is_dir()]
        return cls(
            {row.id: row for row in rows},
            {a: {p.transition: p for p in _parts(folder / a, "predictions", seed, PredictedState)} for a in arms},
            {a: _parts(folder / a, "episodes", seed, Episode) for a in arms},
            figures["pairs"],
        )


def examples(held_out: Evaluation | None, count: int) -> list[Json]:
    """Predictions of both arms with the truth. The order of hashed ids picks them, each truth once."""
    if held_out is None:
        return []
    answers = [held_out.predictions.get(arm, {}) for arm in held_out.pairs["world_model"]]
    shared = [row for i, row in held_out.transitions.items() if all(i in by_id for by_id in answers)]
    result = []
    for row in chosen_rows(shared, count):
        given = [(label, by_id[row.id]) for label, by_id in zip(("before", "after"), answers, strict=True)]
        result.append({"row": row, "answers": [(label, p, *_against(p, row)) for label, p in given]})
    return result


def _against(prediction: PredictedState, row: Transition) -> tuple[bool, list[tuple[str, str]]]:
    """Whether the answer is exact, and its differences from the truth."""
    answer = prediction.next_state or ""
    return same_text(answer, row.next_state), formats.word_difference(answer, row.next_state)


def episode_examples(held_out: Evaluation | None) -> list[Json]:
    """Won and lost episodes of the arm after training, picked by the order of hashed ids."""
    if held_out is None:
        return []
    arm = next((a for a in (held_out.pairs["success"][1], *held_out.episodes) if held_out.episodes.get(a)), None)
    if arm is None:
        return []
    played = sorted(held_out.episodes[arm], key=lambda episode: lot(episode.id))
    won = [episode for episode in played if episode.success][:EPISODES_EACH]
    lost = [episode for episode in played if not episode.success][:EPISODES_EACH]
    return [
        {"episode": e, "arm": formats.ARM_NAMES.get(arm, arm), "thoughts": [_thought(step.text) for step in e.steps]}
        for e in won + lost
    ]


def _parts(folder: Path, kind: str, seed: int, cls: type[T]) -> list[T]:
    return [record for part in sorted(folder.glob(f"{kind}-*-{seed}")) for record in Parts(part).read_all(cls)]


def _thought(text: str) -> str:
    # A chat template may have opened the thought before the kept part of the message.
    thought = THINK.search(text if "<think>" in text or "</think>" not in text else f"<think>{text}")
    return thought[0].removeprefix("<think>").removesuffix("</think>").strip() if thought else ""
