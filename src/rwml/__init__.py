"""Reinforcement World Model Learning (arXiv 2602.05842) for language-model agents in text worlds."""

__version__ = "0.1.0"
