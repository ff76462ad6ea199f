"""Embedding rewards on real embeddings: the threshold, the cosine cut at zero, and the named things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made import DESK, DESK_ANSWERS, OTHER_DESK, TURNED
from rwml.core.types import Transition
from rwml.exchange.importer import check_paths, import_files
from rwml.models.embedding.embedder import Embedder
from rwml.playing.rollout import play_built_in, seats_for
from rwml.rewards.embedding_rewards import ContinuousReward, NamedReward
from rwml.rewards.rewards import EmbeddingReward, KindReward
from rwml.worlds.by_name import get_world
from rwml.worlds.transitions import transitions_of

REAL = "You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1."
ANSWERS = [
    REAL,
    "You arrive at desk 1.\n On the desk 1, you see a book 2, and a pen 1. ",
    "You arrive at desk 1. On the desk 1, you see a book 1.",
    "The observation will describe the contents of desk 1.",
    "Nothing happens.",
    None,
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def desk() -> Transition:
    """The first step of the first episode of the expert in a small world."""
    world = get_world("alfworld", source="scenes", size="tiny", num_train=4)
    (episode,) = play_built_in(world, seats_for(world.tasks("train")[:1], 1, 0), "expert", 3)
    row = next(transitions_of(episode, world, "train"))
    assert (row.action, row.next_state) == ("go to desk 2", DESK)
    return row


def test_embedding_reward_on_game_texts(embedder: Embedder) -> None:
    before = embedder.stats.embedded
    distances, rewards = EmbeddingReward(embedder, 0.1).score(ANSWERS, [REAL] * 6)
    assert distances == pytest.approx([0.0, 0.0, 0.0747, 0.3508, 0.9170, 2.0], abs=2e-4)
    assert distances[:2].tolist() == [0.0, 0.0]
    assert rewards.tolist() == [1, 1, 1, 0, 0, 0]
    assert (distances.dtype, rewards.dtype) == (np.float32, np.float32)
    # The truth and three different answers; both exact ones and the unreadable one cost nothing.
    assert embedder.stats.embedded - before == 4
    assert EmbeddingReward(embedder, 0.4).score(ANSWERS, [REAL] * 6)[1].tolist() == [1, 1, 1, 1, 0, 0]


def test_the_threshold_is_strict_and_even_the_largest_fails_an_unread_answer(embedder: Embedder) -> None:
    distance = float(embedder.distances([(ANSWERS[2] or "", REAL)])[0])
    assert EmbeddingReward(embedder, distance).score([ANSWERS[2]], [REAL])[1].tolist() == [0]
    assert EmbeddingReward(embedder, float(np.nextafter(np.float32(distance), np.float32(1)))).score(
        [ANSWERS[2]], [REAL]
    )[1].tolist() == [1]
    assert EmbeddingReward(embedder, 2.0).score([None, "Nothing happens."], [REAL] * 2)[1].tolist() == [0, 1]


def test_nothing_to_score(embedder: Embedder) -> None:
    distances, rewards = EmbeddingReward(embedder, 0.1).score([], [])
    assert distances.shape == rewards.shape == (0,)
    distances, rewards = EmbeddingReward(embedder, 0.1).score([None], [REAL])
    assert (distances.tolist(), rewards.tolist()) == ([2.0], [0.0])


def test_a_pair_of_different_lengths_is_our_own_mistake(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="longer"):
        EmbeddingReward(embedder, 0.1).score(["a"], ["a", "b"])


def test_without_arguments_the_model_and_threshold_are_the_installed_and_the_paper_s() -> None:
    reward = EmbeddingReward()
    assert (reward.embedder.path, reward.tau_d) == ("minilm", 0.2)
    assert reward.score(ANSWERS, [REAL] * 6)[1].tolist() == [1, 1, 1, 0, 0, 0]


def test_continuous_is_the_cosine_cut_at_zero(embedder: Embedder, desk: Transition) -> None:
    distances, rewards = KindReward("continuous", lambda: embedder, 0.2).score(DESK_ANSWERS, [desk] * 7)
    expected, _ = EmbeddingReward(embedder, 0.2).score(DESK_ANSWERS, [DESK] * 7)
    assert distances.tolist() == expected.tolist()
    assert rewards == pytest.approx([1 - d for d in expected[:6]] + [0], abs=1e-7)
    assert (rewards[0], rewards[-1], rewards.dtype) == (1, 0, np.float32)
    # What makes it cheap to cheat: the generic answer earns more than half of the truth.
    assert rewards[4] == pytest.approx(0.5978, abs=2e-4)
    # The threshold has no part in it, and a distance above 1 earns nothing.
    assert ContinuousReward(embedder, 1.9).score(DESK_ANSWERS, [DESK] * 7)[1].tolist() == rewards.tolist()
    far, nothing = ContinuousReward(embedder, 0.2).score(["Error: order not found"], ["Thank you!"])
    assert far[0] > 1
    assert nothing.tolist() == [0]


def test_named_rejects_what_the_embedding_lets_pass(embedder: Embedder, desk: Transition) -> None:
    plain, passed = EmbeddingReward(embedder, 0.2).score(DESK_ANSWERS, [DESK] * 7)
    assert passed.tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert plain[1:4] == pytest.approx([0.0030, 0.1059, 0.0314], abs=2e-4)
    distances, rewards = KindReward("named", lambda: embedder, 0.2).score(DESK_ANSWERS, [desk] * 7)
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
    messages = [step.observation for episode in imported.episodes for step in episode.steps if step.kind == "user"]
    (real,) = {text for text in messages if "cancel order #W5481803" in text}
    reworded = "Please cancel the order #W5481803, both of the items. I no longer need them."
    answers = [reworded, reworded.replace("W5481803", "W5481830"), real.replace(" #W5481803", "")]
    _, embedded = EmbeddingReward(embedder, 0.4).score(answers, [real] * 3)
    _, named = NamedReward(embedder, 0.4).score(answers, [real] * 3)
    assert (embedded.tolist(), named.tolist()) == ([1, 1, 1], [1, 0, 0])
