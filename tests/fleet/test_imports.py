"""What somebody sends as an inventory: bounded in what comes out of it, read beside the loop, and refused by name."""

import asyncio
import contextlib
import json
import socket
import sqlite3
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_api.errors import BadInput
from control_api.fleet.plain_yaml import Budget, NotPlain, read_yaml
from control_api.fleet.static_inventory import read_hosts
from tests.running import Api

ONE_HOST = "all: {{hosts: {{gpu-01: {{{}}}}}}}"
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@FEW
@given(plain)
def test_plain_values_are_read_as_they_were_written(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert read_yaml(text, Budget(1000)) == yaml.safe_load(text)


@FEW
@given(
    st.text(alphabet="ab:-?[]{},&*!|>'\"%@#<~ \n\t0179._=eE+\\x\u2028\ud800", max_size=120) | st.text(max_size=60),
    st.sampled_from(["yaml", "ini"]),
)
def test_whatever_is_sent_is_taken_or_refused_in_words(text: str, kind: str) -> None:
    for content in (text, ONE_HOST.format(f"x: {text}"), f"a: {{hosts: {text}}}", f"gpu-01 x={text}"):
        try:
            hosts = read_hosts(content, kind)
        except BadInput as error:
            assert error.code == "bad_inventory"
        else:
            json.dumps([host.model_dump() for host in hosts])


def bombs() -> dict[str, tuple[str, str]]:
    """Return texts below the limit of a request that would come to far more."""
    doubled = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))
    many = "".join(f"    h{n}:\n" for n in range(30_000))
    merged = "".join(f"    v{n}: 1\n" for n in range(30_000))
    return {
        "aliases": ("l0: &l0 [x]\n" + doubled, "yaml"),
        "aliases of hosts": ("a: {hosts: &a {b: {}}}\nc: {hosts: *a}", "yaml"),
        "itself": ("&a {a: *a}", "yaml"),
        "many values": ("all:\n  vars:\n" + merged * 2, "yaml"),
        "variables times hosts": (f"all:\n  vars:\n{merged}  hosts:\n{many}", "yaml"),
        "many hosts": (f"all:\n  hosts:\n{many}", "yaml"),
        "long variable times hosts": (f"all:\n  vars: {{v: {'x' * 60_000}}}\n  hosts:\n{many[:9000]}", "yaml"),
        "depth of lists": ("[" * 400_000, "yaml"),
        "depth of mappings": ("{a: " * 200_000, "yaml"),
        "depth of blocks": ("".join(f"{' ' * n}a:\n" for n in range(1200)), "yaml"),
        "keys of keys": ("? " * 300_000, "yaml"),
        "documents": ("--- {}\n" * 100_000, "yaml"),
        "pairs": ("gpu-01 " + "a=[] " * 190_000, "ini"),
        "lines": ("a\n" * 400_000, "ini"),
        "blanks in a line": ("a" + " " * 900_000 + "=b\n[c:d]", "ini"),
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_more_than_an_inventory_is_refused(name: str) -> None:
    content, kind = bombs()[name]
    with pytest.raises(BadInput) as refused:
        read_hosts(content, kind)
    assert refused.value.code == "bad_inventory"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("!!set {a, b}", "all.hosts.gpu-01.v has the tag"),
        ("!!binary aGVsbG8=", "all.hosts.gpu-01.v has the tag"),
        ("!!python/object/apply:os.system [id]", "all.hosts.gpu-01.v has the tag"),
        ("!vault x", "all.hosts.gpu-01.v has the tag"),
        ("!!int x", "all.hosts.gpu-01.v is not int"),
        ("!!int ''", "all.hosts.gpu-01.v is not int"),
        ("!!int '-'", "all.hosts.gpu-01.v is not int"),
        ("!!float '_'", "all.hosts.gpu-01.v is not float"),
        ("9" * 5000, "all.hosts.gpu-01.v is a number of 5000 characters"),
        ("0x" + "f" * 5000, "all.hosts.gpu-01.v is a number of 5002 characters"),
        ("1" + ":59" * 2000, "all.hosts.gpu-01.v is a number of 6001 characters"),
        ("&x *x", "YAML"),
    ],
)
def test_what_no_setting_can_be_is_refused_by_name(value: str, named: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_hosts(ONE_HOST.format(f"v: {value}"), "yaml")
    assert named in refused.value.message


@pytest.mark.parametrize(
    "date", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2001-02-30", "2001-12-14 21:59:43.10"]
)
def test_a_date_is_text(date: str) -> None:
    (host,) = read_hosts(ONE_HOST.format(f"v: {date}"), "yaml")
    assert host.variables == {"v": date}


def test_a_file_of_ini_may_begin_with_hosts_and_have_comments() -> None:
    hosts = read_hosts(
        "# ours\na ansible_host=10.0.0.1 ansible_become=no\n[gpu_hosts]\n; theirs\nb ansible_port=2222\na ansible_user=ops\n",
        "ini",
    )
    assert [(h.name, h.address, h.port, h.user, h.become) for h in hosts] == [
        ("a", "10.0.0.1", 22, "ops", False),
        ("b", "b", 2222, None, True),
    ]


@pytest.mark.anyio
async def test_others_are_answered_while_an_inventory_is_read(api: Api) -> None:
    content = "all:\n  hosts:\n" + "".join(f"    h{n}: {{ansible_host: 10.0.0.1}}\n" for n in range(24_000))
    importing = asyncio.create_task(api.http.post("/v0/hosts/import", json={"content": content}))
    answered, busy = 0, []
    while not importing.done():
        assert (await api.http.get("/healthz")).status_code == 200
        busy.append(await api.http.post("/v0/hosts/import", json={"content": "a: {hosts: {b: }}"}))
        answered += 1
    assert (await importing).json()["error"]["code"] == "bad_inventory"
    assert answered >= 3
    assert {answer.status_code for answer in busy} <= {201, 409}


@pytest.mark.anyio
async def test_others_write_while_a_name_server_is_asked_for_the_hosts_of_an_import(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, str] = {}
    resolve = socket.getaddrinfo

    def answer(name: Any, *rest: Any, **options: Any) -> Any:
        if not str(name).endswith(".example.org") or options.get("flags"):
            return resolve(name, *rest, **options)
        with contextlib.closing(sqlite3.connect(api.settings.state_dir / "control.db", timeout=30)) as store:
            try:  # Others may be writing for a moment; an import that asks inside its transaction waits for this answer.
                store.execute("BEGIN IMMEDIATE")
                asked[name] = "free"
            except sqlite3.OperationalError as error:
                asked[name] = str(error)
        raise socket.gaierror("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    hosts = {f"gpu-{n}": {"ansible_host": f"gpu-{n}.example.org", "gpu_host_allow_reboot": True} for n in range(3)}
    taken = await api.http.post("/v0/hosts/import", json={"content": json.dumps({"all": {"hosts": hosts}})})
    assert taken.status_code == 201, taken.text
    assert asked == {host["ansible_host"]: "free" for host in hosts.values()}


@pytest.mark.parametrize("kind", ["it is not YAML", "document"])
def test_the_message_says_what_is_wrong(kind: str) -> None:
    with pytest.raises(NotPlain, match=kind):
        read_yaml("a: [" if "YAML" in kind else "a: 1\n---\nb: 2", Budget(10))
