"""What every test needs before torch is imported: quiet threads, no network, no display."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch starts its thread pool; the tests' models are so small that a second thread costs more than it gives.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def mind_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model after a few steps: its answers parse now and then, and are mostly wrong."""
    from rwml.models.hf import save_mind
    from rwml.models.tiny import TinyShape, new_mind
    from rwml.stages.tiny import TinyConfig, fit, texts_for_tokenizer

    config = TinyConfig(
        steps=80,
        episodes_per_step=4,
        sizes=("tiny",),
        max_steps=4,
        noise=(0.5, 0.9),
        slips=0.05,
        question_share=1.0,
        questions=4,
        action_weight=1.0,
        observation_weight=0.3,
        question_weight=1.0,
        learning_rate=5e-3,
        warmup_steps=5,
        num_scenes=12,
        autocast=False,
    )
    shape = TinyShape(vocab=600, hidden=64, intermediate=128, layers=2, heads=2, key_value_heads=2)
    mind = new_mind(texts_for_tokenizer(config, 40), shape, seed=0)
    for _ in fit(mind, config):
        pass
    folder = tmp_path_factory.mktemp("mind") / "model"
    save_mind(mind, folder)
    return folder
