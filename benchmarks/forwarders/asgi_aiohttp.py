"""Tuned with stock parts: a raw ASGI app (no framework on the hot path) and an aiohttp client. Run: uvicorn asgi_aiohttp:app"""

import asyncio

import aiohttp
from nodes import check, pick

session = None


async def read_body(receive) -> bytes:
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


async def app(scope, receive, send):
    global session
    if scope["type"] != "http":
        return
    if session is None:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(None),
            skip_auto_headers=("user-agent", "accept", "accept-encoding"),
        )
    auth = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
    body = await read_body(receive)
    refuse, streaming = check(auth, body)
    if refuse:
        await send({"type": "http.response.start", "status": refuse, "headers": [(b"content-length", b"0")]})
        return await send({"type": "http.response.body"})
    node = pick()
    node.flying += 1
    gone = asyncio.ensure_future(receive()) if streaming else None  # ends when the client goes away
    try:
        async with session.post(node.url + scope["path"], data=body, headers={"content-type": "application/json"}) as answer:
            head = [(b"content-type", answer.headers.get("content-type", "application/json").encode())]
            if not streaming:
                whole = await answer.read()
                head.append((b"content-length", str(len(whole)).encode()))
                await send({"type": "http.response.start", "status": answer.status, "headers": head})
                return await send({"type": "http.response.body", "body": whole})
            await send({"type": "http.response.start", "status": answer.status, "headers": head})
            async for piece in answer.content.iter_any():
                if gone.done():
                    answer.close()
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
    finally:
        node.flying -= 1
        if gone:
            gone.cancel()
