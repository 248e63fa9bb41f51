"""``python -m benchmarks.serving.baseline_fastapi BUNDLE --port N``: the same lookup written plainly.

FastAPI over a flat faiss index of iALS's item vectors, the users' vectors made beforehand: no store, no fresh ratings,
no features, no reasons, no wishes. The yardstick of :mod:`benchmarks.serving`, and never what is served.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from models.serving.bundle import load_bundle


class PlainRequest(BaseModel):
    """A user and how many films."""

    user_id: int
    k: int = 20


def plain_app(bundle_path: Path) -> FastAPI:
    """Build the app over one iALS bundle."""
    bundle = load_bundle(bundle_path)
    vectors = np.ascontiguousarray(bundle.recommender._state()[1]["items"], dtype=np.float32)
    history = bundle.history
    # The mean of what a user has met stands for the solved vector, which would be made once a day.
    lengths = np.maximum(np.diff(history.indptr), 1)[:, None].astype(np.float32)
    users = np.ascontiguousarray((history != 0).astype(np.float32) @ vectors / lengths, dtype=np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.omp_set_num_threads(1)
    cards = bundle.items.select("movie_id", "movie_key", "imdb_id", "title", "year", "genres", "link_url").to_dicts()
    place = {user: row for row, user in enumerate(bundle.users["user_id"].to_list())}
    app = FastAPI()

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/recommend")
    async def recommend(request: PlainRequest) -> Any:
        row = place[request.user_id]
        met = history.indices[history.indptr[row] : history.indptr[row + 1]]
        scores, found = index.search(users[row : row + 1], request.k + len(met))
        fresh = ~np.isin(found[0], met)
        films = zip(found[0][fresh][: request.k].tolist(), scores[0][fresh][: request.k].tolist(), strict=True)
        items = [{**cards[film], "score": score, "rank": rank} for rank, (film, score) in enumerate(films, start=1)]
        return JSONResponse({"user_id": request.user_id, "items": items})

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.baseline_fastapi", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(plain_app(options.bundle), host="127.0.0.1", port=options.port, log_level="warning", access_log=False)
