"""The judge against a real server on loopback, on real transitions."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.sections import JudgeConfig
from rwml.core.types import Transition
from rwml.models import server as api
from rwml.models.embedding.embedder import Embedder
from rwml.rewards.judge import GradedJudgeReward, Judge, JudgeReward, judge_messages, read_score
from rwml.rewards.rewards import KindReward

# How the judge of these tests judges: by the prediction, which it finds in the question.
SAYS = {
    "half": '{"analysis": "one of two things", "score": 0.5}',
    "right": 'Let me see.\n```json\n{"analysis": "all {there}", "score": 1}\n```',
    "wrong": '<think>{"score": 1.0} perhaps?</think>{"analysis": "another desk", "score": 0.0}',
    "prose": "The prediction looks right to me.",
    "refused": 400,
}


def no_embedder() -> Embedder:
    raise AssertionError("no embedding model is needed here")


def prediction_in(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"].split("<prediction>\n")[1].split("\n</prediction>")[0]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "FIRST_WAIT_S", 0.001)


@pytest.fixture
def config(chat_server) -> JudgeConfig:  # type: ignore[no-untyped-def]
    chat_server.answer = lambda messages: SAYS[prediction_in(messages)]
    return JudgeConfig(base_url=chat_server.url, model="a-judge", temperature=0.25, max_new_tokens=99)


def test_judgements_become_distances_and_rewards(chat_server, config: JudgeConfig, rows: list[Transition]) -> None:  # type: ignore[no-untyped-def]
    row = rows[0]
    answers = [row.next_state, row.next_state + "\n", "right", "wrong", "half", None, "right"]
    graded = GradedJudgeReward(Judge(config))
    distances, rewards = graded.score_rows(answers, [row] * 7)
    assert rewards.tolist() == [1, 1, 1, 0, 0.5, 0, 1]
    assert distances.tolist() == [0, 0, 0, 1, 0.5, 2, 0]
    assert (distances.dtype, rewards.dtype) == (np.float32, np.float32)
    # The same words, up to white space, and the unreadable answer cost nothing; equal answers are one question.
    assert sorted(prediction_in(asked["messages"]) for asked in chat_server.asked) == ["half", "right", "wrong"]
    assert {(a["model"], a["temperature"], a["max_tokens"], a["n"]) for a in chat_server.asked} == {
        ("a-judge", 0.25, 99, 1)
    }


def test_a_binary_judge_may_say_nothing_between(config: JudgeConfig, rows: list[Transition]) -> None:
    reward = KindReward("judge", no_embedder, 0.2, lambda: Judge(config))
    answers = ["right", "half", "wrong", None]
    distances, rewards = reward.score(answers, rows[:1] * 4)
    assert (distances.tolist(), rewards.tolist()) == ([0, 2, 1, 2], [1, 0, 0, 0])
    assert reward.failed_judgements(answers, rows[:1] * 4, distances) == 1, "the half; no answer is no failure"


def test_failures_earn_nothing_and_are_noted_and_kept(
    chat_server,  # type: ignore[no-untyped-def]
    config: JudgeConfig,
    rows: list[Transition],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers, asked_of = ["right", "prose", "refused", "wrong"], rows[:1] * 4
    reward = KindReward("judge_graded", no_embedder, 0.2, lambda: Judge(config, tmp_path))
    distances, rewards = reward.score(answers, asked_of)
    assert (distances.tolist(), rewards.tolist()) == ([0, 2, 2, 1], [1, 0, 0, 0])
    assert reward.failed_judgements(answers, asked_of, distances) == 2
    assert KindReward("exact", no_embedder, 0.2).failed_judgements(answers, asked_of, distances) == 0
    warning = capsys.readouterr().err
    assert "2 of 4 judgements failed" in warning
    assert "no JSON with a score that counts" in warning
    lines = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_text().splitlines() if line]
    assert sorted((line["score"], line["text"], line["error"][:8]) for line in lines) == sorted(
        [
            (1.0, SAYS["right"], ""),
            (0.0, SAYS["wrong"], ""),
            (0.0, SAYS["prose"], "no JSON w"[:8]),
            (0.0, "", "HTTP 400"),
        ]
    )
    # Another process asks again only what was refused.
    chat_server.asked.clear()
    again = KindReward("judge_graded", no_embedder, 0.2, lambda: Judge(config, tmp_path))
    assert again.score(answers, asked_of)[0].tolist() == distances.tolist()
    assert [prediction_in(asked["messages"]) for asked in chat_server.asked] == ["refused"]


def test_judgements_are_remembered_by_what_was_asked(
    chat_server,  # type: ignore[no-untyped-def]
    config: JudgeConfig,
    rows: list[Transition],
    tmp_path: Path,
) -> None:
    def ask(config: JudgeConfig, row: Transition, reward: type[JudgeReward] = GradedJudgeReward) -> int:
        before = len(chat_server.asked)
        assert reward(Judge(config, tmp_path)).score_rows(["right"], [row])[1].tolist() == [1]
        return len(chat_server.asked) - before

    assert [ask(config, rows[0]), ask(config, rows[0])] == [1, 0]
    assert ask(config, rows[1]) == 1
    assert ask(config, rows[0], JudgeReward) == 1
    assert ask(config.model_copy(update={"model": "another"}), rows[0]) == 1
    assert ask(config.model_copy(update={"timeout_s": 5.0, "max_concurrency": 1}), rows[0]) == 0
    # A kill in the middle of a line costs that line.
    file = tmp_path / "judgements.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert ask(config.model_copy(update={"model": "another"}), rows[0]) == 1
    assert ask(config.model_copy(update={"model": "another"}), rows[0]) == 0
    assert ask(config, rows[1]) == 0


def test_what_the_judge_reads(rows: list[Transition]) -> None:
    row = next(row for row in rows if row.step == 4)
    long = Transition(
        "i", "e", "t", "train", 6, row.opening, tuple(f"{n}" for n in range(12)), "go", "a {brace}", "text", "go",
        True, True,
    )  # fmt: skip
    system, user = judge_messages(row, "You see a {mug} 1.", graded=False)
    assert "1.0 where the prediction is right in all that matters, and otherwise 0.0" in system["content"]
    history = row.history
    shown = "\n".join(f"> {history[i]}\n{history[i + 1]}" for i in range(0, 8, 2))
    assert user["content"] == (
        f"<situation>\n{row.opening}\n{shown}\n</situation>\n<action>\n{row.action}\n</action>\n"
        f"<prediction>\nYou see a {{mug}} 1.\n</prediction>\n<real_answer>\n{row.next_state}\n</real_answer>"
    )
    system, user = judge_messages(long, "x", graded=True)
    assert "a number from 0.0" in system["content"]
    assert f"{row.opening}\n(2 earlier steps are left out)\n> 4\n5\n> 6\n7\n> 8\n9\n> 10\n11\n</sit" in user["content"]


@pytest.mark.parametrize(
    ("text", "binary", "graded"),
    [
        ('{"analysis": "", "score": 1.0}', 1.0, 1.0),
        ('{"score": 0}', 0.0, 0.0),
        ('{"score": 0.25}', None, 0.25),
        ('{"score": 1.5}', None, None),
        ('{"score": -0.1}', None, None),
        ('{"score": true}', None, None),
        ('{"score": "1.0"}', None, None),
        ('{"score": NaN}', None, None),
        ('{"score": null}', None, None),
        ('{"analysis": "it says {\\"score\\": 1.0} itself", "score": 0.0}', 0.0, 0.0),
        ('First {"score": 1.0}, but then {"score": 0.0}.', 0.0, 0.0),
        ('{"score": 1.0} {"note": 1}', 1.0, 1.0),
        ('<think>{"score": 1.0}</think>', None, None),
        ('<think>Perhaps {"score": 1.0}, but', None, None),
        ('{{"score": 1.0}', 1.0, 1.0),
        ('{"analysis": "cut off at the', None, None),
        ("1.0", None, None),
        ("{" * 5000, None, None),
        ("", None, None),
    ],
)
def test_scores_are_read_strictly(text: str, binary: float | None, graded: float | None) -> None:
    assert (read_score(text, graded=False), read_score(text, graded=True)) == (binary, graded)


def test_a_judge_that_never_answers_stops_the_run(chat_server, config: JudgeConfig, rows: list[Transition]) -> None:  # type: ignore[no-untyped-def]
    chat_server.answer = lambda messages: 404
    with pytest.raises(RwmlError, match="has answered none of the last 2 requests: HTTP 404") as caught:
        JudgeReward(Judge(config)).score_rows(["a", "b"], rows[:2])
    assert "judge.base_url" in caught.value.fix
    chat_server.answer = lambda messages: "no JSON, but an answer"
    judge = JudgeReward(Judge(config.model_copy(update={"max_concurrency": 4})))
    assert judge.score_rows(["a"], rows[:1])[0].tolist() == [2]
    # One that has answered may fail now and then, but not 32 times in a row.
    chat_server.answer = lambda messages: 404
    assert judge.score_rows([f"{n}" for n in range(31)], rows[:1] * 31)[0].tolist() == [2] * 31
    with pytest.raises(RwmlError, match="none of the last 32 requests"):
        judge.score_rows(["x"], rows[:1])


def test_the_judge_is_made_when_a_transition_needs_it(rows: list[Transition]) -> None:
    missing = JudgeConfig(base_url="http://127.0.0.1:1/v1", model="m", api_key_env="RWML_NO_SUCH_KEY")
    reward = KindReward({"tool": "judge", "text": "exact"}, no_embedder, 0.2, lambda: Judge(missing))
    assert reward.score([rows[0].next_state], rows[:1])[1].tolist() == [1]
    with pytest.raises(RwmlError, match="'RWML_NO_SUCH_KEY' is not set"):
        reward.of("tool")
    with pytest.raises(RwmlError, match="the reward 'judge' needs judge, which"):
        KindReward("judge", no_embedder, 0.2).of("tool")


@pytest.mark.parametrize("loop", ['{"a":', "{", '{"score": [', "[" * 10 + "{"])
def test_the_score_behind_an_answer_that_loops_is_read_in_a_moment(loop: str) -> None:
    begun = time.process_time()
    assert read_score(loop * 200_000, graded=True) is None
    assert read_score(loop * 200_000 + '\n{"score": 0.25}', graded=True) == 0.25
    assert time.process_time() - begun < 5
