"""What is served: the immutable bundle, the checks it must pass, the pointer that promotes it, and the built bento."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import polars as pl

from orchestration.defs.features.assets import ONLINE_STORE, TRAINING_SET
from orchestration.defs.promotion.assets import FITTED_MODEL, GATE, RATING_MODEL
from orchestration.defs.training.assets import CATALOGUE, COMPARISON, CREDITS, FILM_MAP, comparison_file
from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import MODEL_OWNERS, ON_SETTLED_CHANGE
from orchestration.lib.metadata import place
from orchestration.promotion.decisions import built_pointer
from orchestration.training.dataset import CREDITS_FILE, MAP_FILE, load_training_data, training_snapshot
from orchestration.visualization import charts
from settings import Settings

if TYPE_CHECKING:
    from models.serving.bundle import Bundle

MODEL_BUNDLE = dg.AssetKey("model_bundle")
PROMOTED_MODEL = dg.AssetKey("promoted_model")
BENTO = dg.AssetKey("bento")


@dg.asset(
    key=MODEL_BUNDLE,
    deps=[TRAINING_SET, CATALOGUE, CREDITS, FILM_MAP, COMPARISON, GATE, FITTED_MODEL, RATING_MODEL],
    group_name="serving",
    owners=MODEL_OWNERS,
    kinds={"pytorch", "numpy"},
    code_version=code_version(
        *(
            "orchestration/training/dataset.py",
            "orchestration/promotion/decisions.py",
            "orchestration/defs/serving/assets.py",
        ),
        # Not part of the bundle, but of what is checked before the bundle is promoted.
        "bento/features/refresher.py",
        closure_of=(
            "models.serving.bundle",
            "models.algorithms.content_scores",
            "models.algorithms.popularity",
            "models.algorithms.rating.bundled_rating_model",
        ),
    ),
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "One immutable folder with all that a served answer needs: the fitted recommender, the model of stars, the"
        " popular films it falls back on, the films with their features, who made them and where they lie on the map,"
        " what each user has seen, and where it all came from."
    ),
)
def model_bundle(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Write the bundle around what the gate promoted, or around the weights that it keeps."""
    from feature_repo.store import service_hash, service_schema
    from models.algorithms.rating.bundled_rating_model import load_rating_head
    from models.serving.bundle import FeatureSet, read_bundle_manifest, write_pointer
    from orchestration.promotion.decisions import gate_file, make_bundle, rating_folder, read_decision

    upstream_checks.require_passed(context)
    decision = read_decision(gate_file(settings))
    data = load_training_data(settings.features)
    names = service_schema()
    version = make_bundle(
        settings,
        decision,
        data,
        features=FeatureSet(
            service="recommender_v1",
            service_hash=service_hash(),
            user_names=tuple(names["user"]),
            item_names=tuple(names["item"]),
            snapshot_time=str(np.datetime64(data.snapshot_time, "s")) + "Z",
        ),
        data_snapshot={"edition": settings.movielens, **training_snapshot(settings.features)},
        evaluation=json.loads(comparison_file(settings).read_text()),
        rating=load_rating_head(rating_folder(settings)),
        credits=pl.read_parquet(settings.features / CREDITS_FILE, glob=False),
        film_map=pl.read_parquet(settings.features / MAP_FILE, glob=False),
    )
    write_pointer(built_pointer(settings), version)
    manifest = read_bundle_manifest(settings.models / version)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            "version": version,
            "weights": _weights(decision),
            "folder": place(settings, settings.models / version),
            **{f"bundle_{what}": count for what, count in manifest["counts"].items()},
            "data_snapshot": dg.MetadataValue.json(manifest["data_snapshot"]),
        },
    )


def _weights(decision: Mapping[str, Any]) -> str:
    if decision["promoted"]:
        return "fitted anew"
    if decision.get("refits"):
        return f"fitted again on the ratings of {decision['keeps']}, without those of people who asked to be forgotten"
    return f"those of {decision['keeps']}"


@dg.asset_check(
    asset=MODEL_BUNDLE,
    blocking=True,
    description=(
        "The bundle loads, its hashes hold, it gives each of 100 users finite scores and unseen films, and what the"
        " service pushes after a rating has the columns of the feature view."
    ),
)
def bundle_answers(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Ask the newest bundle before anybody else does."""
    from models.serving.bundle import load_bundle, read_pointer

    bundle = load_bundle(settings.models / read_pointer(built_pointer(settings)))
    push_differs = _push_differs(bundle)
    known = pl.scan_parquet(settings.features / "user_features.parquet", glob=False).sort("feature_timestamp")
    latest = known.group_by("user_key").last().collect()
    users = list(range(0, len(bundle.users), max(1, len(bundle.users) // 100)))[:100]
    rows = bundle.users[users].join(latest, on="user_key", how="left", maintain_order="left")
    columns = [name.removeprefix("user_features__") for name in bundle.features.user_names]
    batch = bundle.batch(users, rows.select(pl.col(columns).cast(pl.Float32).fill_null(float("nan"))).to_numpy())
    items, scores = bundle.recommender.recommend(batch, 10)
    seen = bundle.history[users].toarray()[np.arange(len(users))[:, None], np.maximum(items, 0)] > 0
    finite = bool(np.isfinite(scores[items >= 0]).all())
    fresh = not bool(seen[items >= 0].any())
    first = bundle.items[[int(item) for item in items[0] if item >= 0]].select("title", "year")
    return dg.AssetCheckResult(
        passed=finite and fresh and bool((items[:, 0] >= 0).any()) and not push_differs,
        description=push_differs or None,
        metadata={
            "users_asked": len(users),
            "scores_finite": finite,
            "seen_films_left_out": fresh,
            "push_has_the_columns_of_its_view": not push_differs,
            "first_answer": dg.MetadataValue.md(charts.markdown_table(first)),
        },
    )


def _push_differs(bundle: "Bundle") -> str:
    """Say where the features that the service pushes and those of the view differ; empty where they do not.

    Feast refuses a push that lacks a column, for every user and with no more than a warning in the service's log.
    """
    from bento.features.refresher import features_now
    from feature_repo.store import pushed_columns

    assert bundle.item_features is not None
    one = np.zeros(1, dtype=np.int64)
    given = features_now(bundle.features.item_names, bundle.item_features, one, np.ones(1, dtype=np.float32), one)
    wanted = pushed_columns()
    differs = {
        "the push lacks": [name for name in wanted if name not in given],
        "the view lacks": [name for name in given if name not in wanted],
    }
    found = "; ".join(f"{what} {', '.join(names)}" for what, names in differs.items() if names)
    where = "features_now (bento/features/refresher.py) and the view user_features (feature_repo/features.py)"
    return f"{found}: {where} must have the same features" if found else ""


@dg.asset(
    key=PROMOTED_MODEL,
    deps=[MODEL_BUNDLE, ONLINE_STORE],
    group_name="serving",
    owners=MODEL_OWNERS,
    kinds={"json"},
    automation_condition=ON_SETTLED_CHANGE,
    code_version="2",
    description=(
        "The pointer `serving.json`, moved by one rename to the newest bundle that passed its checks, after the online"
        " store holds its features. A running bento follows it. After a `make rollback` it stays where it was put until"
        " it is let go."
    ),
)
def promoted_model(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Move the pointer, unless somebody holds it."""
    from models.serving.bundle import BundleError, read_pointer
    from orchestration.promotion.decisions import promote

    upstream_checks.require_passed(context)
    version = read_pointer(built_pointer(settings))
    try:
        before = read_pointer(settings.serving_pointer)
    except BundleError:
        before = "none"
    served = promote(settings, version, tell=context.log.info)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(served),
        metadata={
            "version": served,
            "before": before,
            "newest": version,
            "held": served != version,
            "file": place(settings, settings.serving_pointer),
        },
    )


@dg.asset(
    key=BENTO,
    deps=[PROMOTED_MODEL],
    group_name="serving",
    owners=MODEL_OWNERS,
    kinds={"bentoml"},
    code_version=code_version("bento", "models", "settings.py", "environment.py", "requirements.lock"),
    automation_condition=ON_SETTLED_CHANGE,
    description="The promoted bundle with its service in the bento store: what `make serve` starts.",
)
def bento(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Build the bento from the promoted bundle."""
    from bento.packaging.build import build
    from models.serving.bundle import read_pointer

    upstream_checks.require_passed(context)
    version = read_pointer(settings.serving_pointer)
    tag = build(settings, settings.models / version)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(tag),
        metadata={"tag": tag, "store": place(settings, settings.bentoml), "serve_with": "make serve"},
    )
