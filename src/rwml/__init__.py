"""Reinforcement World Model Learning for language-model agents in text worlds.

"RWML, step N" in this package means a step of the method of arXiv 2602.05842 (v2): 1 collect rollouts of the model
itself, 2 cut them into (history, action, next state), 3 drop the too easy ones, 4 GRPO on next-state prediction with
the sim-to-real reward, 5 GRPO on task success. "By RWML" and "as in RWML" refer to the same paper.
"""

__version__ = "0.1.0"
