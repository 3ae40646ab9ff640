"""curl: a plan on standard input, outcomes on standard output. An error is known by the status and the body's code."""

import json
import subprocess
import sys
from typing import Any

PATHS = {
    "chat": "chat/completions",
    "chat_stream": "chat/completions",
    "completion": "completions",
    "completion_stream": "completions",
    "embedding": "embeddings",
    "response": "responses",
    "response_stream": "responses",
    "headers": "chat/completions",
}

# Between the answer and what curl itself tells.
MARK = "--- curl:"


def body_of(operation: str, model: str) -> dict[str, Any]:
    what: dict[str, Any] = {"model": model, "stream": True} if operation.endswith("_stream") else {"model": model}
    if PATHS[operation] == "chat/completions":
        return {**what, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 26}
    return {**what, "prompt": "hi", "max_tokens": 26} if PATHS[operation] == "completions" else {**what, "input": "hi"}


def ask(base_url: str, case: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    operation = case["operation"]
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "30", "--oauth2-bearer", case["key"]]
    command += ["--write-out", f"\n{MARK} %{{http_code}} %{{header_json}}"]
    if operation in PATHS:
        command += ["--json", json.dumps(body_of(operation, case["model"])), f"{base_url}/{PATHS[operation]}"]
    else:
        command += [f"{base_url}/models" + (f"/{case['model']}" if operation == "model_shown" else "")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text, _, rest = out.rpartition(f"\n{MARK} ")
    status, _, document = rest.partition(" ")
    headers = {name: values[0] for name, values in json.loads(document).items()}
    return int(status), text, headers


def text_of(operation: str, document: dict[str, Any]) -> Any:
    match operation:
        case "chat":
            return document["choices"][0]["message"]["content"]
        case "completion":
            return document["choices"][0]["text"]
        case "embedding":
            return document["data"][0]["embedding"]
        case "response":
            return document["output"][0]["content"][0]["text"]
        case "models":
            return [model["id"] for model in document["data"]]
        case _:
            return document["id"]


def piece_of(operation: str, event: dict[str, Any]) -> str:
    if operation == "response_stream":
        return event["delta"] if event["type"] == "response.output_text.delta" else ""
    choice = event["choices"][0]
    return choice["text"] if operation == "completion_stream" else choice["delta"].get("content") or ""


def stream_of(operation: str, text: str) -> dict[str, Any]:
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    events = [json.loads(item) for item in data if item != "[DONE]"]
    shown = "".join(piece_of(operation, event) for event in events if "error" not in event)
    broken = next((event["error"] for event in events if event.get("error")), None)
    if broken is None:
        return {"answer": shown}
    seen = {"error": "error frame", "status": None, "code": broken["code"]}
    return {**seen, "partial": shown} if shown else seen


def outcome_of(base_url: str, case: dict[str, str]) -> dict[str, Any]:
    operation = case["operation"]
    status, text, headers = ask(base_url, case)
    if status != 200:
        return {"error": "error body", "status": status, "code": json.loads(text)["error"]["code"]}
    if operation == "headers":
        return {"answer": {name: headers.get(name) for name in ("content-type", "x-muster-attempts")}}
    return stream_of(operation, text) if operation.endswith("_stream") else {"answer": text_of(operation, json.loads(text))}


def main() -> None:
    plan = json.load(sys.stdin)
    for case in plan["cases"]:
        print(json.dumps({"id": case["id"], **outcome_of(plan["base_url"], case)}), flush=True)


if __name__ == "__main__":
    main()
