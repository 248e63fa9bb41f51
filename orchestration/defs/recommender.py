"""The recommenders: one catalogue, candidates fitted on the training part, and their comparison on the same split."""

import hashlib
from collections.abc import Callable

import dagster as dg

from orchestration import charts
from orchestration.defs.features import TRAINING_SET
from orchestration.defs.resources import MODEL_OWNERS, ON_CHANGE, source_digest
from orchestration.training_data import ITEMS_FILE, USERS_FILE, TrainingData
from orchestration.warehouse import connect
from settings import Settings

CATALOGUE = dg.AssetKey("catalogue")
COMPARISON = dg.AssetKey("comparison")

#: What each candidate is; the first one is the bar that every other has to clear.
CANDIDATES = {
    "popularity": "How many users rated a film: the bar that every recommender has to clear.",
    "ease": "EASE (Steck 2019): a linear model in closed form, stronger than most neural ones.",
    "neumf": "NeuMF (He et al. 2017): matrix factorisation beside a multi-layer perceptron that also sees the features.",
}
SERVED = "neumf"

_CODE = source_digest("models", "orchestration/training_data.py", "orchestration/defs/recommender.py")


def candidate_key(name: str) -> dg.AssetKey:
    """The asset key of a fitted candidate."""
    return dg.AssetKey(["candidates", name])


@dg.asset(
    key=CATALOGUE,
    deps=[dg.AssetKey(["marts", "dim_movies"]), dg.AssetKey(["marts", "dim_users"])],
    group_name="recommender",
    owners=MODEL_OWNERS,
    kinds={"parquet"},
    code_version=source_digest("orchestration/defs/recommender.py"),
    automation_condition=ON_CHANGE,
    description=(
        "The films and users that the recommenders know, in the order of their indices: what is rated, and who rates."
    ),
)
def catalogue(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Write the item and user index with what a served answer says of a film."""
    with connect(settings, tell=context.log.info) as con:
        items = con.sql(
            """
            SELECT movie_key, movie_id, movie_ids, title, year, genres, tconst AS imdb_id, link_url, link_kind, rating_count
            FROM marts.dim_movies WHERE rating_count > 0 ORDER BY movie_key
            """
        ).pl()
        users = con.sql("SELECT user_id, user_key FROM marts.dim_users WHERE rating_count > 0 ORDER BY user_key").pl()
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


def fit_candidate(
    name: str, settings: Settings, data: TrainingData, *, held_out: bool, tell: Callable[[str], None]
) -> object:
    """Fit a recipe on the training part of the leave-last-out split, or on everything when nothing is held out."""


def _candidate(name: str, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=candidate_key(name),
        deps=[TRAINING_SET, CATALOGUE],
        group_name="recommender",
        owners=MODEL_OWNERS,
        kinds={"pytorch" if name == "neumf" else "numpy"},
        code_version=_CODE,
        automation_condition=ON_CHANGE,
        description=f"{description} Fitted on all but each user's last rating, for the comparison.",
    )
    def candidate(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
        raise NotImplementedError

    return candidate


candidates = [_candidate(name, description) for name, description in CANDIDATES.items()]
