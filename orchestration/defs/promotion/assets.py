"""The promotion gate: what is served next, decided by figures; and the recipe that it chose, fitted on every rating."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from models.base import Recommender
from models.promotion.backtest import FIGURE, Figures, RecipeVersion, Trial
from orchestration.defs.features.assets import TRAINING_SET
from orchestration.defs.training.assets import (
    CATALOGUE,
    COMPARISON,
    METRICS,
    comparison_file,
    fitted_metadata,
    folder_digest,
    recipe,
    recipe_version,
    save_and_log,
    save_whole,
    teller,
)
from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import MODEL_OWNERS, ON_SETTLED_CHANGE
from orchestration.lib.metadata import picture, place
from orchestration.promotion.decisions import fitted_folder, rating_folder
from orchestration.training.dataset import load_training_data, training_snapshot
from orchestration.visualization import charts
from settings import Settings

GATE = dg.AssetKey("gate")
FITTED_MODEL = dg.AssetKey("fitted_model")
RATING_MODEL = dg.AssetKey("rating_model")

#: How the data are read, a decision is made and what it chose is fitted, whichever recipe it is.
_CODE = code_version(
    *(
        "orchestration/training/dataset.py",
        "orchestration/promotion/decisions.py",
        "orchestration/defs/promotion/assets.py",
    ),
    closure_of=("models.promotion.backtest", "models.promotion.gate", "models.tuning.default_hyperparameters"),
)


def gate_code(settings: Settings) -> str:
    """Return the code version of the gate, with the recipes that it judges and the settings that it reads."""
    read = (settings.gate_min_users, settings.gate_tolerance, settings.gate_segment_share, *settings.candidates)
    recipes = [recipe_version(name, settings) for name in settings.candidates]
    return "-".join([_CODE, _joined(recipes), *map(str, read)])


def _joined(versions: Sequence[str]) -> str:
    return hashlib.sha256("|".join(versions).encode()).hexdigest()[:12]


def gate(settings: Settings) -> dg.AssetsDefinition:
    """Define the gate over the candidates of a home."""

    @dg.asset(
        key=GATE,
        deps=[TRAINING_SET, CATALOGUE, COMPARISON],
        group_name="recommender",
        owners=MODEL_OWNERS,
        kinds={"json"},
        code_version=gate_code(settings),
        automation_condition=ON_SETTLED_CHANGE,
        description=(
            "The decision what is served next. Every recipe, the served one among them, is fitted on the same part of"
            " the ratings before one moment and judged, user by user, on those after it; where that leaves too few"
            " users, on each user's last rating. Another recipe has to be better than the served one's beyond the"
            " paired interval; the served one's own, on newer data, must not be worse. Data that failed a check are"
            " refused before anything is fitted."
        ),
    )
    def decided(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        upstream_checks: dg.ResourceParam[UpstreamChecks],
    ) -> dg.MaterializeResult:
        from feature_repo.store import service_hash
        from orchestration.promotion.decisions import digest_of, gate_file, judge_candidates, read_decision, served_now
        from orchestration.promotion.decisions import write_decision as write

        started = time.monotonic()
        snapshot = training_snapshot(settings.features)
        lineage = {
            "edition": settings.movielens,
            "data": snapshot,
            "code": gate_code(settings),
            "features": {"service": "recommender_v1", "hash": service_hash()},
        }
        # A refusal is a decision like any other, with its place in the record, so it is written and not raised.
        refused = upstream_checks.faults(GATE, context.instance, trained_on=snapshot)
        outcome = None
        if not refused:
            data = load_training_data(settings.features)
            count = len(data.interactions)
            recipes = [RecipeVersion.of(recipe(name, settings, count)) for name in settings.candidates]
            outcome = judge_candidates(
                settings,
                data,
                recipes,
                served_now(settings),
                tell=context.log.info,
                progress=teller(context.log.info),
                log=partial(_log_trial, settings),
            )
        write(settings, outcome, lineage, refused)
        decision = read_decision(gate_file(settings))
        for reason in (*decision["reasons"], *decision.get("notes", ())):
            context.log.info(reason)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(decision)),
            metadata={
                **_shown(decision),
                "file": place(settings, gate_file(settings)),
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    return decided


def _log_trial(
    settings: Settings, recipe: RecipeVersion, trial: Trial, fitted: Recommender, figures: Figures, seconds: float
) -> None:
    """Log a fit that the gate made as an MLflow run."""
    from orchestration.training.mlflow_tracking import log_fit

    log_fit(
        settings,
        "gate",
        recipe.name,
        parameters={**recipe.settings, "seed": settings.seed},
        curve=fitted.learning_curve,
        figures={"fit_seconds": seconds, FIGURE: float(np.nanmean(figures.ndcg[trial.warm]))},
        tags={
            "recipe": recipe.digest,
            "code": recipe.code,
            "edition": settings.movielens,
            "protocol": trial.protocol,
            "trial": trial.digest(),
            **{f"data.{table}": content for table, content in training_snapshot(settings.features).items()},
        },
    )


def _shown(decision: dict[str, Any]) -> dict[str, Any]:
    """Return a decision as metadata."""
    shown: dict[str, Any] = {
        "promoted": decision["promoted"],
        "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in decision["reasons"])),
        "lineage": dg.MetadataValue.json(decision["lineage"]),
    }
    if "way" not in decision:
        return shown
    shown |= {
        "recipe": decision["label"],
        "way": decision["way"],
        "configuration": dg.MetadataValue.json(decision["recipe"]["settings"]),
        "trial": dg.MetadataValue.json(decision["trial"]),
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in decision["notes"]) or "none"),
        "table": dg.MetadataValue.md(charts.markdown_table(pl.DataFrame(decision["table"]))),
        "chart": picture(
            charts.decision(
                decision["table"], decision["label"], f"NDCG@10 with 95 % intervals, {decision['trial']['protocol']}"
            )
        ),
    }
    if decision["segments"]:
        shown["segments"] = dg.MetadataValue.md(charts.markdown_table(pl.DataFrame(decision["segments"])))
    return shown


@dg.asset_check(
    asset=GATE,
    blocking=True,
    description="What was trained on has passed its checks; else nothing is fitted on everything, and none promoted.",
)
def trained_on_checked_data(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Whether the gate refused the data themselves."""
    from orchestration.promotion.decisions import gate_file, read_decision

    refused = read_decision(gate_file(settings))["refused"]
    return dg.AssetCheckResult(passed=not refused, metadata={"refused": "; ".join(refused) or "nothing"})


@dg.asset_check(
    asset=GATE,
    description="The served recipe is better than popularity on every metric; a warning where it is not.",
)
def beats_popularity(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Compare the served recipe with the bar, metric by metric."""
    from orchestration.promotion.decisions import gate_file, read_decision

    rows = {row["recommender"]: row for row in json.loads(comparison_file(settings).read_text())["rows"]}
    name = read_decision(gate_file(settings)).get("recipe", {}).get("name")
    if name not in rows:
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"not_better_on": f"not compared: {name or 'nothing'} is not among the candidates"},
        )
    bar, served = rows["popularity"], rows[name]
    worse = [title for metric, title in METRICS.items() if not served[metric] > bar[metric]]
    return dg.AssetCheckResult(
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "not_better_on": ", ".join(worse) or "nothing",
            **{title: f"{served[metric]:.4f} against {bar[metric]:.4f}" for metric, title in METRICS.items()},
        },
    )


@dg.asset(
    key=FITTED_MODEL,
    deps=[TRAINING_SET, CATALOGUE, GATE],
    group_name="recommender",
    owners=MODEL_OWNERS,
    kinds={"numpy"},
    # The recipe's own code is part of the decision that this follows.
    code_version=code_version("orchestration/training/dataset.py", "orchestration/defs/promotion/assets.py"),
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "The recipe that the gate promoted, fitted on every rating, the last ones too; where it promoted none, the"
        " served weights as they are, or fitted again on their own ratings without those of people who asked to be"
        " forgotten. The bundle takes its weights from here, so that a change of the films' facts"
        " alone costs no fit."
    ),
)
def fitted_model(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Fit what the gate promoted on all interactions, or take over the weights that it keeps."""
    from orchestration.promotion.decisions import (
        fit_data,
        gate_file,
        kept_bundle,
        read_decision,
        recipe_of,
        refuse_unchecked,
        weights_stay,
    )

    upstream_checks.require_passed(context)
    decision = read_decision(gate_file(settings))
    refuse_unchecked(decision)
    folder = fitted_folder(settings)
    if weights_stay(decision):
        kept = kept_bundle(settings, decision)
        save_whole(kept.recommender, folder, {"fit_seconds": 0.0, "kept_from": decision["keeps"]})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(folder_digest(folder)),
            metadata={"kept_from": decision["keeps"], **fitted_metadata(settings, kept.recommender, folder, 0.0)},
        )
    source = fit_data(settings, decision, load_training_data(settings.features))
    started = time.monotonic()
    fitted = recipe_of(decision).make()
    fitted.fit(
        source.interactions,
        source.features,
        seed=settings.seed,
        progress=teller(context.log.info),
        checkpoints=settings.checkpoints,
    )
    seconds = time.monotonic() - started
    run = save_and_log(settings, fitted, folder, "served", fit_seconds=seconds, note=source.note)
    fitted.checkpoint.remove()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(folder_digest(folder)),
        metadata={
            "interactions": len(source.interactions),
            "mlflow_run": run,
            **fitted_metadata(settings, fitted, folder, seconds),
        },
    )


@dg.asset(
    key=RATING_MODEL,
    deps=[TRAINING_SET, CATALOGUE],
    group_name="recommender",
    owners=MODEL_OWNERS,
    kinds={"pytorch"},
    code_version=code_version(
        *("orchestration/training/dataset.py", "orchestration/defs/promotion/assets.py"),
        closure_of=["models.algorithms.rating.bundled_rating_model"],
    ),
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "What `/predict_rating` answers from: Bayesian matrix factorisation with few factors and draws, fitted on every"
        " rating. It keeps the films' side only; a user is solved from his history when he asks."
    ),
)
def rating_model(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Fit the model of stars that goes into the bundle."""
    from models.algorithms.rating.bundled_rating_model import fit_rating_head

    upstream_checks.require_passed(context)
    data = load_training_data(settings.features)
    started = time.monotonic()
    fitted = fit_rating_head(data.interactions, seed=settings.seed)
    seconds = time.monotonic() - started
    folder = rating_folder(settings)
    save_whole(fitted, folder, {"fit_seconds": seconds})
    return dg.MaterializeResult(
        data_version=dg.DataVersion(folder_digest(folder)),
        metadata={
            "interactions": len(data.interactions),
            "train_rmse": fitted.learning_curve[-1]["train_rmse"],
            # Its draws have no loss to show a curve of.
            "fit_seconds": round(seconds, 1),
            "configuration": dg.MetadataValue.json(asdict(fitted.config)),
            "folder": place(settings, folder),
        },
    )
