"""Where the tests are of what has no test of its name, and what the tests are of that have no source of their name."""

from __future__ import annotations

TESTS_OF_MORE = {
    "test_docs": "README.md and docs/",
    "test_own_world": "examples/own_world.py",
    "test_strangers": "every verb, on a recipe and a run folder of a stranger",
    "test_rwml_one_file": "examples/rwml_one_file.py",
    "test_fuzz_answers": "everything that reads texts from outside",
    "test_damaged_run": "every verb that reads a run, on damaged files",
    "test_house_rules": "the repository",
    "test_reading_budget": "one step of world-model training",
    "test_resume": "every stage, killed",
    "test_rewards_by_kind": "the filter, the training and the evaluation, under one reward",
    "test_trainer_stops": "train/trainer.py, where it meets NaN and infinity",
    "test_temperature": "train_wm and train_policy, at a temperature",
}
"""Test files that are of no single source file: what they are of."""

_STAGE = "stages/test_pipeline.py: a stage reads what the one before it wrote"
_COMPARISON = "stages/test_compare.py: its figures are counted again from the records of a whole comparison"
_ENGINE = "worlds/alfworld/engine/test_game.py: a game by other rules leaves the official trace"
TESTED_IN = {
    "library_trainer.py": "test_library.py: a part of the same door",
    "core/recipe/reward_names.py": "core/recipe/test_recipe.py: its names are read from recipes",
    "core/guard/arguments.py": "test_library.py: what the door refuses",
    "core/recipe/run_place.py": "core/recipe/test_recipe.py: names and places are read from recipes",
    "core/recipe/sections.py": "core/recipe/test_recipe.py: its sections are read from recipes",
    "exchange/chat_logs.py": "exchange/test_importer.py: a log is right when its episode is",
    "exchange/episode_folder.py": "stages/test_import_logs.py: it reads what an import wrote",
    "exchange/log_files.py": "exchange/test_importer.py: a form of file is read when its episodes are",
    "loading.py": "stages/test_pipeline.py: all that it builds is at work there",
    "measure/compare/arm_examiner.py": _COMPARISON,
    "measure/compare/open_arms.py": _COMPARISON,
    "models/server_reply.py": "models/test_server.py: every sort of answer comes from a socket",
    "measure/figures/arm_rows.py": "measure/figures/test_contrasts.py: its rows are what is compared",
    "models/embedding/minilm.py": "models/embedding/test_embedder.py: the vectors are those of the peer",
    "reports/compare_tables.py": "stages/test_compare.py: the tables of a whole comparison",
    "reports/page.py": "stages/test_report.py: the page of a whole run",
    "reports/reward_page.py": "stages/test_reward_lab.py: the page of a whole audit",
    "reports/run_page.py": "stages/test_report.py: the page of a whole run",
    "stages/collect.py": _STAGE,
    "stages/transitions.py": _STAGE,
    "stages/worlds.py": "test_cli.py: it is what three commands do",
    "train/checkpoints.py": "train/test_trainer.py: a training continues from them",
    "trees/attention.py": "trees/test_forward.py: it is right when the trees' figures are",
    "worlds/alfworld/engine/facts.py": "worlds/alfworld/engine/test_goal.py: facts between patterns, by brute force",
    "worlds/alfworld/engine/rules.py": _ENGINE,
    "worlds/alfworld/engine/tables.py": _ENGINE,
    "worlds/alfworld/scene_data.py": "worlds/alfworld/test_scenes.py: scenes are drawn from it",
    "worlds/alfworld/wording.py": "worlds/alfworld/test_world.py: its words are the world's prompts",
    "worlds/by_name.py": "worlds/test_base.py: a world of one's own is found by name",
    "worlds/tau2/domain.py": "worlds/tau2/test_session.py: a session is that of its domain",
    "worlds/tau2/policies.py": "worlds/tau2/test_world.py: what they can solve is solved",
}
"""Sources without a test of their name: the file below tests/ that tests them, and why it is that file."""
