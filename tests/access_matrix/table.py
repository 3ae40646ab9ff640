"""Who may call what: for each route the least that is needed, and what it answers to whoever has that.

The test asks with ids that do not exist and with an empty object, so that what may be done is answered by 404 or 422 and does
nothing.
"""

PRINCIPALS = {"inference", "read", "operate", "admin", "user", "job"}
READERS = {"read", "operate", "admin", "user"}
OPERATORS = {"operate", "admin", "user"}
# Who has the least that is needed. ``user``: the token of an administrator's browser session.
WHO = {
    "inference or job": {"inference", "admin", "user", "job"},
    "read": READERS,
    "read or job": READERS | {"job"},
    "read or node": READERS | {"node"},
    "operate": OPERATORS,
    "operate or job": OPERATORS | {"job"},
    "admin": {"admin", "user"},
    "node": {"node"},
    "ticket": {"ticket"},
}
# Of these nobody is told 403: what is no credential of theirs is none.
OWN_CREDENTIALS = ("node", "ticket")

API: dict[str, tuple[str, int]] = {
    "GET /docs": ("read", 200),
    "GET /healthz": ("anybody", 200),
    "GET /metrics": ("read", 200),
    "GET /openapi.json": ("read", 200),
    "GET /readyz": ("read", 200),
    "GET /v0/alerts": ("read", 200),
    "GET /v0/api-keys": ("admin", 200),
    "POST /v0/api-keys": ("admin", 422),
    "DELETE /v0/api-keys/{key_id}": ("admin", 404),
    "POST /v0/apply": ("operate", 422),
    "GET /v0/assignments": ("read", 200),
    "POST /v0/auth/inference-token": ("inference or job", 201),
    "POST /v0/auth/login": ("anybody", 422),
    "POST /v0/auth/logout": ("anybody", 422),
    "GET /v0/auth/me": ("read", 200),
    "POST /v0/auth/refresh": ("anybody", 422),
    "POST /v0/auth/setup": ("anybody", 422),
    "GET /v0/credentials": ("read", 200),
    "POST /v0/credentials": ("admin", 422),
    "DELETE /v0/credentials/{credential_id}": ("admin", 404),
    "GET /v0/drift": ("read", 200),
    "POST /v0/drift": ("operate", 202),
    "POST /v0/drift/apply": ("operate", 409),
    "POST /v0/enrolments": ("admin", 201),
    "GET /v0/hosts": ("read", 200),
    "POST /v0/hosts": ("operate", 422),
    "POST /v0/hosts/import": ("operate", 422),
    "DELETE /v0/hosts/{host_id}": ("operate", 404),
    "GET /v0/hosts/{host_id}": ("read or job", 404),
    "PATCH /v0/hosts/{host_id}": ("operate", 404),
    "POST /v0/hosts/{host_id}/accept": ("admin", 404),
    "POST /v0/hosts/{host_id}/enrolment": ("operate or job", 404),
    "GET /v0/hosts/{host_id}/host-key": ("read", 404),
    "PUT /v0/hosts/{host_id}/host-key": ("operate", 422),
    "GET /v0/hub/{owner}/{name}/resolve/{revision}/{path:path}": ("node", 404),
    "GET /v0/inventory": ("read or job", 200),
    "GET /v0/jobs": ("read", 200),
    "POST /v0/jobs": ("operate", 422),
    "GET /v0/jobs/{job_id}": ("read", 404),
    "POST /v0/jobs/{job_id}/cancel": ("operate", 404),
    "GET /v0/jobs/{job_id}/changes": ("read", 404),
    "GET /v0/jobs/{job_id}/events": ("read", 404),
    "POST /v0/jobs/{job_id}/events": ("operate", 404),
    "GET /v0/jobs/{job_id}/inventory": ("read", 404),
    "POST /v0/jobs/{job_id}/retry": ("operate", 404),
    "GET /v0/models": ("read", 200),
    "GET /v0/models/available": ("read", 200),
    "POST /v0/models/distribute": ("operate or job", 422),
    "GET /v0/models/hub": ("read", 200),
    "POST /v0/models/register": ("operate", 422),
    "DELETE /v0/models/{model_id:path}": ("operate", 404),
    "GET /v0/models/{model_id:path}": ("read", 404),
    "PATCH /v0/models/{model_id:path}": ("operate", 404),
    "GET /v0/nodes": ("read", 200),
    "POST /v0/nodes/register": ("ticket", 201),
    "DELETE /v0/nodes/{node_id}": ("operate", 404),
    "GET /v0/nodes/{node_id}": ("read or job", 404),
    "PATCH /v0/nodes/{node_id}": ("admin", 422),
    "POST /v0/nodes/{node_id}/approve": ("admin", 404),
    "GET /v0/nodes/{node_id}/assignments": ("read", 404),
    "POST /v0/nodes/{node_id}/drain": ("operate or job", 404),
    "POST /v0/nodes/{node_id}/fetches": ("node", 422),
    "POST /v0/nodes/{node_id}/heartbeat": ("node", 422),
    "GET /v0/nodes/{node_id}/manifest": ("read or node", 404),
    "GET /v0/nodes/{node_id}/models": ("read", 404),
    "POST /v0/nodes/{node_id}/models/pull": ("operate or job", 422),
    "POST /v0/nodes/{node_id}/resume": ("operate or job", 404),
    "GET /v0/nodes/{node_id}/transitions": ("read", 404),
    "POST /v0/plan": ("operate", 202),
    "POST /v0/plan/placement": ("read", 422),
    "GET /v0/plan/{job_id}": ("read", 404),
    "GET /v0/providers": ("read", 200),
    "DELETE /v0/providers/{name}": ("admin", 422),
    "PUT /v0/providers/{name}": ("admin", 422),
    "GET /v0/requests": ("read", 200),
    "GET /v0/requests/{id}": ("operate", 422),
    "GET /v0/settings": ("read", 200),
    "PATCH /v0/settings": ("admin", 200),
    "GET /v0/settings/changes": ("read", 200),
    "GET /v0/tasks": ("read or job", 200),
    "GET /v0/tasks/{task_id}": ("read or job", 404),
    "POST /v0/tasks/{task_id}/cancel": ("operate", 404),
    "WS /v0/events": ("read", 101),
}

# ``key``: the node's own; ``artifact ticket``: for one file of it.
NODE: dict[str, tuple[str, int]] = {
    "GET /api/tags": ("key", 200),
    "GET /healthz": ("anybody", 200),
    "GET /metrics": ("key", 200),
    "GET /v0/artifacts/{sha256}": ("artifact ticket", 404),
    "GET /v0/logs": ("key", 200),
    "GET /v0/status": ("key", 200),
    "GET /v1/models": ("key", 200),
    "GET /v1/models/{model_id:path}": ("key", 404),
    "POST /v0/sync": ("key", 202),
    "POST /v1/chat/completions": ("key", 400),
    "POST /v1/completions": ("key", 400),
    "POST /v1/embeddings": ("key", 400),
    "POST /v1/responses": ("key", 400),
}

# ``known``: whoever has any credential that the router knows.
ROUTER: dict[str, tuple[str, int]] = {
    "GET /healthz": ("anybody", 200),
    "GET /metrics": ("read", 200),
    "GET /readyz": ("known", 200),
    "GET /v1/models": ("inference", 200),
    "GET /v1/models/{model}": ("inference", 404),
    "POST /v1/chat/completions": ("inference", 400),
    "POST /v1/completions": ("inference", 400),
    "POST /v1/embeddings": ("inference", 400),
    "POST /v1/responses": ("inference", 400),
}
ROUTER_WHO = {
    "known": {"inference", "read", "operate", "admin", "inference token"},
    "inference": {"inference", "operate", "admin", "inference token"},
    "read": {"read", "operate", "admin"},
}

# To anybody, and to a browser that is logged in. Forms answer the same to both, for they say themselves who it is.
DASHBOARD: dict[str, tuple[int, int]] = {
    "GET /": (303, 303),
    "GET /healthz": (200, 200),
    "GET /language": (303, 303),
    "GET /login": (200, 303),
    "GET /setup": (200, 200),
    "POST /login": (401, 401),
    "POST /logout": (303, 303),
    "POST /setup": (403, 403),
}
# What Panel and Bokeh have beside: a path of each pattern, and the same two answers. Nobody gets what is 404.
PANEL: dict[str, tuple[str, int, int]] = {
    r"^/{page}(?P<__suffix__>/?)$": ("/overview", 302, 200),
    r"^/{page}(?P<__suffix__>/ws)$": ("/overview/ws", 404, 404),  # by HTTP; its WebSocket is in test_door.py
    r"^/{page}(?P<__suffix__>/metadata)$": ("/overview/metadata", 404, 404),
    r"^/{page}(?P<__suffix__>/autoload\.js)$": ("/overview/autoload.js?bokeh-autoload-element=x", 404, 404),
    r"^/{page}(?P<__suffix__>/static/.*)$": ("/overview/static/js/bokeh.min.js", 404, 404),
    r"/components/(?P<path>.*)$": ("/components/dashboards.components.view/View/_stylesheets/x", 404, 404),
}
