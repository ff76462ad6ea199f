"""Names of the rewards of predictions, and which kind of next state has which (docs/rewards.md)."""

from __future__ import annotations

from collections.abc import Mapping

from rwml.core.errors import RwmlError, nearest

STATE_KINDS = ("text", "tool", "user")
REWARD_NAMES = ("embedding", "continuous", "named", "exact", "rouge", "f1", "judge", "judge_graded")
JUDGE_REWARDS = ("judge", "judge_graded")
DEFAULT_REWARD = "embedding"


def reward_name(choice: str | Mapping[str, str], kind: str) -> str:
    """The reward of a kind of next state under `train_wm.reward`; a kind that a table leaves out has the default."""
    return choice if isinstance(choice, str) else choice.get(kind, DEFAULT_REWARD)


def asks_judge(choice: str | Mapping[str, str]) -> bool:
    """Whether a value of `train_wm.reward` needs the language model of the section [judge]."""
    return any(reward_name(choice, kind) in JUDGE_REWARDS for kind in STATE_KINDS)


def check_reward(choice: str | Mapping[str, str]) -> None:
    """RwmlError where a value of `train_wm.reward` names a reward or a kind of next state that there is not."""
    for kind in () if isinstance(choice, str) else choice:
        if kind not in STATE_KINDS:
            raise RwmlError(
                f"train_wm.reward: there is no kind of next state '{kind}'",
                "a misspelt kind would silently have the default reward",
                nearest(str(kind), STATE_KINDS),
            )
    for name in [choice] if isinstance(choice, str) else choice.values():
        if name not in REWARD_NAMES:
            raise RwmlError(
                f"train_wm.reward: there is no reward '{name}'",
                "nothing would say what a good prediction is",
                nearest(str(name), REWARD_NAMES),
            )


def check_judge(choice: str | Mapping[str, str], base_url: str, model: str) -> None:
    """RwmlError where a value of `train_wm.reward` needs a judge and the section [judge] does not say which."""
    missing = [f"judge.{key}" for key, value in {"base_url": base_url, "model": model}.items() if not value]
    if missing and asks_judge(choice):
        raise RwmlError(
            f"train_wm.reward asks a judge, and the recipe does not set {' and '.join(missing)}",
            "the judge is a language model behind an OpenAI-compatible server; nothing says which",
            'set base_url = "http://HOST:PORT/v1" and model = "NAME" in the section [judge]',
        )
