"""Pairs, ROC and cheats on real transitions, by hand and by brute force; the alarm of training on real sequences."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rwml.core.records import MetricsLog
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.measure import edits
from rwml.measure.edits import HARMLESS, WRONG, Vocabulary
from rwml.measure.reward_lab import (
    REWORDED,
    SAME_ACTION,
    UNRELATED,
    auc,
    by_kind,
    cheat_figures,
    largest_tau,
    make_pairs,
    pair_figures,
    roc_curve,
    rule_figures,
    spread,
    threshold_figures,
)
from rwml.models.embedding.embedder import Embedder
from rwml.play.rollout import play_built_in, seats_for
from rwml.rewards.named_things import named_things
from rwml.rewards.rewards import KindReward
from rwml.train.drift import COLLAPSE_SHARE, DriftWatch, cheat_answers, cheat_share, find_cheats
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

DESK = "You arrive at desk 1. On the desk 1, you see a mug 2, and a pen 3."
WORDS = Vocabulary(things=("bowl", "desk", "mug", "pen"), fields=())
NOTHING = "Nothing happens."


def transition(next_state: str, action: str = "go to desk 1", history: tuple[str, ...] = ()) -> Transition:
    return Transition("e@0", "e", "t", "train", 0, "opening", history, action, next_state, "text", "go", True, True)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def real(world: World) -> list[Transition]:
    """All transitions of eight noisy episodes of at most twelve steps."""
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, seed=0), "noisy", 12)
    return [row for episode in episodes for row in transitions_of(episode, world, "train")]


def test_edits_by_hand() -> None:
    assert edits.white_space("a b.", WORDS) == "a  b.\n"
    assert edits.order(DESK, WORDS) == "You arrive at desk 1. On the desk 1, you see a pen 3, and a mug 2."
    assert edits.articles(DESK, WORDS) == "You arrive at desk 1. On desk 1, you see mug 2, and pen 3."
    assert edits.number("You turn on the lamp 9.", WORDS) == "You turn on the lamp 10."
    assert edits.number("It costs 12 dollars and 3 cents.", WORDS) in (
        "It costs 13 dollars and 3 cents.", "It costs 12 dollars and 4 cents.",
    )  # fmt: skip
    assert edits.number("$99", WORDS) == "$100"
    # One desk, wherever it is named; of the others only those words that the text does not have.
    assert edits.thing("On the desk 1, you see nothing. The desk 1 is old.", Vocabulary(("desk", "pen"), ())) == (
        "On the pen 1, you see nothing. The pen 1 is old."
    )
    assert edits.missing(DESK, WORDS) in (
        "You arrive at desk 1. On the desk 1, you see a mug 2.",
        "You arrive at desk 1. On the desk 1, you see a pen 3.",
    )
    assert edits.added(DESK, WORDS) == "You arrive at desk 1. On the desk 1, you see a mug 2, a pen 3, and a bowl 1."
    assert (
        edits.added("In it, you see a pen 3.", Vocabulary(("mug", "pen"), ())) == "In it, you see a pen 3, and a mug 1."
    )
    assert edits.state("The fridge 1 is closed.", WORDS) == "The fridge 1 is open."
    assert edits.state("You turn on the desklamp 1.", WORDS) == "You turn off the desklamp 1."


def test_an_edit_that_finds_nothing_says_so() -> None:
    found = {name: edit(NOTHING, WORDS) for name, edit in (HARMLESS | WRONG).items()}
    assert {name for name, text in found.items() if text is not None} == {"white space"}
    assert edits.missing("In it, you see a pen 3.", WORDS) is None
    assert edits.order("In it, you see a pen 3.", WORDS) is None
    assert edits.thing(DESK, Vocabulary(("desk", "mug", "pen"), ())) is None


def test_edits_of_a_schema_by_hand() -> None:
    string, integer = {"type": "string"}, {"type": "integer"}
    schema = {"type": "object", "properties": {"id": string, "total": string}}
    text = json.dumps(schema)
    words = Vocabulary.of([text, json.dumps({"type": "object", "properties": {"note": string}})])
    assert words.fields == ("id", "note", "total")
    made = {name: edit(text, words) for name, edit in (HARMLESS | WRONG).items()}
    assert made["articles"] is made["number"] is None
    assert json.loads(made["list order"] or "") == schema
    assert (made["list order"] or "").index("total") < (made["list order"] or "").index("id")
    fields = {name: json.loads(made[name] or "")["properties"] for name in WRONG if made[name]}
    assert fields["missing thing"] in ({"id": string}, {"total": string})
    assert fields["added thing"] == {"id": string, "total": string, "note": string}
    assert fields["thing"] in ({"id": string, "note": string}, {"note": string, "total": string})
    assert fields["state"] in ({"id": integer, "total": string}, {"id": string, "total": integer})


def test_edits_of_real_next_states_change_what_they_say(real: list[Transition]) -> None:
    texts = sorted({row.next_state for row in real})
    words = Vocabulary.of(texts)
    seen: Counter[str] = Counter()
    for text in texts:
        names, counts = named_things(text), Counter(text.replace(",", "").replace(".", "").split())
        for kind, edit in (HARMLESS | WRONG).items():
            changed = edit(text, words)
            if changed is None:
                continue
            seen[kind] += 1
            after = named_things(changed)
            assert same_text(changed, text) == (kind == "white space")
            if kind == "list order":
                assert (names, counts) == (after, Counter(changed.replace(",", "").replace(".", "").split()))
            elif kind in ("articles", "state"):
                assert names == after
            elif kind == "missing thing":
                assert len(_items(text)) == len(_items(changed)) + 1
            elif kind == "added thing":
                assert len(_items(text)) == len(_items(changed)) - 1
                assert len(after - names) == 1
            elif kind in ("number", "thing"):
                assert len(names - after) == 1
    assert min(seen[kind] for kind in HARMLESS | WRONG) >= 5


def _items(text: str) -> list[str]:
    return [part for part in text.replace(".", " ").replace(",", " ").split() if part in ("a", "an")]


def test_pairs_of_real_transitions(real: list[Transition]) -> None:
    pairs = make_pairs(real, 30, seed=0)
    assert pairs == make_pairs(real, 30, seed=0) != make_pairs(real, 30, seed=1)
    assert max(Counter((pair.kind, pair.row.next_state) for pair in pairs).values()) == 1
    assert len({pair.row.next_state for pair in pairs}) == 30
    brought = {(row.action, row.next_state) for row in real if row.valid}
    actions = {row.next_state: row.action for row in reversed(real)}
    for pair in pairs:
        if pair.kind not in HARMLESS:
            assert not same_text(pair.predicted, pair.row.next_state)
        if pair.kind == SAME_ACTION:
            assert (pair.row.action, pair.predicted) in brought
        if pair.kind == UNRELATED:
            assert actions[pair.predicted] != pair.row.action
    assert {SAME_ACTION, UNRELATED, "white space"} <= {pair.kind for pair in pairs}


def test_auc_thresholds_and_roc_by_hand() -> None:
    right, wrong = np.array([0.0, 0.1, 0.2]), np.array([0.1, 0.3])
    # Of the six comparisons 0.0 wins two, 0.1 wins one and ties one, 0.2 wins one.
    assert auc(right, wrong) == pytest.approx((2 + 1.5 + 1) / 6)
    assert auc(right, np.zeros(0)) is None
    generator = np.random.default_rng(0)
    left, other = generator.integers(0, 9, 40) / 9, generator.integers(3, 12, 30) / 9
    brute = np.mean([(a < b) + 0.5 * (a == b) for a in left for b in other])
    assert auc(left, other) == pytest.approx(brute)
    # Strict: at tau_d = 0.1 the distance 0.1 is no hit.
    assert largest_tau(wrong, 0.0) == 0.1
    assert largest_tau(wrong, 0.5) == 0.3
    assert largest_tau(wrong, 1.0) == 2.0
    twenty = np.arange(20) / 20
    assert (twenty < largest_tau(twenty, 0.05)).sum() == 1
    false, true = roc_curve(right, wrong)
    assert false == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert true == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0, 1.0])


def test_spread_by_hand() -> None:
    found = spread(np.array([0.0, 0.019, 0.02, 1.5]))
    assert found["n"] == 4
    assert (found["histogram"][0], found["histogram"][1], found["histogram"][-1]) == (2, 1, 1)
    assert sum(found["histogram"]) == 4
    assert found["percentiles"]["p50"] == pytest.approx(0.0195)
    assert found["percentiles"]["p100"] == 1.5


def test_what_rewards_make_of_one_desk(embedder: Embedder) -> None:
    row = transition("You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1.")
    lamp = transition("You turn on the desklamp 1.", action="use desklamp 1")
    pairs = [pair for pair in make_pairs([row, lamp], 2, seed=0) if pair.row is row]
    reward = KindReward("embedding", lambda: embedder, 0.1)
    distances_N, _ = reward.score([pair.predicted for pair in pairs], [pair.row for pair in pairs])
    found = by_kind(pairs, distances_N)
    assert list(found) == ["white space", "list order", "articles", "number", "thing", "missing thing", "added thing",
                           UNRELATED]  # fmt: skip
    assert found["white space"].tolist() == [0.0]
    assert found["list order"][0] < 0.01 < found["missing thing"][0] < found[UNRELATED][0]
    figures = pair_figures(reward, pairs)
    assert figures["kinds"][UNRELATED]["reward"] == 0.0
    assert figures["kinds"]["number"]["reward"] == 1.0  # what the embedding does not see
    assert figures["failed"] == 0
    named = pair_figures(KindReward("named", lambda: embedder, 0.1), pairs)
    assert {kind: one["reward"] for kind, one in named["kinds"].items()} == {
        kind: float(kind in HARMLESS) for kind in found
    }
    assert named["auc"] == 1.0
    passes = threshold_figures(found, [0.001, 2.0], [0.0])["passes"]
    assert passes[0]["pass"] == {kind: float(kind == "white space") for kind in found}
    assert set(passes[1]["pass"].values()) == {1.0}
    (limit,) = [
        one for one in threshold_figures(found, [], [0.0])["false_positives"] if one["kind"] == "all edited facts"
    ]
    wrong = min(float(found[kind][0]) for kind in WRONG if kind in found)
    assert limit["tau_d"] == pytest.approx(wrong)
    assert limit["right"] == np.mean([found[kind][0] < wrong for kind in REWORDED])


def test_what_cheats_earn_by_hand(embedder: Embedder) -> None:
    first = transition("On the desk 1, you see a pen 1.", "go to desk 1", ("look", "You see a room."))
    second = transition(NOTHING, "open desk 1", ("go to desk 1", NOTHING))
    rows = [first, second, second, second]
    answers = cheat_answers(rows, rows)
    assert answers["empty"] == [None] * 4
    assert answers["copied observation"] == ["You see a room.", *[NOTHING] * 3]
    assert answers["echoed action"][0] == "go to desk 1"
    assert answers["most frequent"] == [NOTHING] * 4
    assert answers["longest"] == [first.next_state] * 4
    assert "will describe the contents of desk 1" in str(answers["will describe"][0])
    reward = KindReward("exact", lambda: embedder, 0.5)
    assert cheat_figures(reward, answers["most frequent"], rows) == {
        "right": 0.75, "reward": 0.75, "unearned": 0.0, "tau_d": 1.0, "failed": 0,
    }  # fmt: skip
    assert cheat_figures(reward, answers["empty"], rows)["tau_d"] == 2.0
    never = cheat_figures(reward, [NOTHING], [second])
    assert (never["right"], never["unearned"], never["tau_d"]) == (1.0, None, None)


def test_the_paper_s_hack_passes_from_a_threshold_on(embedder: Embedder) -> None:
    row = transition("You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1.")
    answer = "The observation will describe the contents of desk 1."
    (at,) = {cheat_figures(KindReward("embedding", lambda: embedder, t), [answer], [row])["tau_d"] for t in (0.1, 0.4)}
    assert at == pytest.approx(0.3508, abs=2e-4)
    paid = [
        cheat_figures(KindReward("embedding", lambda: embedder, t), [answer], [row])["unearned"] for t in (0.35, 0.352)
    ]
    assert paid == [0.0, 1.0]


def test_the_rule_with_one_guess_each() -> None:
    # Three of ten guesses are within 0.02: the first threshold of the grid that is on target, and nearest to 0.1.
    distances_N = np.array([0.0] * 3 + [0.9] * 7)
    assert rule_figures(distances_N, 0.3, None, None) == {
        "data_tau_d": 0.1, "easy_share": 0.3, "on_target": True, "training_tau_d": 0.2,
    }  # fmt: skip
    assert rule_figures(distances_N, 0.3, 0.15, None)["training_tau_d"] == 0.4


def test_cheats_of_a_batch_by_hand() -> None:
    seen = ("look", "You see a bed 1.")
    asked = [transition(f"You arrive at desk {number}.", f"go to desk {number}", seen) for number in range(8)]
    answers: list[str | None] = [
        "You arrive at desk 0.",  # right
        "You see a  bed 1.",  # the last observation
        "go to desk 2",  # the action
        "The observation will describe the contents of desk 3.",
        None,
        "You arrive at desk 9.",  # plainly wrong
        "You arrive at desk 9.",
        "You arrive at desk 8.",
    ]
    assert find_cheats(answers, asked) == ["", "copied", "copied", "generic", "", "", "", ""]
    assert cheat_share(answers, asked) == 3 / 8
    # A third wrong answer of one text makes 3 of 8, more than a quarter.
    answers[7] = "You arrive at  desk 9."
    assert 2 / 8 <= COLLAPSE_SHARE < 3 / 8
    assert find_cheats(answers, asked)[5:] == ["collapsed"] * 3
    assert cheat_share(answers, asked) == 6 / 8
    # Where it is the real answer, it is right: given for two other states only, it is no collapse; for three it is.
    asked[7] = transition("You arrive at desk 9.", "go to desk 9", seen)
    assert find_cheats(answers, asked)[4:] == ["", "", "", ""]
    answers[4] = "You arrive at desk 9."
    assert find_cheats(answers, asked)[4:] == ["collapsed", "collapsed", "collapsed", ""]
    assert cheat_share([], []) == 0.0


def test_copying_and_generic_words_are_no_cheats_where_they_are_right() -> None:
    still = transition(NOTHING, "open desk 1", ("go to desk 1", NOTHING))
    told = transition("The observation deck is closed. I will show you various things.")
    rows = [still, told, told]
    assert find_cheats([NOTHING, told.next_state, "The observation deck is open."], rows) == ["", "", ""]
    assert find_cheats(["opening", None, None], [transition(DESK)] * 3) == ["copied", "", ""]


def play_steps(watch: DriftWatch, shares: list[float]) -> list[float]:
    """Steps of 20 questions, of which that share is answered with the same wrong text."""
    rows = [transition(f"You arrive at desk {number}.", f"go to desk {number}") for number in range(20)]
    found = []
    for share in shares:
        bad = round(20 * share)
        found.append(watch.share([NOTHING if n < bad else f"You see bed {n}." for n in range(20)], rows))
    return found


def test_the_alarm_speaks_once_when_answers_collapse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = DriftWatch(0.25, MetricsLog(tmp_path / "metrics.jsonl"))
    # 0.2 of one text is below a quarter: no collapse.
    assert play_steps(watch, [0.0, 0.0, 0.2, 0.0, 0.0, 0.4, 0.4]) == [0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.4]
    assert capsys.readouterr().err == ""
    play_steps(watch, [0.5])  # the last five: 0, 0, 0.4, 0.4, 0.5 = 0.26
    said = capsys.readouterr().err
    assert said.count("warning: 26% of the answers") == 1
    assert NOTHING in said
    assert all(part in said for part in ("up to step 8", "first steps: 0%", "why it matters", "what to do"))
    play_steps(watch, [0.9] * 5)
    assert capsys.readouterr().err == ""


def test_the_alarm_is_silent_where_nothing_grew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    play_steps(DriftWatch(0.25, log), [0.5] * 8 + [0.6] * 5)  # so from the start, and a tenth more is not above GROWTH
    play_steps(DriftWatch(1.0, log), [0.0] * 5 + [1.0] * 5)  # switched off
    assert capsys.readouterr().err == ""


def test_the_alarm_remembers_the_steps_before_a_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(6):
        log.append({"stage": "train_wm", "step": step + 1, "cheat_share": 0.0})
        log.append({"stage": "filter", "step": step + 1, "cheat_share": 1.0})
    watch = DriftWatch(0.25, log)
    play_steps(watch, [0.6] * 3)
    assert "36% of the answers" in capsys.readouterr().err
    play_steps(DriftWatch(0.25, MetricsLog(tmp_path / "other.jsonl")), [0.6] * 3)
    assert capsys.readouterr().err == ""
