"""The recommenders: one catalogue, candidates fitted on the training part, and their comparison on the same split."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from models.base import Recommender
from models.runtime.progress import Progress
from orchestration.defs.features.assets import TRAINING_SET
from orchestration.lib.check_status import UpstreamChecks
from orchestration.lib.code_versions import code_version
from orchestration.lib.dbt_project import MODEL_OWNERS, ON_SETTLED_CHANGE
from orchestration.lib.metadata import picture, place
from orchestration.storage.warehouse import connect
from orchestration.training.dataset import (
    CREDITS_FILE,
    ITEMS_FILE,
    MAP_FILE,
    USERS_FILE,
    load_training_data,
    training_snapshot,
)
from orchestration.visualization import charts
from settings import Settings

CATALOGUE = dg.AssetKey("catalogue")
CREDITS = dg.AssetKey("film_credits")
FILM_MAP = dg.AssetKey("film_map")
COMPARISON = dg.AssetKey("comparison")

#: What each candidate is. A further recipe is a line here and its name in `settings.RECIPES`.
CANDIDATES = {
    "popularity": "How many users rated a film: the bar that every recommender has to clear.",
    "ease": "EASE (Steck 2019): a linear model in closed form, stronger than most neural ones.",
    "ials": "iALS (Hu et al. 2008, as revisited by Rendle et al. 2022): matrix factorisation over all pairs.",
    "flagship": "The flagship: closed forms and a neural encoder of the history under a ranker; it keeps no user.",
    "neumf": "NeuMF (He et al. 2017): matrix factorisation beside a perceptron that also sees the features.",
    "bpr": "BPR-MF (Rendle et al. 2009): matrix factorisation learnt from pairs, a met film above an unmet one.",
    "itemknn": "ItemKNN: films like those that the user met, by who met both.",
}
#: Those that are fitted with torch.
_TORCH = {"ials", "flagship", "neumf", "bpr"}

#: The metrics of the comparison with the names that people know them by.
METRICS = {
    "hr_10": "HR@10",
    "ndcg_10": "NDCG@10",
    "full_ndcg_10": "full NDCG@10",
    "recall_20": "full Recall@20",
    "coverage_10": "coverage@10",
}

#: How the ratings are read, parted and judged, whichever recommender it is.
_CODE = code_version(
    *(
        "orchestration/training/dataset.py",
        "orchestration/defs/training/assets.py",
        "models/tuning/default_hyperparameters.toml",
    ),
    closure_of=("models.evaluation.comparison", "models.tuning.default_hyperparameters", "models.data.features"),
)


def candidate_key(name: str) -> dg.AssetKey:
    """Return the asset key of a fitted candidate."""
    return dg.AssetKey(["candidates", name])


@dg.asset(
    key=CATALOGUE,
    deps=[dg.AssetKey(["marts", "dim_movies"]), dg.AssetKey(["marts", "dim_users"])],
    group_name="recommender",
    owners=MODEL_OWNERS,
    kinds={"parquet"},
    code_version=code_version("orchestration/defs/training/assets.py"),
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "The films and users that the recommenders know, in the order of their indices: what is rated, and who rates."
    ),
)
def catalogue(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Write the item and user index with what a served answer says of a film."""
    upstream_checks.require_passed(context)
    with connect(settings, tell=context.log.info) as con:
        items = con.sql(
            """
            SELECT movie_key, movie_id, movie_ids, title, year, genres, tconst AS imdb_id, link_url, link_kind,
                rating_count, runtime_minutes, is_adult
            FROM marts.dim_movies WHERE rating_count > 0 ORDER BY movie_key
            """
        ).pl()
        # Users of the streaming platforms have ids of their own, which mean others here.
        users = con.sql(
            "SELECT user_id, user_key FROM marts.dim_users WHERE rating_count > 0 AND edition != 'streaming'"
            " ORDER BY user_key"
        ).pl()
    digest = hashlib.sha256()
    for frame, name in ((items, ITEMS_FILE), (users, USERS_FILE)):
        aside = settings.features / f".{name}.part"
        aside.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(aside)
        digest.update(aside.read_bytes())
        aside.replace(settings.features / name)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest.hexdigest()[:16]),
        metadata={
            "dagster/row_count": items.height,
            "films": items.height,
            "users": users.height,
            "linked_to_imdb": items["imdb_id"].is_not_null().sum(),
            "most_rated": dg.MetadataValue.md(
                charts.markdown_table(
                    items.sort("rating_count", descending=True).select("title", "year", "rating_count")
                )
            ),
        },
    )


@dg.asset(
    key=CREDITS,
    deps=[
        dg.AssetKey(["marts", "dim_movies"]),
        dg.AssetKey(["marts", "dim_people"]),
        dg.AssetKey(["marts", "fct_credits"]),
    ],
    group_name="recommender",
    owners=MODEL_OWNERS,
    kinds={"parquet"},
    code_version=code_version("orchestration/defs/training/assets.py"),
    automation_condition=ON_SETTLED_CHANGE,
    description="Who made the films that are served: what `/v1/people` shows. No recommender reads it.",
)
def film_credits(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Write a row for each person, film and category."""
    upstream_checks.require_passed(context)
    with connect(settings, tell=context.log.info) as con:
        credits = con.sql(
            """
            SELECT DISTINCT nconst, coalesce(people.name, credits.person_name) AS name, birth_year, death_year,
                movie_key, category
            FROM marts.fct_credits AS credits
            INNER JOIN marts.dim_movies AS movies USING (movie_key)
            LEFT JOIN marts.dim_people AS people USING (nconst)
            WHERE movies.rating_count > 0 AND coalesce(people.name, credits.person_name) IS NOT NULL
            ORDER BY nconst, movie_key, category, name
            """
        ).pl()
    file = settings.features / CREDITS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.part")
    credits.write_parquet(aside)
    digest = hashlib.sha256(aside.read_bytes()).hexdigest()
    aside.replace(file)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest[:16]),
        metadata={
            "dagster/row_count": credits.height,
            "people": credits["nconst"].n_unique(),
            "films": credits["movie_key"].n_unique(),
        },
    )


@dg.asset(
    key=FILM_MAP,
    deps=[CATALOGUE, TRAINING_SET],
    group_name="recommender",
    owners=MODEL_OWNERS,
    kinds={"parquet", "scikitlearn"},
    code_version=code_version(
        *("orchestration/training/dataset.py", "orchestration/defs/training/assets.py"),
        closure_of=["models.serving.movie_map"],
    ),
    automation_condition=ON_SETTLED_CHANGE,
    description=(
        "Two coordinates for each film: films that the same people met lie together. What `/v1/map` shows; no"
        " recommender reads it."
    ),
)
def film_map(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    upstream_checks: dg.ResourceParam[UpstreamChecks],
) -> dg.MaterializeResult:
    """Place the films, and draw the best known with their main genres."""
    from models.serving import movie_map as maps

    upstream_checks.require_passed(context)
    data = load_training_data(settings.features)
    genres = data.items["genres"].fill_null([]).to_list()
    places = maps.film_map(data.interactions, genres, seed=settings.seed)
    placed = data.items.select("movie_key").with_columns(pl.Series("x", places[:, 0]), pl.Series("y", places[:, 1]))
    file = settings.features / MAP_FILE
    aside = file.with_name(f".{file.name}.part")
    placed.write_parquet(aside)
    digest = hashlib.sha256(aside.read_bytes()).hexdigest()
    aside.replace(file)
    shown = data.items.select("title", "genres", "rating_count").hstack(placed.select("x", "y"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest[:16]),
        metadata={
            "dagster/row_count": placed.height,
            "films": placed.height,
            "map": picture(charts.film_map(shown)),
        },
    )


def recipe(name: str, settings: Settings, n_interactions: int) -> Recommender:
    """Return an unfitted candidate with the settings chosen for this number of interactions and those of the home."""
    from models.registry import configured
    from models.tuning.default_hyperparameters import chosen_settings

    own = {"epochs": settings.neumf_epochs, "use_features": settings.neumf_features} if name == "neumf" else {}
    return configured(name, {**chosen_settings(name, n_interactions), **own})


def teller(log: Callable[[str], None]) -> Callable[[Progress], None]:
    """Return a progress callback that logs every fifth epoch; the curve in the metadata has them all."""

    def tell(step: Progress) -> None:
        if step.total > 1 and step.step % 5 == 0:
            figures = ", ".join(f"{name} {value:.4f}" for name, value in step.metrics.items() if name != "epoch")
            log(f"epoch {step.step} of at most {step.total}: {figures}")

    return tell


def fitted_metadata(settings: Settings, fitted: Recommender, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the metadata that the page of a fit shows."""
    curve = fitted.learning_curve
    return {
        "fit_seconds": round(seconds, 1),
        "configuration": dg.MetadataValue.json(asdict(fitted.config)),
        "folder": place(settings, folder),
        **({"learning_curve": picture(charts.learning_curve(curve))} if curve else {}),
    }


def _candidate(name: str, code: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=candidate_key(name),
        deps=[TRAINING_SET, CATALOGUE],
        group_name="recommender",
        owners=MODEL_OWNERS,
        kinds={"pytorch" if name in _TORCH else "numpy"},
        code_version=code,
        automation_condition=ON_SETTLED_CHANGE,
        description=f"{CANDIDATES[name]} Fitted on all but each user's last rating, for the comparison.",
    )
    def candidate(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        upstream_checks: dg.ResourceParam[UpstreamChecks],
    ) -> dg.MaterializeResult:
        from models.evaluation.comparison import LeaveLastOutEvaluation

        upstream_checks.require_passed(context)
        data = load_training_data(settings.features)
        protocol = LeaveLastOutEvaluation.prepare(data.interactions, data.features, seed=settings.seed)
        fitted = recipe(name, settings, len(data.interactions))
        seconds = protocol.fit(
            fitted, seed=settings.seed, progress=teller(context.log.info), checkpoints=settings.checkpoints
        )
        folder = settings.evaluation / name
        run = save_and_log(settings, fitted, folder, "leave-last-out", fit_seconds=seconds)
        fitted.checkpoint.remove()
        return dg.MaterializeResult(
            data_version=dg.DataVersion(folder_digest(folder)),
            metadata={
                "interactions": len(protocol.task.fit),
                "mlflow_run": run,
                **fitted_metadata(settings, fitted, folder, seconds),
            },
        )

    return candidate


def candidates(settings: Settings) -> list[dg.AssetsDefinition]:
    """Define the recipes that compete in this home, one asset each."""
    return [_candidate(name, f"{_CODE}-{recipe_version(name, settings)}") for name in settings.candidates]


def recipe_version(name: str, settings: Settings) -> str:
    """Return the code version of a recipe: its algorithm with all that it imports, and the home's settings of it."""
    from models.registry import module_of

    own = code_version(closure_of=[module_of(name)])
    # They are not in any file of the code: a change of them is one of the recipe.
    return f"{own}-{settings.neumf_epochs}-{settings.neumf_features}" if name == "neumf" else own


def save_and_log(
    settings: Settings,
    fitted: Recommender,
    folder: Path,
    experiment: str,
    *,
    fit_seconds: float,
    note: Mapping[str, Any] | None = None,
) -> str:
    """Put a fitted recommender into its folder, and a run about it among the experiments; returns the run's id.

    ``note`` is what else is written beside the weights, such as ``data`` where these are not today's.
    """
    from models.promotion.backtest import RecipeVersion
    from orchestration.training.mlflow_tracking import log_fit

    version = RecipeVersion.of(fitted)
    told: dict[str, Any] = {"fit_seconds": fit_seconds, "recipe": version.digest, "seed": settings.seed}
    told |= {"data": training_snapshot(settings.features), **(note or {})}
    save_whole(fitted, folder, told)
    run = log_fit(
        settings,
        experiment,
        fitted.name,
        parameters={**version.settings, "seed": settings.seed},
        curve=fitted.learning_curve,
        figures={"fit_seconds": fit_seconds},
        tags={
            "recipe": version.digest,
            "code": version.code,
            "edition": settings.movielens,
            "artifact": place(settings, folder),
            "artifact_version": folder_digest(folder),
            **{f"data.{table}": content for table, content in told["data"].items()},
        },
        files=[folder / "recommender.json"],
    )
    aside = folder / ".fit.json.part"
    aside.write_text(json.dumps({**told, "mlflow_run": run}))
    aside.replace(folder / "fit.json")
    return run


def save_whole(fitted: Recommender, folder: Path, note: Mapping[str, Any]) -> None:
    """Replace a candidate's folder by a new one; a kill leaves the old or none, never a mixture."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    fitted.save(aside)
    (aside / "fit.json").write_text(json.dumps(dict(note)))
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)


def folder_digest(folder: Path) -> str:
    """Return the version of a fitted candidate: a digest of its weights and configuration, not of its fit time."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if not file.name.startswith(("fit.json", ".")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def comparison_file(settings: Settings) -> Path:
    """Where the comparison's rows are kept as JSON."""
    return settings.evaluation / "comparison.json"


def comparison(names: Sequence[str]) -> dg.AssetsDefinition:
    """Define the comparison of the named candidates."""

    @dg.asset(
        key=COMPARISON,
        deps=[TRAINING_SET, *(candidate_key(name) for name in names)],
        group_name="recommender",
        owners=MODEL_OWNERS,
        kinds={"json"},
        code_version=f"{_CODE}-{'-'.join(names)}",
        automation_condition=ON_SETTLED_CHANGE,
        description=(
            "The candidates side by side on each user's last rating: HR@10 and NDCG@10 among 99 sampled negatives, the"
            " same for all, and NDCG@10, Recall@20 and coverage in the ranking of all films. IMDb's ratings are not"
            " used."
        ),
    )
    def compared(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        upstream_checks: dg.ResourceParam[UpstreamChecks],
    ) -> dg.MaterializeResult:
        from models.evaluation.comparison import LeaveLastOutEvaluation
        from models.registry import load_recommender
        from orchestration.training.mlflow_tracking import add_figures

        upstream_checks.require_passed(context)
        data = load_training_data(settings.features)
        protocol = LeaveLastOutEvaluation.prepare(data.interactions, data.features, seed=settings.seed)
        rows, runs = [], {}
        for name in names:
            context.log.info(f"judging {name}")
            folder = settings.evaluation / name
            note = json.loads((folder / "fit.json").read_text())
            rows.append(asdict(protocol.judge(load_recommender(folder), fit_seconds=note["fit_seconds"])))
            if "mlflow_run" in note:
                runs[note["mlflow_run"]] = {metric: rows[-1][metric] for metric in METRICS}
        add_figures(settings, runs)
        aside = settings.evaluation / ".comparison.json.part"
        aside.write_text(json.dumps({"protocol": "leave-last-out", "seed": settings.seed, "rows": rows}, indent=1))
        aside.replace(comparison_file(settings))
        timeless = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()[:16]),
            metadata={
                "users_judged": len(protocol.task),
                "table": dg.MetadataValue.md(charts.markdown_table(pl.DataFrame(rows).rename(METRICS))),
                "chart": picture(charts.comparison(rows)),
                "file": place(settings, comparison_file(settings)),
            },
        )

    return compared
