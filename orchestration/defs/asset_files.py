"""Which file stands for each asset that is not a table, so that one deleted by hand is built again.

The published copy is many files, see ``orchestration.publishing.duckdb_copy.differences``.
"""

from pathlib import Path

import dagster as dg

from orchestration.defs.features.assets import (
    FEATURE_MARTS,
    ONLINE_STORE,
    TRAINING_SET,
    history_file,
    history_key,
    online_file,
)
from orchestration.defs.promotion.assets import FITTED_MODEL, GATE, RATING_MODEL
from orchestration.defs.serving.assets import BENTO, MODEL_BUNDLE, PROMOTED_MODEL
from orchestration.defs.training.assets import CATALOGUE, COMPARISON, CREDITS, FILM_MAP, candidate_key, comparison_file
from orchestration.promotion.decisions import built_pointer, fitted_folder, gate_file, rating_folder
from orchestration.training.dataset import CREDITS_FILE, ITEMS_FILE, MAP_FILE, TRAINING_FILE
from settings import Settings


def artifacts(settings: Settings) -> dict[dg.AssetKey, Path]:
    """Return the file of each asset under ``MARQUEE_HOME``."""
    return {
        **{history_key(mart): history_file(settings, mart) for mart in FEATURE_MARTS},
        TRAINING_SET: settings.features / TRAINING_FILE,
        ONLINE_STORE: online_file(settings),
        CATALOGUE: settings.features / ITEMS_FILE,
        CREDITS: settings.features / CREDITS_FILE,
        FILM_MAP: settings.features / MAP_FILE,
        **{candidate_key(name): settings.evaluation / name / "recommender.json" for name in settings.candidates},
        COMPARISON: comparison_file(settings),
        GATE: gate_file(settings),
        FITTED_MODEL: fitted_folder(settings) / "recommender.json",
        RATING_MODEL: rating_folder(settings) / "recommender.json",
        MODEL_BUNDLE: built_pointer(settings),
        PROMOTED_MODEL: settings.serving_pointer,
        BENTO: settings.bentoml / "bentos",
    }
