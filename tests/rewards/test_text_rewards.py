"""Continuous, token F1 and named on real transitions, with numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rwml.core.types import Transition
from rwml.exchange.importer import check_paths, import_files
from rwml.models.embedding.embedder import Embedder
from rwml.play.rollout import play_actor, seats_for
from rwml.rewards.rewards import ContinuousReward, EmbeddingReward, F1Reward, KindReward, NamedReward
from rwml.rewards.rouge import rouge_l
from rwml.worlds.registry import get_world
from rwml.worlds.transitions import transitions_of

DESK = "You arrive at desk 2. On the desk 2, you see a cellphone 1, and a pen 1."
TURNED = "You arrive at desk 2. On the desk 2, you see a pen 1, and a cellphone 1."
MISSING = "You arrive at desk 2. On the desk 2, you see a pen 1."
OTHER_DESK = "You arrive at desk 1. On the desk 1, you see a cellphone 1, and a pen 1."
GENERIC = "The observation will describe the contents of desk 2."
ANSWERS = [DESK, TURNED, MISSING, OTHER_DESK, GENERIC, "Nothing happens.", None]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def desk() -> Transition:
    """The first step of the first episode of the expert in a small world."""
    world = get_world("alfworld", source="scenes", size="tiny", num_train=4)
    (episode,) = play_actor(world, seats_for(world.tasks("train")[:1], 1, 0), "expert", 3)
    row = next(transitions_of(episode, world, "train"))
    assert (row.action, row.next_state) == ("go to desk 2", DESK)
    return row


def test_continuous_is_the_cosine_cut_at_zero(embedder: Embedder, desk: Transition) -> None:
    distances, rewards = KindReward("continuous", lambda: embedder, 0.2).score(ANSWERS, [desk] * 7)
    expected, _ = EmbeddingReward(embedder, 0.2).score(ANSWERS, [DESK] * 7)
    assert distances.tolist() == expected.tolist()
    assert rewards == pytest.approx([1 - d for d in expected[:6]] + [0], abs=1e-7)
    assert (rewards[0], rewards[-1], rewards.dtype) == (1, 0, np.float32)
    # What makes it cheap to cheat: the generic answer earns more than half of the truth.
    assert rewards[4] == pytest.approx(0.5978, abs=2e-4)
    # The threshold has no part in it, and a distance above 1 earns nothing.
    assert ContinuousReward(embedder, 1.9).score(ANSWERS, [DESK] * 7)[1].tolist() == rewards.tolist()
    far, nothing = ContinuousReward(embedder, 0.2).score(["Error: order not found"], ["Thank you!"])
    assert far[0] > 1
    assert nothing.tolist() == [0]


def test_token_f1_by_hand(desk: Transition) -> None:
    distances, rewards = KindReward("f1", lambda: pytest.fail("no embedding"), 0.2).score(ANSWERS, [desk] * 7)
    # The truth has 18 words: you arrive at desk 2 / on the desk 2 / you see a cellphone 1 / and a pen 1.
    # Missing: all of its 14. The other desk: all but two of 18, for the truth has two ones and it has four.
    # Generic: the, desk and 2 of nine. `Nothing happens.`: none of two.
    assert rewards == pytest.approx([1, 1, 28 / 32, 32 / 36, 6 / 27, 0, 0], abs=1e-6)
    assert distances == pytest.approx([0, 0, 4 / 32, 4 / 36, 21 / 27, 1, 2], abs=1e-6)
    # Other than ROUGE-L, it does not see the order: there, the eleven words up to "a", and five more (1 and a ... 1).
    assert rouge_l(TURNED, DESK) == pytest.approx(2 * 16 / 36)
    same, all_of_it = F1Reward().score(["\U0001f50b", ""], ["\U0001f50b", ""])
    assert (same.tolist(), all_of_it.tolist()) == ([0, 0], [1, 1])


def test_named_rejects_what_the_embedding_lets_pass(embedder: Embedder, desk: Transition) -> None:
    plain, passed = EmbeddingReward(embedder, 0.2).score(ANSWERS, [DESK] * 7)
    assert passed.tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert plain[1:4] == pytest.approx([0.0030, 0.1059, 0.0314], abs=2e-4)
    distances, rewards = KindReward("named", lambda: embedder, 0.2).score(ANSWERS, [desk] * 7)
    assert rewards.tolist() == [1, 1, 0, 0, 0, 0, 0]
    # Where the named things differ, the distance is 1 at least; generic and `Nothing happens.` name other things too.
    assert distances == pytest.approx([0, plain[1], 1, 1, 1, 1, 2], abs=1e-6)
    assert distances.dtype == np.float32
    # So a distance below any sensible threshold is a reward, for the filter and `within` as well.
    assert ((distances < 0.2) == (rewards == 1)).all()
    # Agreement alone is not enough: the same things, too far off.
    assert NamedReward(embedder, float(plain[1]) / 2).score([TURNED], [DESK])[1].tolist() == [0]
    assert NamedReward(embedder, 1.9).score([OTHER_DESK], [DESK])[1].tolist() == [0]


def test_named_on_user_messages(embedder: Embedder, tau2_simulations: Path) -> None:
    imported = import_files(check_paths([tau2_simulations / "retail_default_gpt-4.1.json"]))
    said = [step.observation for one in imported.episodes for step in one.steps if step.kind == "user"]
    (real,) = {text for text in said if "cancel order #W5481803" in text}
    reworded = "Please cancel the order #W5481803, both of the items. I no longer need them."
    answers = [reworded, reworded.replace("W5481803", "W5481830"), real.replace(" #W5481803", "")]
    _, embedded = EmbeddingReward(embedder, 0.4).score(answers, [real] * 3)
    _, named = NamedReward(embedder, 0.4).score(answers, [real] * 3)
    assert (embedded.tolist(), named.tolist()) == ([1, 1, 1], [1, 0, 0])
