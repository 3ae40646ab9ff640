"""How each target is started in front of the mock nodes. To add one: a function here, its packages in install.sh."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import router

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster/bench"
HERE = Path(__file__).parent
KEY = "sk-bench"


@dataclass(frozen=True)
class Command:
    """How a target is run, and the key that it wants."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    key: str = KEY

    def is_installed(self) -> bool:
        paths = [word for word in self.argv[1:] if word.startswith(f"{HOME}/")]
        return shutil.which(self.argv[0]) is not None and all(Path(path).exists() for path in paths)


type Start = Callable[[int, Path, list[str]], Command]  # port, folder of its own, node URLs


def muster(port: int, folder: Path, nodes: list[str]) -> Command:
    return Command([sys.executable, "-m", "benchmarks.router", str(port), ",".join(nodes), str(folder)], key=router.KEY)


def muster_content(port: int, folder: Path, nodes: list[str]) -> Command:
    return Command([*muster(port, folder, nodes).argv, "--content"], key=router.KEY)


def nginx(port: int, folder: Path, nodes: list[str]) -> Command:
    servers = " ".join(f"server {urlsplit(node).netloc};" for node in nodes)
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(f"""
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k; {temporary}
  upstream nodes {{ least_conn; {servers} keepalive 512; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://nodes; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}""")
    program = shutil.which("nginx") or f"{HOME}/nginx/usr/sbin/nginx"
    return Command([program, "-e", f"{folder}/error.log", "-c", str(config)])


def vllm_router(port: int, _folder: Path, nodes: list[str]) -> Command:
    options = ["--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(port + 1)]
    return Command(
        [f"{HOME}/vllm/bin/vllm-router", "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *nodes, *options]
    )


def litellm(port: int, folder: Path, nodes: list[str]) -> Command:
    one = "  - {{model_name: bench-model, litellm_params: {{model: openai/bench-model, api_base: '{}/v1', api_key: none}}}}"
    config = folder / "litellm.yaml"
    config.write_text(f"""model_list:
{chr(10).join(one.format(node) for node in nodes)}
general_settings: {{master_key: {KEY}}}
litellm_settings: {{telemetry: false, request_timeout: 600}}
router_settings: {{routing_strategy: simple-shuffle, num_retries: 0}}
""")
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    path = f"{HOME}/litellm/bin:{os.environ['PATH']}"
    argv = [f"{HOME}/litellm/bin/litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return Command([*argv, "--num_workers", "1"], env={**env, "PATH": path})


def _forwarder(app: str, port: int, nodes: list[str]) -> Command:
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    env = {"BENCH_NODES": ",".join(nodes), "BENCH_KEY": KEY, "PYTHONPATH": str(HERE / "forwarders")}
    return Command([f"{HOME}/py/bin/uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *options], env=env)


def fastapi_httpx(port: int, _folder: Path, nodes: list[str]) -> Command:
    return _forwarder("fastapi_httpx:app", port, nodes)


def asgi_aiohttp(port: int, _folder: Path, nodes: list[str]) -> Command:
    return _forwarder("asgi_aiohttp:app", port, nodes)


def protocol(port: int, _folder: Path, nodes: list[str]) -> Command:
    env = {"BENCH_NODES": ",".join(nodes), "BENCH_KEY": KEY}
    return Command([f"{HOME}/py/bin/python", str(HERE / "forwarders/protocol.py"), str(port)], env=env)


PEERS: dict[str, Start] = {
    "muster": muster,
    "muster-content": muster_content,
    "nginx": nginx,
    "vllm-router": vllm_router,
    "litellm": litellm,
    "fastapi-httpx": fastapi_httpx,
    "asgi-aiohttp": asgi_aiohttp,
    "protocol": protocol,
}
