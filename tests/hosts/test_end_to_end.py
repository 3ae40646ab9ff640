"""The whole line on real parts: two bare hosts over SSH become nodes that answer through the router.

The tests are steps of one story and run in this order, on a Debian 12 and a Debian 13 host; the second has no route out.
"""

import json
import os
import re
import signal
import time
from collections.abc import Iterator

import openai
import pytest
from playwright.sync_api import expect, sync_playwright

from control_api.settings import SETUP_LINK_FILE
from tests.dashboards.browsing import chromium
from tests.dashboards.screenshots import ARGUMENTS
from tests.hosts.conftest import LabHosts
from tests.hosts.lab import Host
from tests.hosts.stack import MODEL, Stack, running_stack
from tests.processes import answers, wait_for

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]

NAMES = ("deb12", "deb13")
VARIABLES = ["--var", "gpu_host_require_gpu=false", "--var", "node_service_allow_cpu=true"]
ENGINE = ["--var", "node_service_engine_threads=1"]
LOGIN = ["--user", "ops", "--credential", "lab"]
EMBEDDING = "embed:tiny"
SLOW_MS = 60_000
QUESTION = "What is the capital of France? Answer in one short sentence."


@pytest.fixture(scope="module")
def stack(lab_hosts: LabHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Muster that the hosts reach, with short times for silence."""
    folder = tmp_path_factory.mktemp("stack")
    # 12 s of silence instead of 30, so that the outage test is short.
    times = {"MUSTER_OFFLINE_AFTER_S": "12", "MUSTER_LISTENING_GAP_S": "6"}
    with running_stack(folder, lab_hosts.lab.gateway, **times) as running:
        yield running


@pytest.fixture(scope="module")
def machines(lab_hosts: LabHosts) -> dict[str, Host]:
    """The hosts by the names that they have in Muster."""
    return dict(zip(NAMES, lab_hosts.all, strict=True))


@pytest.fixture(scope="module")
def client(stack: Stack) -> openai.OpenAI:
    """The official client with an inference key."""
    key = stack.muster("keys", "create", "app").stdout.strip()
    return openai.OpenAI(base_url=f"{stack.router_url}/v1", api_key=key, max_retries=0, timeout=60)


def recap_of(stack: Stack, job_id: str) -> dict[str, dict[str, int]]:
    """Return what a job did per host."""
    recap: dict[str, dict[str, int]] = stack.get(f"/v0/jobs/{job_id}")["recap"]
    return {name: recap[name] for name in NAMES}


def run_job(stack: Stack, *arguments: str) -> dict[str, object]:
    """Start ``site.yml`` on both hosts, watch it to its end, and return the job."""
    stack.muster("jobs", "run", "site.yml", *NAMES, *ENGINE, *arguments, "--watch")
    job: dict[str, object] = json.loads(stack.muster("jobs", "list", "--limit", "1", "--json").stdout)[0]
    return job


def test_hosts_and_models_are_made_known(stack: Stack, lab_hosts: LabHosts, machines: dict[str, Host]) -> None:
    stack.muster("hosts", "credential", "lab", "--ssh-key", str(lab_hosts.lab.ssh_key))
    for name, machine in machines.items():
        stack.muster(
            "hosts", "add", name, machine.address, "--user", "ops", "--credential", "lab", "--tag", "site:lab", *VARIABLES
        )
    stack.muster("models", "register", MODEL)
    body = {"source": "acme/tiny-embed:tiny.gguf", "id": EMBEDDING, "capabilities": ["embeddings"]}
    assert stack.api.post("/v0/models/register", json=body).status_code == 201
    assert "unprovisioned" in stack.muster("hosts", "list").stdout


def test_a_check_run_on_a_bare_host_says_what_it_would_do_and_changes_nothing(stack: Stack, machines: dict[str, Host]) -> None:
    said = stack.muster("jobs", "run", "site.yml", "deb13", *ENGINE, "--check", "--watch").stdout
    for would in ("would install release", "would ask for an enrolment ticket", "would start muster-node"):
        assert would in said
    assert machines["deb13"].run("sh", "-c", "ls -d /opt/muster-node /var/lib/muster-node 2>/dev/null || true").strip() == ""


def test_bare_hosts_become_nodes_that_are_online(stack: Stack, machines: dict[str, Host]) -> None:
    job = run_job(stack)
    assert job["status"] == "successful"
    for name in NAMES:
        node = stack.node(name)
        assert (node["state"], node["degraded"]) == ("online", False), node
        assert {m["id"]: m["state"] for m in node["models"]} == {MODEL: "ready", EMBEDDING: "ready"}
        host = stack.get(f"/v0/hosts/{name}")
        assert host["state"] == "provisioned"
        assert host["host_key"]["fingerprint"].startswith("SHA256:")
        assert host["node_id"] == node["id"]
    assert stack.get(f"/v0/jobs/{job['id']}")["events"]["stored"] == stack.get(f"/v0/jobs/{job['id']}")["events"]["expected"]


def test_the_service_is_confined_and_no_token_is_left_on_a_host(stack: Stack, machines: dict[str, Host]) -> None:
    for name, machine in machines.items():
        shown = machine.run("systemctl", "show", "muster-node", "-p", "ActiveState,User,NoNewPrivileges,ProtectSystem,Restart")
        for line in ("ActiveState=active", "User=muster", "NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=always"):
            assert line in shown, f"{name}: {shown}"
        files = machine.run("sh", "-c", "find /var/lib/muster-node -name 'enrolment*' -o -perm /077 -name '*.json'")
        assert files.strip() == "", f"{name}: readable or left behind: {files}"


def test_the_official_client_cannot_tell_the_router_from_openai(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages, max_tokens=24, temperature=0)  # type: ignore[arg-type]
    assert "Paris" in (answer.parse().choices[0].message.content or "")
    assert answer.headers["x-muster-node"]
    assert answer.headers["x-request-id"]

    stream = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=24, temperature=0, stream=True)  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "Paris" in text

    assert {model.id for model in client.models.list()} == {MODEL, EMBEDDING}
    vector = client.embeddings.create(model=EMBEDDING, input="hello").data[0].embedding
    assert len(vector) == 64
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody:1b", messages=messages)  # type: ignore[arg-type]
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="mk_" + "x" * 43).models.list()


def test_an_operator_sets_up_logs_in_sees_the_nodes_online_and_chats(stack: Stack) -> None:
    link = (stack.state_dir / SETUP_LINK_FILE).read_text().strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
        page.goto(link)
        page.get_by_label("User name").fill("alice")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Make the account and log in").click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible(timeout=SLOW_MS)
        page.get_by_role("link", name="Nodes", exact=True).click()
        for name in NAMES:
            expect(page.get_by_role("article", name=name)).to_contain_text("Online", timeout=SLOW_MS)
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_text("site.yml").first).to_be_visible(timeout=SLOW_MS)
        page.get_by_role("link", name="Playground").click()
        ask = page.get_by_placeholder("Ask something…")
        ask.fill(QUESTION)
        expect(page.get_by_role("button", name="Send message")).to_be_enabled(timeout=SLOW_MS)
        ask.press("Enter")
        # What it says is drawn by lot; that it was a whole answer is what the summary under it says.
        expect(page.get_by_text(re.compile(r"\d+ tokens")).first).to_be_visible(timeout=SLOW_MS)
        expect(page.get_by_role("alert")).to_have_count(0)
        browser.close()


def test_the_same_playbook_from_a_shell_changes_nothing(stack: Stack, lab_hosts: LabHosts) -> None:
    done = stack.playbook(
        "-i",
        "inventory/muster.yml",
        "playbooks/site.yml",
        "--private-key",
        str(lab_hosts.lab.ssh_key),
        "-e",
        "node_service_engine_threads=1",
    )
    for name in NAMES:
        line = next(line for line in done.stdout.splitlines() if line.startswith(name) and "changed=" in line)
        assert "changed=0" in line
        assert "failed=0" in line


def test_check_and_diff_change_nothing_and_name_what_was_changed_by_hand(stack: Stack, machines: dict[str, Host]) -> None:
    unit = "/etc/systemd/system/muster-node.service"
    machines["deb12"].run("sh", "-c", f"cp -p {unit} /root/unit && sed -i s/Restart=always/Restart=no/ {unit}")
    job = run_job(stack, "--check")
    recap = recap_of(stack, str(job["id"]))
    assert recap["deb12"]["changed"] > 0
    assert {name: counts["failed"] for name, counts in recap.items()} == dict.fromkeys(NAMES, 0)
    assert recap["deb13"]["changed"] == 0
    assert "Restart=no" in machines["deb12"].run("cat", unit)
    machines["deb12"].run("cp", "-p", "/root/unit", unit)


def test_a_node_that_is_killed_comes_back_by_itself(stack: Stack, machines: dict[str, Host], client: openai.OpenAI) -> None:
    before = stack.node("deb12")["instance_id"]
    machines["deb12"].run("systemctl", "kill", "--signal=KILL", "muster-node")

    def back() -> bool:
        node = stack.node("deb12")
        return node["instance_id"] != before and node["state"] == "online" and node["ready_models"]["loaded"] == 2

    wait_for(back, what="the killed node to be online again", timeout_s=60)


def test_no_request_fails_while_one_of_two_hosts_is_cut_off(
    stack: Stack, machines: dict[str, Host], client: openai.OpenAI
) -> None:
    machines["deb13"].cut()
    try:
        for _ in range(10):
            answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
            assert answer.choices[0].message.content is not None
        wait_for(lambda: stack.node("deb13")["state"] == "offline", what="the silence to be noticed", timeout_s=40)
    finally:
        machines["deb13"].heal()
    wait_for(lambda: stack.node("deb13")["state"] == "online", what="the healed host to be online", timeout_s=40)


def test_the_api_may_be_away_and_nobody_goes_offline(stack: Stack, client: openai.OpenAI) -> None:
    """Stopped for longer than silence is allowed to last; the router serves on from its last table."""
    [api] = stack.pids("api")
    since = {name: stack.get(f"/v0/nodes/{name}/transitions")[0] for name in NAMES}
    os.kill(api, signal.SIGSTOP)
    try:
        stopped_until = time.monotonic() + 20
        while time.monotonic() < stopped_until:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
    finally:
        os.kill(api, signal.SIGCONT)
    wait_for(lambda: answers(f"{stack.api.base_url}/healthz"), what="the API to answer", timeout_s=30)
    for name in NAMES:
        assert stack.get(f"/v0/nodes/{name}/transitions")[0] == since[name]


def test_a_killed_api_is_restarted_and_a_job_ends_in_a_true_state(stack: Stack) -> None:
    job = json.loads(stack.muster("jobs", "run", "site.yml", "deb12", *ENGINE, "--json").stdout)
    wait_for(lambda: stack.get(f"/v0/jobs/{job['id']}")["status"] == "running", what="the job to run", timeout_s=30)
    [api] = stack.pids("api")
    os.kill(api, signal.SIGKILL)
    wait_for(
        lambda: stack.pids("api") not in ([], [api]) and answers(f"{stack.api.base_url}/healthz"),
        what="a new API",
        timeout_s=60,
    )
    wait_for(lambda: stack.get(f"/v0/jobs/{job['id']}")["status"] == "successful", what="the job to end well", timeout_s=180)
    again = json.loads(stack.muster("jobs", "run", "verify.yml", *NAMES, "--json").stdout)
    stack.muster("jobs", "watch", again["id"])


def test_a_host_that_refuses_ssh_fails_by_name_and_the_other_goes_on(stack: Stack, lab_hosts: LabHosts) -> None:
    stack.muster(
        "hosts", "add", "closed", lab_hosts.lab.gateway, "--port", "1", "--user", "ops", "--credential", "lab", *VARIABLES
    )
    started = time.monotonic()
    done = stack.muster("jobs", "run", "provision.yml", "deb12", "closed", "--watch", check=False)
    job = json.loads(stack.muster("jobs", "list", "--limit", "1", "--json").stdout)[0]
    assert (job["status"], done.returncode) == ("failed", 4)
    assert job["recap"]["closed"]["unreachable"] == 1
    assert job["recap"]["deb12"]["ok"] > 5
    # Also not who may reach its port, although the other host of its site is not in this job.
    assert job["recap"]["deb12"]["changed"] == 0
    assert "closed" in job["reason"]
    assert "refused" in done.stdout
    assert time.monotonic() - started < 120
    stack.muster("hosts", "delete", "closed", "--yes")


def test_a_wrong_sudo_is_said(stack: Stack, machines: dict[str, Host]) -> None:
    machines["deb12"].run("mv", "/etc/sudoers.d/ops", "/root/ops.sudoers")
    try:
        done = stack.muster("jobs", "run", "provision.yml", "deb12", "--watch", check=False)
    finally:
        machines["deb12"].run("mv", "/root/ops.sudoers", "/etc/sudoers.d/ops")
    assert done.returncode != 0
    assert "sudo" in (done.stdout + done.stderr).lower()


def test_a_changed_host_key_is_refused_until_it_is_accepted(stack: Stack, machines: dict[str, Host]) -> None:
    machines["deb13"].run("sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
    refused = stack.muster("jobs", "run", "provision.yml", "deb13", "--watch", check=False)
    assert refused.returncode == 4
    stack.muster("hosts", "rekey", "deb13")
    stack.muster("jobs", "run", "provision.yml", "deb13", "--watch")


def test_no_secret_is_in_events_logs_or_arguments(stack: Stack, lab_hosts: LabHosts) -> None:
    key_lines = [line for line in lab_hosts.lab.ssh_key.read_text().splitlines() if len(line) > 40 and "KEY" not in line]
    places = [*stack.state_dir.rglob("*.log"), *stack.state_dir.glob("*.db*")]
    assert len(places) >= 4
    for place in places:
        content = place.read_bytes()
        assert not any(line.encode() in content for line in key_lines), f"the SSH key is in {place}"


def test_deleting_a_model_removes_its_file_from_the_hosts(stack: Stack, machines: dict[str, Host]) -> None:
    def files(machine: Host) -> str:
        return machine.run("sh", "-c", "find /var/lib/muster-node/models -name '*.gguf'")

    assert all("tiny.gguf" in files(machine) for machine in machines.values())
    stack.muster("models", "delete", EMBEDDING, "--yes")
    wait_for(lambda: not any("tiny.gguf" in files(m) for m in machines.values()), what="the files to be gone", timeout_s=60)
    assert all("SmolLM2" in files(machine) for machine in machines.values())
