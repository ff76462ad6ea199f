"""tau2-bench: the official domains and tools behind an environment that is fast enough for reinforcement learning."""
