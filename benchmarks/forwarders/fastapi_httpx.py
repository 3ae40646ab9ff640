"""The toy: FastAPI + httpx as in every tutorial. Run: uvicorn naive:app"""

import itertools
import os
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

KEY = "Bearer " + os.environ.get("BENCH_KEY", "sk-bench")
NODES = itertools.cycle(os.environ["BENCH_NODES"].split(","))


@asynccontextmanager
async def lifespan(app):
    async with httpx.AsyncClient(
        timeout=None, limits=httpx.Limits(max_connections=None, max_keepalive_connections=512)
    ) as app.state.http:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/{path:path}")
async def forward(path: str, request: Request):
    if request.headers.get("authorization") != KEY:
        raise HTTPException(401)
    body, url = await request.json(), f"{next(NODES)}/v1/{path}"
    if not body.get("stream"):
        answer = await app.state.http.post(url, json=body)
        return JSONResponse(answer.json(), answer.status_code)

    async def relay():
        async with app.state.http.stream("POST", url, json=body) as answer:
            async for piece in answer.aiter_bytes():
                yield piece

    return StreamingResponse(relay(), media_type="text/event-stream")
