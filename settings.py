"""Where everything is and what is wanted: the one typed settings object, read from ``MARQUEE_*`` variables.

The lowest layer: every package of the project may import it and it imports none of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent

#: The format of ``MARQUEE_HOME`` that this code writes; an older home is migrated, a newer one refused.
HOME_FORMAT = 2

EDITIONS = (
    "sample",
    "ml-100k",
    "ml-1m",
    "ml-10m",
    "ml-20m",
    "ml-25m",
    "ml-32m",
    "ml-latest-small",
    "ml-latest",
)

IMDB_DUMPS = (
    "title.basics",
    "title.ratings",
    "title.crew",
    "title.principals",
    "title.episode",
    "title.akas",
    "name.basics",
)


#: Recipes that always compete: the fallback, and the two linear-algebra bars that a neural one has to clear.
BARS = ("popularity", "ease", "ials")
#: Recipes that compete when they are asked for.
RECIPES = ("flagship", "neumf", "bpr", "itemknn")


class Settings(BaseSettings):
    """Every ``MARQUEE_`` variable with its default, and the paths that follow from them.

    Raises ``pydantic.ValidationError`` that names the variable, the value and the allowed ones.
    """

    model_config = SettingsConfigDict(env_prefix="MARQUEE_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default=PROJECT_ROOT / "data", validate_default=True, description="Folder of all state.")
    movielens: str = Field(default="sample", description="The MovieLens edition, or `sample`.")
    raw_dir: Path | None = Field(default=None, description="A local mirror looked at before the network.")
    imdb_dir: Path | None = Field(default=None, description="Another folder for the IMDb files of the mirror.")
    streaming_dir: Path | None = Field(
        default=None,
        description="Folder of the streaming catalogues (`netflix_titles.csv`, …) and `ratings/*.csv`; without it they"
        " are left out. The sample writes its own.",
    )
    download_dir: Path | None = Field(
        default=None, description="Where downloads are kept; default `$MARQUEE_HOME/downloads`."
    )
    imdb_max_age_days: float = Field(
        default=7.0,
        ge=0,
        description="A downloaded IMDb dump, or ml-latest, last looked at longer ago than this is asked for anew, and"
        " fetched if it has changed; 0 asks at every look. Local mirrors are not touched.",
    )
    imdb_dumps: Annotated[tuple[str, ...], NoDecode] = Field(
        default=IMDB_DUMPS, description="The IMDb dumps wanted, separated by commas."
    )
    catalogue_min_votes: int = Field(
        default=1_000, ge=0, description="Votes from which a film of IMDb that MovieLens lacks is in the catalogue."
    )
    changes_rating_step: float = Field(
        default=0.3, gt=0, description="By how much an IMDb rating must move to be noted among the changes."
    )
    changes_min_votes: int = Field(
        default=100, ge=1, description="Votes that a title must have before and after for its move to be noted."
    )
    movielens_url: str = Field(
        default="https://files.grouplens.org/datasets/movielens", description="Where editions are downloaded from."
    )
    imdb_url: str = Field(default="https://datasets.imdbws.com", description="Where IMDb dumps are downloaded from.")
    seed: int = Field(default=42, description="Seed of every random act.")
    threads: int = Field(default=2, ge=1, description="Threads of DuckDB.")
    duckdb_memory: str = Field(default="2GB", description="DuckDB's memory limit in the pipeline.")
    lock_timeout_s: float = Field(
        default=600.0, ge=0, description="How long a run waits for another writer of the warehouse."
    )
    retry_cooldown_s: float = Field(
        default=600.0,
        ge=0,
        description=(
            "How long the daemon waits before it builds again what failed or was killed; doubles with each failure, up"
            " to a day."
        ),
    )
    sample_users: int = Field(default=1_000, ge=10, description="Users of the embedded sample.")
    sample_movies: int = Field(default=1_500, ge=20, description="Movies of the embedded sample.")
    sample_ratings: int = Field(
        default=100_000, ge=100, description="Ratings of the embedded sample, before broken rows."
    )
    neumf_epochs: int = Field(
        default=20, ge=1, description="Upper bound of NeuMF's training epochs; early stopping ends sooner."
    )
    neumf_features: bool = Field(
        default=True, description="Feed the feature service to NeuMF's MLP; off is the paper's baseline."
    )
    recipes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("neumf",),
        description="Recipes that compete beside popularity, EASE and iALS, separated by commas; may be empty.",
    )
    gate_min_users: int = Field(
        default=200,
        ge=1,
        description="Users with a past that the temporal split must ask for the gate to judge by it; below, each user's"
        " last rating decides.",
    )
    gate_tolerance: float = Field(
        default=0.01, ge=0, lt=1, description="Share by which a refresh may be worse, by the lower paired bound."
    )
    gate_segment_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share by which a refresh may fall for new users, light users, new films."
    )
    keep_bundles: int = Field(
        default=5,
        ge=1,
        description="Newest bundles that `make clean-up` keeps, beside the served and the rollback one.",
    )
    keep_bentos: int = Field(
        default=3, ge=1, description="Newest bentos that `make clean-up` keeps, beside those of the kept versions."
    )
    keep_runs_days: float = Field(
        default=30.0, ge=0, description="Age in days at which `make clean-up` removes a run from Dagster's history."
    )
    keep_leftovers_days: float = Field(
        default=1.0, ge=0, description="Age in days at which `make clean-up` takes a half-written file for abandoned."
    )
    keep_publications: int = Field(
        default=3,
        ge=1,
        description="Published copies that can be opened under their versions, the newest among them.",
    )
    store_url: SecretStr = Field(
        default=SecretStr(""),
        description="The app's store, `postgresql://user:password@host/name` or `sqlite:///path`; default"
        " `$MARQUEE_HOME/app/store.db`.",
    )
    online_store: SecretStr = Field(
        default=SecretStr(""),
        description="A Redis as Feast's online store, `host:port,db=0,password=...`; default: a SQLite file in the"
        " home.",
    )
    retrain_after: int = Field(
        default=1_000, ge=1, description="Ratings in the app after which the sensor `app_has_written` starts a rebuild."
    )
    auth: Literal["off", "jwt"] = Field(
        default="off",
        description="Who may call the API: anybody on this machine and nobody else (`off`), or whoever has logged in.",
    )
    environment: Literal["development", "production"] = Field(
        default="development", description="In `production` a weak secret is refused."
    )
    jwt_secret: SecretStr = Field(
        default=SecretStr(""), description="What the API's tokens are signed with; needed where `MARQUEE_AUTH=jwt`."
    )
    rate_limit: int | None = Field(
        default=None,
        ge=0,
        description="Requests a minute of one caller, large ones counted as several, 0 for no limit; default 600 with"
        " `MARQUEE_AUTH=jwt`, else none.",
    )
    request_timeout_s: float = Field(
        default=30.0, gt=0, le=60, description="Seconds after which a request that has no answer yet is answered 504."
    )
    login_limit: int = Field(default=30, ge=1, description="Failed logins a minute from one address.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins whose pages may call the API, separated by commas."
    )
    answer_log: bool = Field(default=True, description="Log what is served in the app's store, for the marts about it.")
    keep_answers_days: float = Field(
        default=90.0, gt=0, description="Age in days at which a logged answer goes from the app's store."
    )
    ab_mode: Literal["off", "ab", "shadow"] = Field(
        default="off",
        description="`ab`: a share of the users is answered by another version; `shadow`: its answers are only logged.",
    )
    ab_version: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
        max_length=200,
        description="The version, a folder of `$MARQUEE_HOME/models`, that challenges the promoted one.",
    )
    ab_share: float = Field(default=0.5, ge=0, le=1, description="Share of the users who get the challenger.")
    ab_name: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
        max_length=100,
        description="Name of the experiment, by which users are dealt anew; default its version.",
    )
    traces_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s]+)?$",
        description="Where the service sends OpenTelemetry traces, OTLP over HTTP; none without it.",
    )
    traces_share: float = Field(default=1.0, gt=0, le=1, description="Share of the requests that are traced.")
    serve_port: int = Field(default=8000, ge=1, le=65535, description="Port of the bento.")
    ui_port: int = Field(default=3000, ge=1, le=65535, description="Port of the Dagster UI.")

    @model_validator(mode="after")
    def _experiment_has_a_version(self) -> Self:
        if self.ab_mode != "off" and not self.ab_version:
            raise ValueError(f"MARQUEE_AB_MODE={self.ab_mode} needs MARQUEE_AB_VERSION, a folder of the home's models")
        if self.ab_mode == "shadow" and not self.answer_log:
            raise ValueError("MARQUEE_AB_MODE=shadow is for the log: leave MARQUEE_ANSWER_LOG on")
        return self

    @field_validator("home", "raw_dir", "imdb_dir", "streaming_dir", "download_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Paths are taken relative to the working directory of the start, once."""
        return None if path is None else path.expanduser().absolute()

    @field_validator("home")
    @classmethod
    def _can_hold_databases(cls, home: Path) -> Path:
        """DuckDB puts a database's log before the first `?` of its path; SQLAlchemy ends a database's name there."""
        if "?" in str(home):
            raise ValueError(f"{home} cannot hold a database, for `?` is in its name; choose another folder")
        return home

    @field_validator("movielens")
    @classmethod
    def _known_edition(cls, edition: str) -> str:
        if edition not in EDITIONS:
            raise ValueError(f"unknown MovieLens edition {edition!r}; choose one of {', '.join(EDITIONS)}")
        return edition

    @field_validator("imdb_dumps", mode="before")
    @classmethod
    def _known_dumps(cls, value: object) -> object:
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list | tuple):
            raise ValueError("a list of dumps, separated by commas, is wanted")
        names = [str(part).strip() for part in listed if str(part).strip()]
        unknown = [name for name in names if name not in IMDB_DUMPS]
        if unknown:
            raise ValueError(f"unknown IMDb dump {', '.join(unknown)}; choose from {', '.join(IMDB_DUMPS)}")
        return tuple(name for name in IMDB_DUMPS if name in names)

    @field_validator("recipes", mode="before")
    @classmethod
    def _known_recipes(cls, value: object) -> object:
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list | tuple):
            raise ValueError("a list of recipes, separated by commas, is wanted")
        names = [str(part).strip() for part in listed if str(part).strip()]
        unknown = [name for name in names if name not in (*BARS, *RECIPES)]
        if unknown:
            raise ValueError(f"unknown recipe {', '.join(unknown)}; choose from {', '.join((*BARS, *RECIPES))}")
        return tuple(name for name in RECIPES if name in names)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Every recipe that competes, the bars first."""
        return (*BARS, *self.recipes)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list | tuple):
            raise ValueError("a list of origins, separated by commas, is wanted")
        origins = tuple(str(part).strip().rstrip("/").lower() for part in listed if str(part).strip())
        if wrong := [origin for origin in origins if not origin.startswith(("http://", "https://"))]:
            raise ValueError(f"an origin is like https://app.example.org, not {', '.join(wrong)}")
        return origins

    @property
    def warehouse(self) -> Path:
        """The writer's DuckDB file; only the orchestration opens it."""
        return self.home / "warehouse.duckdb"

    @property
    def warehouse_lock(self) -> Path:
        """The file whose ``flock`` guards the warehouse."""
        return self.home / "warehouse.lock"

    @property
    def run_lock(self) -> Path:
        """The file whose ``flock`` is held by whoever changes the home as a whole: a run, upkeep."""
        return self.home / "run.lock"

    @property
    def published(self) -> Path:
        """The DuckDB file that analysts open read-only."""
        return self.home / "published" / "marquee.duckdb"

    @property
    def downloads(self) -> Path:
        """Files fetched from GroupLens and IMDb, or unpacked from a mirror's zip."""
        return self.download_dir or self.home / "downloads"

    @property
    def sample_dir(self) -> Path:
        """The generated sample, laid out like a mirror: ``sample/*.csv`` and ``imdb/*.tsv.gz`` under it."""
        return self.home / "sample"

    @property
    def features(self) -> Path:
        """Feature histories and the training set as Parquet."""
        return self.home / "features"

    @property
    def feast(self) -> Path:
        """Feast's registry and online store."""
        return self.home / "feast"

    @property
    def evaluation(self) -> Path:
        """Candidates fitted on the training part, and their comparison."""
        return self.home / "evaluation"

    @property
    def checkpoints(self) -> Path:
        """States of fits that are under way or were killed, one folder a recipe, data and seed."""
        return self.evaluation / "checkpoints"

    @property
    def models(self) -> Path:
        """Immutable bundles, one folder a version."""
        return self.home / "models"

    @property
    def has_redis(self) -> bool:
        """Whether Feast's online values are in a Redis; Feast itself reads where it is from the environment."""
        return bool(self.online_store.get_secret_value())

    @property
    def app_store(self) -> str:
        """The URL of the app's store, secrets included: never for a log."""
        return self.store_url.get_secret_value() or f"sqlite:///{self.home / 'app' / 'store.db'}"

    @property
    def serving_pointer(self) -> Path:
        """The JSON file that names the bundle being served."""
        return self.home / "serving.json"

    @property
    def serving_lock(self) -> Path:
        """The file whose ``flock`` is held by whoever moves the pointer."""
        return self.home / "serving.lock"

    @property
    def mlflow(self) -> Path:
        """MLflow's database of experiments, and small files of its runs."""
        return self.home / "mlflow"

    @property
    def bentoml(self) -> Path:
        """``BENTOML_HOME``: the bento store."""
        return self.home / "bentoml"

    @property
    def dagster(self) -> Path:
        """``DAGSTER_HOME``: runs, events and schedules."""
        return self.home / "dagster"

    @property
    def dbt_target(self) -> Path:
        """dbt's compiled project and manifest."""
        return self.home / "dbt" / "target"

    @property
    def reports(self) -> Path:
        """JSON of ``make evaluate``, ``make bench`` and ``make prove``."""
        return self.home / "reports"

    @property
    def docs(self) -> Path:
        """dbt's docs as ``make docs`` builds them."""
        return self.home / "docs"

    @property
    def backups(self) -> Path:
        """Where ``make backup`` writes unless it is given a file."""
        return self.home / "backups"


def command_settings() -> Settings:
    """Return the settings for a command; where some are wrong, say which on standard error and exit with status 2."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(["MARQUEE", *(str(part).upper() for part in problem["loc"])])
            said = problem["msg"].removeprefix("Value error, ")
            print(f"{name}: {said}" if problem["loc"] else said, file=sys.stderr)
        sys.exit(2)
