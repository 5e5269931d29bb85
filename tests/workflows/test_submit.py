"""`structgen submit` without a cluster: who may submit where, and what is written for KubeRay and SLURM."""

from __future__ import annotations

import http.server
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from structgen.errors import ConfigError
from structgen.settings import parse_assignments
from tests.workflows.conftest import REPOSITORY, Command
from tests.workflows.kuberay_fields import RAYJOB, problems
from workflows import authentication
from workflows.kuberay import rayjob
from workflows.slurm import script
from workflows.submission import read_work

CONFIG = REPOSITORY / "configs" / "submit.yaml"


def config() -> dict:
    return yaml.safe_load(CONFIG.read_text())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token anywhere, and nothing settled."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_command_carries_every_choice(tmp_path: Path):
    """The words give `predict` the same choices back, also where names hold dots, values blanks and quotes."""
    choices = config() | {"resources": {"fold": {"gpus": 1, "labels": {"a.b/c": "d e'f"}}}, "sampling": {"samples": 2, "steps": 5}}
    work = read_work(dict(choices))
    words = work.command(("in put.fasta",), "auto")
    assert words[:3] == ["structgen", "predict", "in put.fasta"]
    assert words[words.index("--store") + 1] == "s3://artifacts/structgen" and words[words.index("--cluster") + 1] == "auto"
    set_ = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    del choices["submit"]
    assert parse_assignments(set_) == choices
    assert shlex.split(shlex.join(words)) == words


def test_rayjob_has_the_shape_of_the_custom_resource():
    """Fields and types of ray.io/v1, one group a kind of node, GPUs, labels, selectors, the token, storage and secrets."""
    document = yaml.safe_load(rayjob(read_work(config())))
    assert problems(document, RAYJOB) == []
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    spec = document["spec"]
    assert shlex.split(spec["entrypoint"])[:3] == ["structgen", "predict", "/shared/jobs"]
    assert spec["activeDeadlineSeconds"] == 12 * 3600 and spec["shutdownAfterJobFinishes"] and spec["backoffLimit"] == 2
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"} and tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)
    fold, search = cluster["workerGroupSpecs"]
    assert fold["replicas"] == fold["minReplicas"] == fold["maxReplicas"] == 4
    assert fold["resources"] == {"CPU": "8", "GPU": "1"} and search["resources"] == {"CPU": "32", "msa": "8"}
    assert fold["labels"] == {"kind": "fold"} and search["labels"] == {"kind": "database"}
    pod = fold["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 1}
    assert pod["nodeSelector"] == {"gpu": "h100"} and pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "nvidia.com/gpu" not in str(search["template"])
    for group in (cluster["headGroupSpec"], fold, search):
        assert group["rayStartParams"] == {}  # the operator refuses labels there, and resources in both places
        container = group["template"]["spec"]["containers"][0]
        assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
        assert container["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    assert cluster["headGroupSpec"]["resources"] == {"CPU": "0"}


def test_runtime_env_is_passed_on():
    """As YAML in the RayJob."""
    choices = config()
    choices["submit"]["runtime_env"] = {"env_vars": {"A": "1"}, "pip": ["x==1"]}
    spec = yaml.safe_load(rayjob(read_work(choices)))["spec"]
    assert yaml.safe_load(spec["runtimeEnvYAML"]) == {"env_vars": {"A": "1"}, "pip": ["x==1"]}


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_script_is_sound_bash(tmp_path: Path, groups: int):
    """bash reads it, shellcheck (where there is one) finds nothing, one component of the job a kind of node, and no secret is in it."""
    choices = config()
    choices["submit"]["groups"] = dict(list(choices["submit"]["groups"].items())[:groups])
    choices["resources"] = choices["resources"] if groups == 2 else {}
    text = script(read_work(choices))
    path = tmp_path / "job.sh"
    path.write_text(text)
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    if shellcheck := shutil.which("shellcheck"):
        found = subprocess.run([shellcheck, "--exclude=SC1091", path], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options.count("hetjob") == groups - 1
    assert {"--job-name=batch", "--time=720", "--requeue", "--account=lab", "--partition=gpu", "--gpus-per-node=h100:1"} <= set(options)
    assert ("--mem=256G" in options) == (groups == 2)
    starts = [line for line in text.splitlines() if line.startswith("srun")]
    assert len(starts) == groups and all("--het-group" in line for line in starts) == (groups == 2)
    assert "--labels=kind=fold" in starts[0]
    assert groups == 1 or """'--resources={"msa": 8}'""" in starts[1]
    assert "RAY_AUTH_MODE=token" in text and "module load cuda" in text
    assert '--cluster "$head:$port" --store s3://artifacts/structgen' in text


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("out", "runs/x", "submit.out: found 'runs/x'; expected a whole path"),
        ("name", "Not; rm -rf", "submit.name"),
        ("store", "relative", "submit.store"),
        ("hours", 0.0, "hours above 0"),
        ("groups", {}, "at least one group"),
        ("groups", {"a": {"nodes": 0}}, "at least one node"),
        ("groups", {"a": {"labels": {"bad label": "x"}}}, "Kubernetes' form"),
        ("groups", {"a": {"labels": {"ray.io/x": "x"}}}, "none of Ray's own"),
        ("groups", {"a": {"partition": "x; reboot"}}, "as SLURM takes it"),
        ("groups", {"a": {"gpu": 1}}, "submit.groups.a.gpu"),
        ("groups", {"a": {"custom": {"msa": 0.0}}}, "an amount above 0"),
        ("volumes", {"shared": "relative"}, "a whole path"),
        ("inptus", [], "did you mean 'inputs'"),
    ],
)
def test_wrong_submissions_are_refused_in_words(key: str, value: object, said: str):
    """Every text that reaches a shell or Kubernetes has a form, and an unknown key its nearest known one."""
    choices = config()
    choices["submit"][key] = value
    with pytest.raises(ConfigError) as error:
        read_work(choices)
    assert said in str(error.value)


@pytest.mark.parametrize("demand", [{"gpus": 2.0}, {"labels": {"kind": "other"}}, {"custom": {"database": 1.0}}, {"cpus": 64.0}])
def test_stage_that_no_group_could_take_is_refused(demand: dict):
    """Before a queue is waited for; what the groups have, and Ray's own labels, pass."""
    choices = config()
    choices["resources"] = {"fold": {"gpus": 1, "labels": {"ray.io/accelerator-type": "H100"}}}
    rayjob(read_work(dict(choices)))
    choices["resources"] = {"fold": demand}
    for write in (rayjob, script):
        with pytest.raises(ConfigError, match=r"resources.fold: found .*; expected what one of submit.groups has"):
            write(read_work(dict(choices)))


def test_hostile_names_stay_words(tmp_path: Path):
    """Paths with quotes, blanks and commands in them reach `predict` as they are."""
    choices = config()
    hostile = "/shared/$(touch pwned) '; touch pwned; #"
    choices["submit"] |= {"inputs": [hostile], "out": "/shared/o ut'`touch pwned`"}
    work = read_work(choices)
    assert shlex.split(yaml.safe_load(rayjob(work))["spec"]["entrypoint"])[2] == hostile
    text = script(work).splitlines()
    line = next(line for line in text if line.startswith("structgen predict")).removesuffix(" &")
    shown = f"structgen() {{ printf '%s\\n' \"$@\"; }}; head=h; port=1; {line}"
    result = subprocess.run(["bash", "-c", shown], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.splitlines()[1] == hostile and "h:1" in result.stdout
    assert not (tmp_path / "pwned").exists()


@contextmanager
def dashboard(status: int) -> Iterator[str]:
    """Something that answers every question about jobs in one way."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("host", ["10.1.2.3", "cluster.example", "[2001:db8::1]", "0.0.0.0", "127.example"])
def test_beyond_this_machine_a_token_is_needed(host: str, monkeypatch: pytest.MonkeyPatch):
    """Without a token nothing is even asked; an open cluster is refused; --insecure accepts both; a closed one with a token is right."""
    address = f"http://{host}:8265"
    with pytest.raises(ConfigError, match="no token, and this is not this machine"):
        authentication.require_token(address, insecure=False)
    authentication.require_token(address, insecure=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 64)
    with pytest.raises(ConfigError, match="no token"):  # the mode that was settled before says so
        authentication.require_token(address, insecure=False)
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setattr(authentication, "is_open", lambda address: True)
    with pytest.raises(ConfigError, match="asks for no token"):
        authentication.require_token(address, insecure=False)
    monkeypatch.setattr(authentication, "is_open", lambda address: False)
    authentication.require_token(address, insecure=False)
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_joining_beyond_this_machine_needs_a_token_or_a_word(monkeypatch: pytest.MonkeyPatch):
    """`--cluster HOST:PORT` elsewhere: refused without a token, unless the user said that there is none."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with pytest.raises(ConfigError, match="no token, and this is not this machine"):
        authentication.declare("10.1.2.3:6379")
    assert "RAY_AUTH_MODE" not in os.environ
    for where in ("127.0.0.1:6379", "auto"):
        authentication.declare(where)
        assert os.environ.pop("RAY_AUTH_MODE") == "disabled"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    authentication.declare("10.1.2.3:6379")


def test_open_cluster_is_recognised_by_its_answer():
    """200 without a token means open; 401 and silence do not."""
    with dashboard(200) as address:
        assert authentication.is_open(address)
    with dashboard(401) as address:
        assert not authentication.is_open(address)
    assert not authentication.is_open("http://127.0.0.1:9")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_this_machine_needs_none(host: str):
    """Loopback is no way in for others; the mode is settled either way."""
    authentication.require_token(f"http://{host}:8265", insecure=False)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_commands_say_what_is_wrong_and_what_is_next(command: Command, tmp_path: Path):
    """Written files name the next command; no address, no inputs, relative results: exit status 2 and one line."""
    (tmp_path / "in.fasta").write_text(">a\nACDE\n")
    outcome = command("submit", CONFIG, "--kuberay", "job.yaml", "--slurm", "job.sh")
    assert outcome.status == 0 and "kubectl apply -f job.yaml" in outcome.text and "sbatch job.sh" in outcome.text
    assert yaml.safe_load((tmp_path / "job.yaml").read_text())["metadata"]["name"] == "batch"
    outcome = command("submit", "in.fasta", "--out", "/shared/x", "--set", "sampling.steps=5", "--slurm", "own.sh")
    assert outcome.status == 0
    text = (tmp_path / "own.sh").read_text()
    assert f"structgen predict {tmp_path / 'in.fasta'} --out /shared/x" in text and "--job-name=structgen-in" in text
    for arguments, said in [
        (["in.fasta", "--out", "/x"], "expected the dashboard of the head"),
        (["in.fasta", "--out", "x", "--address", "http://127.0.0.1:1"], "submit.out"),
        (["in.fasta", "--out", "/x", "--address", "http://10.0.0.1:8265"], "no token"),
        (["in.fasta", "--out", "/x", "--kuberay", "k.yaml"], "submit.image"),
        (["--logs", "x", "--address", "http://10.0.0.1:8265"], "no token"),
    ]:
        outcome = command("submit", *arguments)
        assert outcome.status == 2 and said in outcome.text, (arguments, outcome.text)
    assert not (tmp_path / "k.yaml").exists()
