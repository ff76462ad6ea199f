"""The paper's own numbers, for comparison with ours. Its models, sizes and numbers of games differ.

Source: "Reinforcement World Model Learning for LLM-based Agents", arXiv 2602.05842 v2: its main table and its table of
ablations, success in percent, mean of 3 runs. The ablations give averages only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SOURCE = "arXiv 2602.05842 v2"
MODELS = {"alfworld": "Qwen2.5-7B-Instruct", "tau2": "Qwen3-8B"}


class PaperRow(NamedTuple):
    """One row. alfworld: seen, unseen, average; tau2: retail, telecom, airline, average. None: not printed."""

    title: str
    alfworld: tuple[float | None, float | None, float]
    tau2: tuple[float | None, float | None, float | None, float]


PAPER: dict[str, PaperRow] = {
    "base": PaperRow("base model (ReAct)", (16.2, 6.8, 13.0), (37.7, 31.2, 21.6, 31.9)),
    "rft": PaperRow("RFT", (34.4, 34.4, 34.4), (43.3, 33.3, 13.3, 33.3)),
    "wm_sft": PaperRow("WM SFT", (3.1, 2.1, 2.8), (32.3, 24.1, 26.9, 27.9)),
    "rwml": PaperRow("RWML", (34.4, 29.2, 32.6), (40.8, 40.5, 31.3, 38.8)),
    "policy_rl": PaperRow("policy RL", (82.1, 79.2, 81.0), (40.8, 39.2, 30.0, 38.0)),
    "wm_sft_policy": PaperRow("WM SFT + policy RL", (76.2, 82.3, 80.4), (40.8, 45.0, 30.0, 40.3)),
    "rwml_policy": PaperRow("RWML + policy RL", (86.7, 90.1, 87.9), (44.2, 45.8, 38.3, 43.7)),
    "imitation": PaperRow("imitation learning", (84.9, 77.6, 82.5), (48.3, 41.7, 38.3, 43.7)),
    "iwm": PaperRow("IWM", (85.6, 78.1, 83.1), (40.8, 44.2, 46.7, 43.3)),
    "sr": PaperRow("SR", (83.9, 82.3, 83.3), (45.0, 45.8, 43.3, 45.0)),
    "judge": PaperRow("RWML, binary LLM judge", (None, None, 14.5), (None, None, None, 31.3)),
    "judge_graded": PaperRow("RWML, real-valued LLM judge", (None, None, 3.6), (None, None, None, 33.7)),
    "no_filter": PaperRow("RWML, no easy filter", (None, None, 2.9), (None, None, None, 36.3)),
}

COLUMNS = {"alfworld": ("valid_seen", "valid_unseen", "all"), "tau2": ("retail", "telecom", "airline", "all")}


def beside(key: str, world: str, options: Mapping[str, Any]) -> dict[str, float]:
    """The paper's success, in percent, by our split ("all" = its average); empty if it has no such row or world.

    In tau2, where a run plays one domain, "all" is the paper's figure of that domain.
    """
    if key not in PAPER or world not in COLUMNS:
        return {}
    row = dict(zip(COLUMNS[world], getattr(PAPER[key], world), strict=True))
    if world == "tau2":
        row = {"all": row.get(str(options.get("domain")), row["all"])}
    return {split: value for split, value in row.items() if value is not None}
