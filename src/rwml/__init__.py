"""Reinforcement World Model Learning for language-model agents in text worlds.

"RWML, step N" in this package means a step of the method of arXiv 2602.05842 (v2): 1 collect rollouts of the model
itself, 2 cut them into (history, action, next state), 3 drop the too easy ones, 4 GRPO on next-state prediction with
the sim-to-real reward, 5 GRPO on task success. "By RWML" and "as in RWML" refer to the same paper.

The names below are the library (docs/reference/python-api.md). A name is imported when it is first used, so that
`import rwml` loads no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rwml import rewards
    from rwml.core.errors import RwmlError
    from rwml.core.recipe.recipe import Recipe
    from rwml.core.run import Run
    from rwml.core.types import Episode, PredictedState, Query, Step, Task, Transition
    from rwml.library import (
        Episodes,
        Plan,
        WorldModel,
        evaluate,
        language_policy,
        load_model,
        load_recipe,
        make,
        plan,
        play,
        run,
        transitions,
    )
    from rwml.library_trainer import Trainer
    from rwml.worlds.base import BaseWorld, Env, Prompts, StepResult, World
    from rwml.worlds.checker import check_world

__version__ = "0.1.0"

_PLACES = {
    "rwml.library": (
        "Episodes", "Plan", "WorldModel", "evaluate", "language_policy", "load_model", "load_recipe", "make",
        "plan", "play", "run", "transitions",
    ),
    "rwml.library_trainer": ("Trainer",),
    "rwml.core.errors": ("RwmlError",),
    "rwml.core.recipe.recipe": ("Recipe",),
    "rwml.core.run": ("Run",),
    "rwml.core.types": ("Episode", "PredictedState", "Query", "Step", "Task", "Transition"),
    "rwml.worlds.base": ("BaseWorld", "Env", "Prompts", "StepResult", "World"),
    "rwml.worlds.checker": ("check_world",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "BaseWorld",
    "Env",
    "Episode",
    "Episodes",
    "Plan",
    "PredictedState",
    "Prompts",
    "Query",
    "Recipe",
    "Run",
    "RwmlError",
    "Step",
    "StepResult",
    "Task",
    "Trainer",
    "Transition",
    "World",
    "WorldModel",
    "__version__",
    "check_world",
    "evaluate",
    "language_policy",
    "load_model",
    "load_recipe",
    "make",
    "plan",
    "play",
    "rewards",
    "run",
    "transitions",
]


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used (PEP 562)."""
    if name == "rewards":
        return import_module("rwml.rewards")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'rwml' has no attribute '{name}'")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
