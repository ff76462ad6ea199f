"""Names of the rewards of predictions, and which kind of next state has which (docs/concepts/rewards.md).

A name is checked when a recipe is read, without importing the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.registry import Registry, entries_in

STATE_KINDS = ("text", "tool", "user")
REWARDS: Registry[Callable[..., Any]] = Registry(
    "reward", "rwml.rewards", entries_in("rwml.rewards"), ["prefetch", "score_rows"]
)
"""Constructors of rewards by name. The classes of src/rwml/rewards enter it by their decorator."""

register = REWARDS.register
"""Class decorator that enters a reward under a name: `@register("mine")`."""

JUDGE_REWARDS = ("judge", "judge_graded")
"""Those of src/rwml/rewards that ask a judge. Of a reward from elsewhere it is known once the reward is imported."""

DEFAULT_REWARD = "embedding"


def reward_name(choice: str | Mapping[str, str], kind: str) -> str:
    """The reward of a kind of next state under `train_wm.reward`; a kind that a table leaves out has the default."""
    return choice if isinstance(choice, str) else choice.get(kind, DEFAULT_REWARD)


def asks_judge(choice: str | Mapping[str, str]) -> bool:
    """Whether a value of `train_wm.reward` needs the language model of the section [judge].

    A reward from outside of this package is imported, for its constructor says so: it has a parameter `judge`.
    """
    return any(_asks_judge(reward_name(choice, kind)) for kind in STATE_KINDS)


def may_ask_judge(choice: str | Mapping[str, str]) -> bool:
    """The same without an import: True for every reward from outside of this package."""
    names = {reward_name(choice, kind) for kind in STATE_KINDS}
    return any(name in JUDGE_REWARDS or not REWARDS.is_built_in(name) for name in names)


def check_reward(choice: str | Mapping[str, str]) -> None:
    """RwmlError if a value of `train_wm.reward` names an unknown reward or kind of next state.

    Known are registered rewards, entry points of installed packages, and anything of the form `module:Name`, which is
    imported only when the reward is made.
    """
    for kind in () if isinstance(choice, str) else choice:
        if kind not in STATE_KINDS:
            raise RwmlError(
                f"train_wm.reward: there is no kind of next state '{kind}'",
                "a misspelt kind would silently have the default reward",
                nearest(str(kind), STATE_KINDS),
            )
    for name in [choice] if isinstance(choice, str) else choice.values():
        if not REWARDS.knows(str(name)):
            raise RwmlError(
                f"train_wm.reward: there is no reward '{name}'",
                "nothing would say what a good prediction is",
                f"{nearest(str(name), REWARDS.names())}; or write module:Name for a reward of your own",
            )


def unset_judge_keys(base_url: str, model: str) -> list[str]:
    """What the section [judge] leaves open of what every judge needs; empty when a judge can be asked."""
    return [f"judge.{key}" for key, value in {"base_url": base_url, "model": model}.items() if not value]


def check_judge(choice: str | Mapping[str, str], base_url: str, model: str) -> None:
    """RwmlError if a value of `train_wm.reward` needs a judge and the section [judge] does not say which.

    A reward from outside of this package is not imported for that; it is refused when it is made.
    """
    unset = unset_judge_keys(base_url, model)
    if unset and any(reward_name(choice, kind) in JUDGE_REWARDS for kind in STATE_KINDS):
        raise RwmlError(
            f"train_wm.reward asks a judge, and the recipe does not set {' and '.join(unset)}",
            "the judge is a language model behind an OpenAI-compatible server; nothing says which",
            'set base_url = "http://HOST:PORT/v1" and model = "NAME" in the section [judge]',
        )


def takes_judge(constructor: Callable[..., Any]) -> bool:
    """Whether a reward asks a judge: its constructor has a parameter of that name."""
    return "judge" in signature(constructor).parameters


def _asks_judge(name: str) -> bool:
    return name in JUDGE_REWARDS if REWARDS.is_built_in(name) else takes_judge(REWARDS.get(name))
