"""A typed client of the service, and ``python -m bento.client recommend --user 1 --k 10``.

It needs httpx, pydantic and rich only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from bento.errors import ServingError
from bento.schemas.recommendations import (
    DEFAULT_K,
    BatchResponse,
    ExplainResponse,
    ForMovieResponse,
    IndexKind,
    Likeness,
    PredictRatingResponse,
    RecommendResponse,
    SimilarResponse,
)
from bento.schemas.resources import Event, FilmMap, FoundFilms, ListedFilms, Login, Rating, RatingPage, User
from settings import Settings, command_settings

#: Seconds a fresh server may take: 10 on two idle processors, many times that on busy ones.
START_TIMEOUT_S = 180.0

Answer = TypeVar("Answer", bound=BaseModel)


class ClientError(ServingError):
    """The service could not be reached or refused; ``status`` is None where there was no answer."""

    def __init__(self, message: str, *, status: int | None = None, detail: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class MarqueeClient:
    """Speaks to one service; a context manager that closes its connections.

    Every method raises ``ClientError`` with the service's own message and remedy when there is no good answer.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self.url = url.rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # The service is local or named by its user: a proxy of the environment has no part in it.
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def recommend(self, user_id: int, k: int = DEFAULT_K, **wishes: Any) -> RecommendResponse:
        """Films for a user, best first; ``wishes`` as in ``WayWishes``: ``blend``, ``model``, ``genres``, ..."""
        return self.ask(RecommendResponse, "/recommend", {"user_id": user_id, "k": k, **wishes})

    def recommend_batch(self, user_ids: Sequence[int], k: int = DEFAULT_K, **wishes: Any) -> BatchResponse:
        """One answer a user, each once, in the order in which they are first named."""
        return self.ask(BatchResponse, "/recommend_batch", {"user_ids": list(user_ids), "k": k, **wishes})

    def recommend_for_movie(
        self, user_id: int, movie: int | str, k: int = DEFAULT_K, **wishes: Any
    ) -> ForMovieResponse:
        """Films like one, by its id or title, ordered for a user."""
        return self.ask(ForMovieResponse, "/recommend_for_movie", for_movie(user_id, movie, k, wishes))

    def cold_start(
        self, genres: Sequence[str], liked: Sequence[int] = (), k: int = DEFAULT_K, **wishes: Any
    ) -> RecommendResponse:
        """Films for somebody who is new."""
        return self.ask(
            RecommendResponse, "/cold_start", {"genres": list(genres), "liked": list(liked), "k": k, **wishes}
        )

    def similar(
        self, movie_id: int, k: int = DEFAULT_K, index: IndexKind = "exact", by: Likeness = "behaviour",
        model: str | None = None,
    ) -> SimilarResponse:  # fmt: skip
        """Films like one, best first: by behaviour, by content, or hybrid; ``model`` as in ``SimilarRequest``."""
        return self.ask(SimilarResponse, "/similar", like_movie(movie_id, k, index, by, model))

    def film_map(self, movie_id: int | None = None, **wishes: Any) -> FilmMap:
        """Where films lie, and one of them with its neighbours; ``wishes`` as the query of ``/v1/map``."""
        return read_answer(FilmMap, "/v1/map", self._send("GET", "/v1/map", params=query_of(movie_id, wishes)))

    def predict_rating(self, user_id: int, movie_id: int) -> PredictRatingResponse:
        """Predict the rating that a user would give a movie."""
        return self.ask(PredictRatingResponse, "/predict_rating", {"user_id": user_id, "movie_id": movie_id})

    def explain(self, user_id: int, movie_id: int) -> ExplainResponse:
        """Explain what speaks for a movie, for one user."""
        return self.ask(ExplainResponse, "/explain", {"user_id": user_id, "movie_id": movie_id})

    def log_in(self, key: str, user_id: int | None = None) -> Login:
        """Log in with a key (a user with his id too), and send the token from now on; ten minutes."""
        login = self._call(Login, "POST", "/login", {"key": key, **given(user_id=user_id)})
        self._http.headers["Authorization"] = f"Bearer {login.access_token}"
        return login

    def refresh(self, refresh_token: str) -> Login:
        """Exchange the last login's refresh token, which works once, for the next token, and send that from now on."""
        login = self._call(Login, "POST", "/refresh", {"refresh_token": refresh_token})
        self._http.headers["Authorization"] = f"Bearer {login.access_token}"
        return login

    def create_user(self, name: str | None = None, *, idempotency_key: str | None = None) -> User:
        """Make a user of the app."""
        return self._call(User, "POST", "/v1/users", given(name=name), idempotency_key)

    def read_user(self, user_id: int) -> User:
        """One user."""
        return self._call(User, "GET", f"/v1/users/{user_id}")

    def delete_user(self, user_id: int) -> None:
        """Forget a user."""
        self._call(None, "DELETE", f"/v1/users/{user_id}")

    def rate(self, user_id: int, movie_id: int, rating: float, *, idempotency_key: str | None = None) -> Rating:
        """Set the rating that a user gives a film; it counts in the next recommendation."""
        return self._call(Rating, "PUT", f"/v1/users/{user_id}/ratings/{movie_id}", {"rating": rating}, idempotency_key)

    def delete_rating(self, user_id: int, movie_id: int) -> None:
        """Take a rating back."""
        self._call(None, "DELETE", f"/v1/users/{user_id}/ratings/{movie_id}")

    def list_ratings(self, user_id: int, cursor: str | None = None, limit: int = 50) -> RatingPage:
        """List a user's ratings in the app, the last written first; ``cursor``: ``next_cursor`` of the page before."""
        return self._call(RatingPage, "GET", f"/v1/users/{user_id}/ratings", given(cursor=cursor, limit=limit))

    def send_event(self, user_id: int, movie_id: int, kind: str, *, idempotency_key: str | None = None) -> Event:
        """Say that something happened: shown, viewed, clicked, dismissed or watchlisted."""
        return self._call(
            Event, "POST", "/v1/events", {"user_id": user_id, "movie_id": movie_id, "kind": kind}, idempotency_key
        )

    def search_films(self, title: str, limit: int = 10) -> FoundFilms:
        """Films by title, as people type it."""
        return self._call(FoundFilms, "GET", "/v1/films/search", {"q": title, "limit": limit})

    def list_popular(self, **query: Any) -> ListedFilms:
        """List the movies with the most ratings; ``query`` as of ``/v1/popular``."""
        return self._call(ListedFilms, "GET", "/v1/popular", given(**query))

    def list_new(self, **query: Any) -> ListedFilms:
        """List the newest movies, the best liked first; ``query`` as of ``/v1/new``."""
        return self._call(ListedFilms, "GET", "/v1/new", given(**query))

    def ask(self, kind: type[Answer], path: str, body: Mapping[str, Any]) -> Answer:
        """Post a body to a route and return the answer as ``kind``."""
        return read_answer(kind, path, self.post(path, body))

    def get(self, path: str) -> httpx.Response:
        """Any page of the service, such as ``/metrics``, whatever its status."""
        return self._send("GET", path)

    def post(self, path: str, body: Any) -> httpx.Response:
        """Any body to any route, whatever the answer's status."""
        return self._send("POST", path, json=body)

    def wait_until_ready(
        self, timeout_s: float = START_TIMEOUT_S, *, process: subprocess.Popen[bytes] | None = None
    ) -> float:
        """Seconds until ``/readyz`` said yes.

        Raises ``ClientError`` after the time, or at once when the service says why not or ``process`` has ended.
        """
        start = time.monotonic()
        while (waited := time.monotonic() - start) < timeout_s:
            if process is not None and process.poll() is not None:
                raise ClientError(f"the service ended with exit code {process.returncode} before it was ready")
            try:
                answer = self._http.get("/readyz", timeout=min(5.0, timeout_s))
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if answer.is_success:
                return time.monotonic() - start
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                said = _problem(answer).get("detail") or ""
                if str(said).startswith("Not ready:"):
                    raise ClientError(str(said), status=answer.status_code)
            time.sleep(0.1)
        raise ClientError(f"{self.url} was not ready within {waited:.0f} s")

    def _call(
        self,
        kind: type[Answer] | None,
        method: str,
        path: str,
        told: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Call a route and return the answer as ``kind``; ``told`` is the query of a GET, else the body."""
        answer = self._send(method, path, **options_of(method, told, idempotency_key))
        return read_answer(kind, path, answer)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise no_answer(self.url, error) from error


class AsyncMarqueeClient:
    """The same for programs that wait for many things at once: ``async with AsyncMarqueeClient(url) as client``."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self.url = url.rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def recommend(self, user_id: int, k: int = DEFAULT_K, **wishes: Any) -> RecommendResponse:
        """Films for a user, best first; ``wishes`` as in ``WayWishes``: ``blend``, ``model``, ``genres``, ..."""
        return await self.ask(RecommendResponse, "/recommend", {"user_id": user_id, "k": k, **wishes})

    async def recommend_batch(self, user_ids: Sequence[int], k: int = DEFAULT_K, **wishes: Any) -> BatchResponse:
        """One answer a user, in the order asked."""
        return await self.ask(BatchResponse, "/recommend_batch", {"user_ids": list(user_ids), "k": k, **wishes})

    async def recommend_for_movie(
        self, user_id: int, movie: int | str, k: int = DEFAULT_K, **wishes: Any
    ) -> ForMovieResponse:
        """Films like one, by its id or title, ordered for a user."""
        return await self.ask(ForMovieResponse, "/recommend_for_movie", for_movie(user_id, movie, k, wishes))

    async def cold_start(
        self, genres: Sequence[str], liked: Sequence[int] = (), k: int = DEFAULT_K, **wishes: Any
    ) -> RecommendResponse:
        """Films for somebody who is new."""
        return await self.ask(
            RecommendResponse, "/cold_start", {"genres": list(genres), "liked": list(liked), "k": k, **wishes}
        )

    async def similar(
        self, movie_id: int, k: int = DEFAULT_K, index: IndexKind = "exact", by: Likeness = "behaviour",
        model: str | None = None,
    ) -> SimilarResponse:  # fmt: skip
        """Films like one, best first: by behaviour, by content, or hybrid; ``model`` as in ``SimilarRequest``."""
        return await self.ask(SimilarResponse, "/similar", like_movie(movie_id, k, index, by, model))

    async def film_map(self, movie_id: int | None = None, **wishes: Any) -> FilmMap:
        """Where films lie, and one of them with its neighbours; ``wishes`` as the query of ``/v1/map``."""
        return read_answer(FilmMap, "/v1/map", await self.send("GET", "/v1/map", params=query_of(movie_id, wishes)))

    async def predict_rating(self, user_id: int, movie_id: int) -> PredictRatingResponse:
        """Predict the rating that a user would give a movie."""
        return await self.ask(PredictRatingResponse, "/predict_rating", {"user_id": user_id, "movie_id": movie_id})

    async def explain(self, user_id: int, movie_id: int) -> ExplainResponse:
        """Explain what speaks for a movie, for one user."""
        return await self.ask(ExplainResponse, "/explain", {"user_id": user_id, "movie_id": movie_id})

    async def log_in(self, key: str, user_id: int | None = None) -> Login:
        """Log in with a key (a user with his id too), and send the token from now on; ten minutes."""
        login = await self._call(Login, "POST", "/login", {"key": key, **given(user_id=user_id)})
        self._http.headers["Authorization"] = f"Bearer {login.access_token}"
        return login

    async def refresh(self, refresh_token: str) -> Login:
        """Exchange the last login's refresh token, which works once, for the next token, and send that from now on."""
        login = await self._call(Login, "POST", "/refresh", {"refresh_token": refresh_token})
        self._http.headers["Authorization"] = f"Bearer {login.access_token}"
        return login

    async def create_user(self, name: str | None = None, *, idempotency_key: str | None = None) -> User:
        """Make a user of the app."""
        return await self._call(User, "POST", "/v1/users", given(name=name), idempotency_key)

    async def read_user(self, user_id: int) -> User:
        """One user."""
        return await self._call(User, "GET", f"/v1/users/{user_id}")

    async def delete_user(self, user_id: int) -> None:
        """Forget a user."""
        await self._call(None, "DELETE", f"/v1/users/{user_id}")

    async def rate(self, user_id: int, movie_id: int, rating: float, *, idempotency_key: str | None = None) -> Rating:
        """Set the rating that a user gives a film; it counts in the next recommendation."""
        return await self._call(
            Rating, "PUT", f"/v1/users/{user_id}/ratings/{movie_id}", {"rating": rating}, idempotency_key
        )

    async def delete_rating(self, user_id: int, movie_id: int) -> None:
        """Take a rating back."""
        await self._call(None, "DELETE", f"/v1/users/{user_id}/ratings/{movie_id}")

    async def list_ratings(self, user_id: int, cursor: str | None = None, limit: int = 50) -> RatingPage:
        """List a user's ratings in the app, the last written first; ``cursor``: ``next_cursor`` of the page before."""
        return await self._call(RatingPage, "GET", f"/v1/users/{user_id}/ratings", given(cursor=cursor, limit=limit))

    async def send_event(self, user_id: int, movie_id: int, kind: str, *, idempotency_key: str | None = None) -> Event:
        """Say that something happened: shown, viewed, clicked, dismissed or watchlisted."""
        return await self._call(
            Event, "POST", "/v1/events", {"user_id": user_id, "movie_id": movie_id, "kind": kind}, idempotency_key
        )

    async def search_films(self, title: str, limit: int = 10) -> FoundFilms:
        """Films by title, as people type it."""
        return await self._call(FoundFilms, "GET", "/v1/films/search", {"q": title, "limit": limit})

    async def list_popular(self, **query: Any) -> ListedFilms:
        """List the movies with the most ratings; ``query`` as of ``/v1/popular``."""
        return await self._call(ListedFilms, "GET", "/v1/popular", given(**query))

    async def list_new(self, **query: Any) -> ListedFilms:
        """List the newest movies, the best liked first; ``query`` as of ``/v1/new``."""
        return await self._call(ListedFilms, "GET", "/v1/new", given(**query))

    async def ask(self, kind: type[Answer], path: str, body: Mapping[str, Any]) -> Answer:
        """Post a body to a route and return the answer as ``kind``."""
        return read_answer(kind, path, await self.send("POST", path, json=body))

    async def _call(
        self,
        kind: type[Answer] | None,
        method: str,
        path: str,
        told: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Call a route and return the answer as ``kind``; ``told`` is the query of a GET, else the body."""
        answer = await self.send(method, path, **options_of(method, told, idempotency_key))
        return read_answer(kind, path, answer)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request, whatever the answer's status."""
        try:
            return await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise no_answer(self.url, error) from error


def for_movie(user_id: int, movie: int | str, k: int, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of ``/recommend_for_movie`` for a movie by its id or title."""
    return {"user_id": user_id, "movie_id" if isinstance(movie, int) else "title": movie, "k": k, **wishes}


def like_movie(movie_id: int, k: int, index: IndexKind, by: Likeness, model: str | None) -> dict[str, Any]:
    """Return the body of ``/similar``."""
    return {"movie_id": movie_id, "k": k, "index": index, "by": by, "model": model}


def given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def options_of(method: str, told: Mapping[str, Any] | None, idempotency_key: str | None) -> dict[str, Any]:
    """Return httpx's options for a request: a query for a GET, else a body, and the idempotency key of a write."""
    options: dict[str, Any] = {} if told is None else {"params" if method == "GET" else "json": told}
    return options if idempotency_key is None else {**options, "headers": {"Idempotency-Key": idempotency_key}}


def query_of(movie_id: int | None, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of ``/v1/map`` without the values that are None."""
    return {name: value for name, value in {"movie_id": movie_id, **wishes}.items() if value is not None}


def read_answer(kind: type[Answer] | None, path: str, answer: httpx.Response) -> Any:
    """Return a good answer as ``kind`` (None: no body), else raise ``ClientError``, with the service's message."""
    if answer.is_success:
        return None if kind is None else kind.model_validate(answer.json())
    problem = _problem(answer)
    message = problem.get("error") or answer.reason_phrase
    detail = problem.get("detail")
    raise ClientError(
        f"{path} answered {answer.status_code}: {message}" + (f" {detail}" if detail and detail != message else ""),
        status=answer.status_code,
        detail=detail,
    )


def no_answer(url: str, error: httpx.TransportError) -> ClientError:
    """Return the error for a service that did not answer."""
    return ClientError(f"no answer from {url} ({error or type(error).__name__}): start the service with `make serve`")


@contextlib.contextmanager
def serving(
    settings: Settings,
    port: int = 0,
    *,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[MarqueeClient]:
    """Serve the promoted bento in a child process on a loopback port (0: any free one) until the block ends.

    Its output goes to ``log``, by default ``$MARQUEE_HOME/bentoml/servers/<port>.log``, which is removed when all went
    well; the last lines are part of the error when it does not become ready. ``environment`` overrides variables of
    the child. Server and workers are a process group of their own, which is ended as a whole.
    """
    from bento.packaging.build import promoted_bento
    from bento.serve import HOST, serve_command, serve_environment

    bento = promoted_bento(settings)
    port = port or _free_port(HOST)
    variables = {**serve_environment(settings, port), **(environment or {})}
    home = Path(variables["BENTOML_HOME"])
    kept_log = log or home.with_suffix(".log")
    with kept_log.open("wb") as output, MarqueeClient(f"http://{HOST}:{port}") as client:
        process = subprocess.Popen(
            serve_command(bento, host=HOST, port=port),
            cwd=settings.home,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            try:
                client.wait_until_ready(timeout_s, process=process)
            except ClientError as error:
                raise ClientError(f"{error}\nthe end of {kept_log}:\n{_tail(kept_log)}", status=error.status) from error
            yield client
        finally:
            _stop(process)
            shutil.rmtree(home, ignore_errors=True)
    if log is None:
        kept_log.unlink(missing_ok=True)


def _stop(process: subprocess.Popen[bytes], patience_s: float = 15.0) -> None:
    """End a process group: kindly, then not."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            process.poll()
            if not _group(process.pid):
                return
            time.sleep(0.05)


def _group(leader: int) -> list[int]:
    """Return the living processes of a group; the group outlives its leader if a worker does.

    The kernel also counts dead processes until their parent has waited for them, which in a container may be never.
    """
    import psutil

    members = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """Return the problem in an error answer; empty if something between here and the service answered."""
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def print_answer(answer: RecommendResponse | SimilarResponse, file: IO[str] | None = None) -> None:
    """Print an answer as a table of rank, title, year, score and link, with its provenance underneath."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 140
    heading = (
        f"Recommended to user {answer.user_id}"
        if isinstance(answer, RecommendResponse)
        else f"Like movie {answer.movie_id}"
    )
    table = Table(title=heading, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right", style="dim")
    table.add_column("Title", min_width=20)
    table.add_column("Year", justify="right")
    table.add_column("Score", justify="right")
    # Folded, for a link that is cut is no link.
    table.add_column("Link", overflow="fold", style="cyan")
    for item in answer.items:
        # Text, not markup: a title may hold square brackets.
        year = "" if item.year is None else str(item.year)
        table.add_row(str(item.rank), Text(item.title), year, f"{item.score:.4g}", item.link or "")
    console.print(table)
    if not answer.items:
        console.print("Nothing is left to recommend.")
    if answer.fallback is not None:
        console.print(Text(f"Fallback: {answer.fallback.reason}"), style="yellow")
    source = answer.provenance
    features = "" if source.feature_timestamp is None else f", features of {source.feature_timestamp}"
    console.print(f"{source.model_version}{features}", style="dim")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1, with a message, when there is no good answer."""
    parser = argparse.ArgumentParser(prog="python -m bento.client", description="Asks a running service.")
    parser.add_argument("--url", help="default: the local service on MARQUEE_SERVE_PORT")
    parser.add_argument("--token-file", type=Path, help="a file with the token that /login gave")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, who in (("recommend", "user"), ("similar", "movie")):
        command = commands.add_parser(name)
        command.add_argument(f"--{who}", type=int, required=True, dest="id", help=f"the edition's own id of the {who}")
        command.add_argument("--k", type=int, default=10, help="how many films (default 10)")
    options = parser.parse_args(arguments)
    url = options.url or f"http://127.0.0.1:{command_settings().serve_port}"
    token = None if options.token_file is None else options.token_file.read_text(encoding="utf-8").strip()
    with MarqueeClient(url, token=token) as client:
        try:
            ask = client.recommend if options.command == "recommend" else client.similar
            print_answer(ask(options.id, options.k))
        except ClientError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
