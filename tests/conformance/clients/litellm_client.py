"""LiteLLM as a client: a plan on standard input, outcomes on standard output."""

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches a list of prices from the internet otherwise

import litellm
import openai

HELLO = [{"role": "user", "content": "hi"}]


class Operations:
    """What is done with the client; ``shown``: the part of a stream that came, should it break."""

    def __init__(self, base_url: str, key: str, model: str) -> None:
        self.model = model
        self.settings: dict[str, Any] = {
            "api_base": base_url,
            "api_key": key,
            "num_retries": 0,
            "max_retries": 0,
            "timeout": 30,
        }
        self.shown = ""

    def chat(self) -> Any:
        answer = litellm.completion(model=f"openai/{self.model}", messages=HELLO, max_tokens=26, **self.settings)
        return answer.choices[0].message.content

    def chat_stream(self) -> str:
        for chunk in litellm.completion(
            model=f"openai/{self.model}", messages=HELLO, max_tokens=26, stream=True, **self.settings
        ):
            self.shown += chunk.choices[0].delta.content or ""
        return self.shown

    def completion(self) -> Any:
        answer = litellm.text_completion(
            model=f"text-completion-openai/{self.model}", prompt="hi", max_tokens=26, **self.settings
        )
        return answer.choices[0].text

    def embedding(self) -> Any:
        return litellm.embedding(model=f"openai/{self.model}", input=["hi"], **self.settings).data[0]["embedding"]


def failure(error: openai.OpenAIError, partial: str) -> dict[str, Any]:
    seen = {"error": type(error).__name__, "status": getattr(error, "status_code", None), "code": None}  # it keeps no codes
    return {**seen, "partial": partial} if partial else seen


def main() -> None:
    litellm.suppress_debug_info = True
    plan = json.load(sys.stdin)
    for case in plan["cases"]:
        operations = Operations(plan["base_url"], case["key"], case["model"])
        try:
            outcome = {"answer": getattr(operations, case["operation"])()}
        except openai.OpenAIError as error:
            outcome = failure(error, operations.shown)
        print(json.dumps({"id": case["id"], **outcome}), flush=True)


if __name__ == "__main__":
    main()
