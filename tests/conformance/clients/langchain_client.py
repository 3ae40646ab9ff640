"""LangChain's ``ChatOpenAI`` and ``OpenAIEmbeddings``: a plan on standard input, outcomes on standard output."""

import json
import sys
from typing import Any

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


class Operations:
    """What is done with the client; ``shown``: the part of a stream that came, should it break."""

    def __init__(self, base_url: str, key: str, model: str) -> None:
        self.settings: dict[str, Any] = {"base_url": base_url, "api_key": key, "model": model, "max_retries": 0, "timeout": 30}
        self.shown = ""

    def chat(self) -> Any:
        return ChatOpenAI(**self.settings, max_tokens=26).invoke("hi").content

    def chat_stream(self) -> str:
        for chunk in ChatOpenAI(**self.settings, max_tokens=26).stream("hi"):
            self.shown += chunk.text
        return self.shown

    def response(self) -> Any:
        return ChatOpenAI(**self.settings, max_tokens=26, use_responses_api=True).invoke("hi").text

    def response_stream(self) -> str:
        for chunk in ChatOpenAI(**self.settings, max_tokens=26, use_responses_api=True).stream("hi"):
            self.shown += chunk.text
        return self.shown

    def embedding(self) -> Any:
        # Counting tokens needs OpenAI's vocabularies, which other models do not share.
        return OpenAIEmbeddings(**self.settings, check_embedding_ctx_length=False).embed_query("hi")

    def headers(self) -> Any:
        answer = ChatOpenAI(**self.settings, max_tokens=26, include_response_headers=True).invoke("hi")
        return {name: answer.response_metadata["headers"].get(name) for name in ("content-type", "x-muster-attempts")}


def failure(error: openai.APIError, partial: str) -> dict[str, Any]:
    name = next(base.__name__ for base in type(error).__mro__ if base.__module__.startswith("openai"))
    seen = {"error": name, "status": getattr(error, "status_code", None), "code": error.code}
    return {**seen, "partial": partial} if partial else seen


def main() -> None:
    plan = json.load(sys.stdin)
    for case in plan["cases"]:
        operations = Operations(plan["base_url"], case["key"], case["model"])
        try:
            outcome = {"answer": getattr(operations, case["operation"])()}
        except openai.APIError as error:
            outcome = failure(error, operations.shown)
        print(json.dumps({"id": case["id"], **outcome}), flush=True)


if __name__ == "__main__":
    main()
