"""A server that answers for videos, as an example to start from.

pip install '.[serve]'
SVFAP_CHECKPOINT=checkpoint-best.pth uvicorn --app-dir docs serve:app
curl --data-binary @talk.mp4 http://localhost:8000/predict
"""

import os
from contextlib import asynccontextmanager
from threading import Lock

from fastapi import FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool

import svfap
from svfap.engine.predict.files import as_dict

LARGEST = int(os.environ.get("SVFAP_LARGEST_BYTES", 200 * 2**20))
one_at_a_time = Lock()


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Load the model before the first request."""
    app.state.predictor = svfap.Predictor(os.environ["SVFAP_CHECKPOINT"])
    yield


app = FastAPI(title="Answers for videos", lifespan=lifespan)


@app.post("/predict")
async def predict(request: Request) -> dict:
    """The contents of a video file or picture -> status, and scores of every face over time."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST:
            raise HTTPException(413, f"videos may have {LARGEST} bytes")
    prediction = await run_in_threadpool(_answer, bytes(content))
    if prediction.status in ("unreadable", "failed"):
        raise HTTPException(422, f"no video that can be read: {prediction.facts.note}")
    return as_dict(prediction)


def _answer(content: bytes):
    with one_at_a_time:
        return app.state.predictor.predict(content)
