"""``muster models``: what there is; ordering it is in ``downloads``."""

from enum import StrEnum
from typing import Annotated, Literal

import typer

from control_api.cli import downloads
from control_api.cli.connection import Json, Key, Url, asked, call
from control_api.cli.output import confirm, print_json, print_table, say, size
from control_api.client.schemas import ModelOut, ModelPatch, RegisterModelRequest

models = typer.Typer(no_args_is_help=True, help="Models: those we support, those registered, and where they are.")

FlashAttention = Literal["auto", "on", "off"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
ModelId = Annotated[str, typer.Argument(help="Model id, e.g. gpt-oss:20b.")]


class EngineOption(StrEnum):
    """What can be given back to the nodes to decide."""

    ENGINE = "engine"
    THREADS = "threads"
    GPU_LAYERS = "gpu-layers"
    FLASH_ATTENTION = "flash-attention"
    KV_CACHE_TYPE = "kv-cache-type"


@models.command("hub")
def hub(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List the supported models and what became of each here."""
    found = call(url, key, lambda client: client.models.hub())
    if as_json:
        return print_json(found)
    print_table(
        ["ID", "SIZE", "MEMORY", "STATE", "READY ON"],
        [
            (
                m.id,
                size(m.size_bytes),
                size(m.required_memory_bytes),
                m.lifecycle_status,
                sum(n.state == "ready" for n in m.nodes),
            )
            for m in found.models
        ],
        empty="The catalogue is empty.",
    )


@models.command("list")
def list_models(url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """List registered models."""
    found = call(url, key, lambda client: client.models.list())
    if as_json:
        return print_json(found)
    print_table(
        ["ID", "SIZE", "STATE", "READY NODES", "REPO"],
        [(m.id, size(m.size_bytes), m.lifecycle_status, m.ready_nodes, f"{m.repo}@{m.revision[:8]}") for m in found],
        empty="No models yet. Register one: muster models register smollm2:135m",
    )


@models.command("show")
def show(model: ModelId, url: Url = "", key: Key = "", as_json: Json = False) -> None:
    """Show a registered model: its files, and the memory that it needs, part by part."""
    found = call(url, key, lambda client: client.models.get(model))
    if as_json:
        return print_json(found)
    say(f"{found.id}: {found.name}, {found.lifecycle_status}, ready on {found.ready_nodes} nodes")
    say(f"from {found.repo} at {found.revision[:12]}")
    print_table(["FILE", "SIZE", "SHA256"], [(a.name, size(a.size), a.sha256) for a in found.artifacts], empty="")
    print_table(["MEMORY FOR", "SIZE"], _memory_rows(found), empty="")
    if found.memory and found.memory.note:
        say(f"Estimated by the size of its files: {found.memory.note}")


def _memory_rows(model: ModelOut) -> list[tuple[str, str]]:
    rows = [("all together", size(model.required_memory_bytes))]
    if need := model.memory:
        cache = f"KV cache, {need.slots} slots of {need.context} tokens in {need.kv_type}"
        parts = {"weights": need.weights_bytes, cache: need.kv_cache_bytes}
        parts |= {"compute buffer": need.compute_bytes, "engine": need.engine_bytes}
        rows = [(name, size(count)) for name, count in parts.items()] + rows
    return rows


@models.command("register")
def register(
    model: Annotated[str, typer.Argument(help="Catalogue id, perhaps with :QUANTIZATION, or hub URL, or repo[:file].")],
    as_id: Annotated[str | None, typer.Option("--id", help="The id that a model from the hub shall have.")] = None,
    context: Annotated[int | None, typer.Option(min=256, help="Tokens of context for each request; default: 8192.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, max=256, help="Requests answered at once; default: 4.")] = None,
    kv_cache_type: Annotated[str | None, typer.Option(help="Type of the KV cache, e.g. q8_0; default: f16.")] = None,
    needs: Annotated[list[str] | None, typer.Option(help="Only on nodes with this tag; repeatable.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Register a model: metadata only, the nodes fetch the bytes."""
    named = {"source": model, "id": as_id} if "/" in model else {"model": model}
    how = {"context": context, "slots": slots, "kv_cache_type": kv_cache_type, "needs": needs or []}
    wanted = asked(RegisterModelRequest, **named | how)
    found = call(url, key, lambda client: client.models.register(wanted))
    if as_json:
        return print_json(found)
    figures = f"{size(found.size_bytes)}, needs {size(found.required_memory_bytes)} of memory"
    say(f"Registered {found.id} ({figures}). Follow it: muster tasks list")


@models.command("needs")
def change_needs(
    model: ModelId,
    tags: Annotated[list[str] | None, typer.Argument(help="Tags that a node must have to hold it; none: any node.")] = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Set the tags that a node must have to hold a model. Where it is, it stays."""
    wanted = asked(ModelPatch, needs=tags or [])
    call(url, key, lambda client: client.models.change(model, wanted))
    say(f"{model} goes to nodes tagged {', '.join(tags)}." if tags else f"{model} goes to any node.")


@models.command("configure")
def configure(
    model: ModelId,
    engine: Annotated[str | None, typer.Option(help="One that the nodes know.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads.")] = None,
    gpu_layers: Annotated[int | None, typer.Option(min=0, max=1000, help="Layers on the GPU.")] = None,
    flash_attention: Annotated[FlashAttention | None, typer.Option(help="Default: where the backend has it.")] = None,
    kv_cache_type: Annotated[CacheType | None, typer.Option(help="Default: f16; quantised ones need less memory.")] = None,
    reset: Annotated[list[EngineOption] | None, typer.Option(help="Let the nodes decide it again; repeatable.")] = None,
    url: Url = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Set how an engine runs a model. Its nodes load it anew, each once its requests have ended."""
    given = {"engine": engine, "threads": threads, "gpu_layers": gpu_layers}
    given |= {"flash_attention": flash_attention, "kv_cache_type": kv_cache_type}
    chosen = {name: value for name, value in given.items() if value is not None}
    wanted = asked(ModelPatch, **chosen | {name.replace("-", "_"): None for name in reset or []})
    found = call(url, key, lambda client: client.models.change(model, wanted))
    if as_json:
        return print_json(found)
    said = ", ".join(f"{name} {value}" for name, value in {"engine": found.engine, **found.params}.items() if value)
    say(f"{found.id}: {said}; needs {size(found.required_memory_bytes)} of memory")
    for line in found.warnings:
        say(f"warning: {line}", error=True)


@models.command("delete")
def delete(
    model: ModelId, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, url: Url = "", key: Key = ""
) -> None:
    """Forget a model; the nodes delete its files."""
    yes or confirm(f"Delete model {model} from all nodes?")
    call(url, key, lambda client: client.models.delete(model))
    say(f"Deleted {model}.")


models.command("push")(downloads.push)
models.command("verify")(downloads.verify)
