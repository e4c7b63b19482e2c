"""`actsearch cluster template`: what it writes, and that each tool would take it.

The templates are checked by the tools' own parsers and schemas: Ray's for its cluster files, its
start commands and its other command lines, Kubernetes' for pods and volumes, Slurm's where it is
installed, ours for every `actsearch` line. KubeRay's schema is no Python package; a table of its
field names stands here. The Slurm script runs, with stand-ins for Slurm on this machine.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from launch.cli import app, run
from launch.commands.cluster import TEMPLATES
from launch.commands.options import requested

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "launch" / "templates"
RAY = ("bare", "gcp-tpu")
"""Templates of Ray's cluster launcher."""

text_of = {name: (FOLDER / file).read_text() for name, file in TEMPLATES.items()}


def with_options(text: str) -> str:
    """The same with what stands as a comment for those who need it: lines of `#-` and `#  `."""
    return re.sub(r"(?m)^( +)#((?:-|  ) *\S)", r"\1\2", text)


def documents(name: str, *, options: bool = False) -> list[dict[str, Any]]:
    text = text_of[name]
    return list(yaml.safe_load_all(with_options(text) if options else text))


def said_lines(name: str) -> Iterator[str]:
    """Command lines that a template tells its reader to type."""
    for line in text_of[name].splitlines():
        if found := re.match(r"# {5}(?!FROM |COPY |RUN )(\S.*)", line):
            yield found[1]


def commands_in(line: str) -> Iterator[list[str]]:
    """The commands of a line, and those that it has other machines run."""
    words: list[str] = []
    for word in [*shlex.split(line), ";"]:
        if word not in ("&&", ";"):
            words.append(word.rstrip(";"))
        if word in ("&&", ">") or word.endswith(";"):
            yield words
            if words[:2] == ["ray", "exec"]:
                yield from commands_in(words[-1])
            if words[:2] == ["kubectl", "exec"]:
                yield words[words.index("--") + 1 :]
            words = []


def started(words: Sequence[str]) -> Any:
    """The parameters of a `ray …` line as Ray itself reads them."""
    from ray.dashboard.modules.job.cli import job_cli_group
    from ray.scripts.scripts import cli

    assert words[0] == "ray"
    group, rest = (job_cli_group, words[2:]) if words[1] == "job" else (cli, words[1:])
    command = group.commands[rest[0]]
    return command.make_context(rest[0], list(rest[1:])).params


def asked(words: Sequence[str]) -> tuple[Any, Any]:
    """Science and placement of an `actsearch search …` line, as the command itself reads them."""
    assert list(words[:2]) == ["actsearch", "search"]
    _, bound, _ = app.parse_args(list(words[1:]), exit_on_error=False, print_error=False)
    options = dict(bound.arguments) | bound.kwargs
    own = ("run_dir", "preset", "config", "grow_from", "json")
    flags = {name: value for name, value in options.items() if name not in own}
    return requested(options.get("preset"), None, flags)


def search_of(name: str) -> list[str]:
    """The words of the search that a template asks for, as they arrive at `actsearch`."""
    if name == "kuberay":
        return shlex.split(documents(name)[1]["spec"]["entrypoint"])
    (line,) = (line for line in said_lines(name) if " job submit " in line)
    words = list(started(shlex.split(line))["entrypoint"])
    assert not set("".join(words)) & set("$~*")  # no shell reads them
    return words


# The command


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_printed_or_written_once(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["cluster", "template", name]) == 0
    assert capsys.readouterr().out == text_of[name]
    assert run(["cluster", "template", name, "--output", "mine"]) == 0
    assert (tmp_path / "mine").read_text() == text_of[name]
    (tmp_path / "mine").write_text("edited")
    assert run(["cluster", "template", name, "--output", "mine"]) == 2
    assert "mine is there already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("mine", "edited")]


def test_a_template_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    assert run(["cluster", "template", "bare", "--output", str(tmp_path / "mine")]) == 2
    assert "mine: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_makes_meanwhile_is_left_alone(tmp_path, monkeypatch, capsys):
    def meanwhile(folder: Path, stem: str) -> Path:
        (tmp_path / "mine").write_text("another's")
        return folder / stem

    monkeypatch.setattr("launch.commands.cluster.scratch_path", meanwhile)
    assert run(["cluster", "template", "bare", "--output", str(tmp_path / "mine")]) == 2
    assert "mine is there already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("mine", "another's")]


def test_a_dangling_link_is_not_written_through(tmp_path):
    (tmp_path / "mine").symlink_to(tmp_path / "elsewhere")
    assert run(["cluster", "template", "bare", "--output", str(tmp_path / "mine")]) == 2
    assert not (tmp_path / "elsewhere").exists()


def test_the_command_needs_no_heavy_import():
    code = (
        "import sys; from launch.cli import run; code = run(['cluster', 'template', 'bare']); "
        "heavy = {'jax', 'flax', 'ray', 'sympy', 'optax', 'yaml'} & set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", text_of["bare"])


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv builds the wheel")
def test_the_wheel_has_the_templates_and_the_extra(tmp_path):
    builder = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(builder, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name, file in TEMPLATES.items():
            assert archive.read(f"launch/templates/{file}").decode() == text_of[name]
        (metadata,) = (entry for entry in archive.namelist() if entry.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    assert "Requires-Dist: ray[default]>=2.52; extra == 'cluster'" in lines


# Every template


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_what_to_edit_what_was_run_and_that_ports_stay_closed(name):
    text = text_of[name]
    head = " ".join(re.findall(r"(?m)^#(?!!) ?(.*)$", text.split("\n\n")[0]))
    state, security = head.partition("Edit what is marked EDIT")[0], head.partition("Security. ")[2]
    assert text.isascii() and "\t" not in text and text.count("EDIT") >= 6
    assert "State: " in state and re.search("[Nn]ot run by us", state)
    assert "GPUs" in state or "TPU" in state
    assert "token" in security and "traffic is not encrypted" in security.lower()
    assert re.search("public port|no other port|LoadBalancer", security)
    assert "0.0.0.0" not in text


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_lines_to_type_are_lines_that_the_tools_take(name):
    checked = set()
    for line in said_lines(name):
        for words in commands_in(line):
            if words[:1] == ["ray"]:
                started([word for word in words if word != ">"])
            elif words[:2] == ["actsearch", "search"]:
                asked(words)
            elif words[:1] == ["actsearch"]:
                app.parse_args(words[1:], exit_on_error=False, print_error=False)
            checked.add(" ".join(words[:2]))
    expected = {
        "bare": {"ray up", "ray job", "ray down", "ray exec", "ray dashboard", "ray rsync-down",
                 "ray get-auth-token", "actsearch watch"},
        "slurm": {"sbatch slurm.sh", "actsearch top", "scancel --batch"},
        "kuberay": {"kubectl apply", "kubectl delete", "actsearch watch"},
    }  # fmt: skip
    assert expected.get(name, expected["bare"]) <= checked


@pytest.mark.parametrize("name", ["bare", "kuberay", "gcp-tpu"])
def test_the_search_is_one_of_ours(name):
    science, placement = asked(search_of(name))
    assert (placement.address, placement.workers) == ("auto", "auto")
    assert science.search.strategy == "controller" and science.search.trials >= 100
    if name == "gcp-tpu":
        assert placement.custom_resources == {"TPU": 1.0}


def test_one_version_of_ray_in_all_templates_which_is_one_that_we_take():
    import ray
    from packaging.requirements import Requirement

    found = set(re.findall(r"(?:ray\[default\]==|rayproject/ray:|rayVersion: \")([0-9.]+)",
                           "".join(text_of.values())))  # fmt: skip
    assert found == {ray.__version__}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    for requirement in map(Requirement, wanted):
        if requirement.name == "ray":
            assert requirement.specifier.contains(found.copy().pop())


# Ray's cluster launcher


def prepared(name: str) -> dict[str, Any]:
    """The template as `ray up` has it before it asks a provider for machines."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents(name)
    with_defaults = prepare_config(config)
    validate_config(with_defaults)
    return with_defaults


@pytest.mark.parametrize("name", RAY)
def test_ray_takes_the_cluster_file(name):
    config = prepared(name)
    assert set(config["file_mounts"]) == {"~/.ray/auth_token", "~/actsearch-wheel/"}
    assert config["setup_commands"][0] == "chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token"
    assert config["head_setup_commands"][0] == config["setup_commands"][0]
    assert "actsearch-*.whl" in config["worker_setup_commands"][-1 if name == "bare" else -2]


def test_ray_makes_of_bare_machines_what_it_would_start(tmp_path, monkeypatch):
    from ray.autoscaler._private import commands
    from ray.autoscaler._private.local import config as local

    monkeypatch.setattr(local, "get_default_ray_temp_dir", lambda: str(tmp_path))
    (config,) = documents("bare")
    ready = commands._bootstrap_config(config, no_config_cache=True)
    node = ready["available_node_types"]["local.cluster.node"]
    assert (node["min_workers"], node["max_workers"], ready["max_workers"]) == (2, 2, 2)


def test_a_field_that_ray_does_not_know_is_refused():
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents("bare")
    with pytest.raises(ValidationError):
        validate_config(prepare_config(config | {"head_start_commands": []}))


@pytest.mark.parametrize("name", RAY)
def test_ray_is_started_with_its_own_flags_a_token_and_no_open_dashboard(name):
    config = prepared(name)
    for role in ("head", "worker"):
        stop, start = config[f"{role}_start_ray_commands"]
        assert stop == "~/actsearch-env/bin/ray stop"
        *before, last = (part.strip() for part in start.split(";"))
        assert before[0] == ". ~/actsearch-env/bin/activate"
        assert any(re.match(r"export RAY_AUTH_MODE=token\b", part) for part in before)
        parameters = started(shlex.split(last))
        assert parameters["head"] is (role == "head")
        if role == "head":
            assert (parameters["include_dashboard"], parameters["dashboard_host"]) == (
                True,
                "127.0.0.1",
            )
            assert parameters["disable_usage_stats"] and parameters["port"] == 6379
            assert parameters["autoscaling_config"]
        else:
            assert parameters["address"] == "$RAY_HEAD_IP:6379"
    subprocess.run(["bash", "-n"], input="\n".join(shell_of(config)), text=True, check=True)


def shell_of(config: Mapping[str, Any]) -> Iterator[str]:
    for key, commands in config.items():
        if key.endswith("_commands"):
            yield from commands


def test_the_tpu_is_one_that_ray_knows_and_one_host_of_it():
    from ray._private.accelerators import TPUAcceleratorManager, tpu

    config = prepared("gcp-tpu")
    node = config["available_node_types"]["tpu"]
    kind = node["node_config"]["acceleratorType"]
    assert TPUAcceleratorManager.is_valid_tpu_accelerator_type(kind)
    chips = int(kind.split("-")[1]) // tpu.get_tpu_cores_per_chip(kind)
    assert chips == node["resources"]["TPU"] == tpu.get_num_tpu_visible_chips_per_host(kind)
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


# KubeRay

JOB = {"entrypoint", "backoffLimit", "submissionMode", "shutdownAfterJobFinishes",
       "ttlSecondsAfterFinished", "rayClusterSpec", "activeDeadlineSeconds", "submitterPodTemplate",
       "submitterConfig", "metadata", "clusterSelector", "managedBy", "deletionStrategy",
       "runtimeEnvYAML", "jobId", "entrypointResources", "entrypointNumCpus", "entrypointNumGpus",
       "suspend", "preRunningDeadlineSeconds"}  # fmt: skip
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "suspend", "managedBy",
           "autoscalerOptions", "headServiceAnnotations", "enableInTreeAutoscaling",
           "gcsFaultToleranceOptions", "upgradeStrategy"}  # fmt: skip
AUTH = {"mode", "secretName"}
HEAD = {"serviceType", "rayStartParams", "template", "headService", "enableIngress", "resources",
        "labels"}  # fmt: skip
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template",
         "numOfHosts", "idleTimeoutSeconds", "scaleStrategy", "suspend", "resources",
         "labels"}  # fmt: skip
"""Names of fields of ray.io/v1, KubeRay 1.5: read from its types."""


@pytest.mark.parametrize("options", [False, True], ids=["as it is", "with GPUs"])
def test_kuberay_knows_every_field(options):
    _, job = documents("kuberay", options=options)
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert set(spec) <= JOB
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert spec["shutdownAfterJobFinishes"] is True and spec["backoffLimit"] >= 1
    cluster = spec["rayClusterSpec"]
    assert set(cluster) <= CLUSTER and set(cluster["authOptions"]) <= AUTH
    assert cluster["authOptions"]["mode"] == "token"
    assert set(cluster["headGroupSpec"]) <= HEAD
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert len(cluster["workerGroupSpecs"]) == 1 + options
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= GROUP and {"groupName", "template", "rayStartParams"} <= set(group)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        words = [f"--{key}={value}" for key, value in group["rayStartParams"].items()]
        started(["ray", "start", *words])


@pytest.mark.parametrize("options", [False, True], ids=["as it is", "with GPUs"])
def test_kubernetes_takes_the_volume_and_the_pods(options):
    import kubernetes_validate

    claim, job = documents("kuberay", options=options)
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(claim, version, strict=True)
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    for group in (head, *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        kubernetes_validate.validate(pod, version, strict=True)
    volume, *others = (
        volume
        for group in (head, *cluster["workerGroupSpecs"])
        for volume in group["template"]["spec"].get("volumes", ())
    )
    assert not others  # on the head alone, where the search writes: ReadWriteOnce is enough
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (container,) = head["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] == volume["name"]
    words = search_of("kuberay")
    assert words[words.index("--run-dir") + 1].startswith(mount["mountPath"] + "/")


@pytest.mark.parametrize("options", [False, True], ids=["as it is", "with GPUs"])
def test_ray_makes_of_the_pods_the_resources_that_are_meant(options):
    from ray.autoscaler._private.kuberay import autoscaling_config

    job = documents("kuberay", options=options)[1]
    metadata = {"name": "actsearch", "namespace": "default"}
    resource = {"metadata": metadata, "spec": job["spec"]["rayClusterSpec"]}
    made = autoscaling_config._derive_autoscaling_config_from_ray_cr(resource)
    kinds = made["available_node_types"]
    assert kinds[made["head_node_type"]]["resources"]["CPU"] == 0
    assert kinds["cpu"]["resources"]["CPU"] == 8 and kinds["cpu"]["max_workers"] == 2
    assert not options or kinds["gpu"]["resources"]["GPU"] == 1


# Slurm

SBATCH = {"job-name": "actsearch", "nodes": "2", "ntasks-per-node": "1", "cpus-per-task": "16",
          "time": "08:00:00", "partition": "EDIT-PARTITION", "account": "EDIT-ACCOUNT",
          "gpus-per-node": "4", "signal": "B:USR1@120", "requeue": None, "open-mode": "append",
          "output": "actsearch-%j.log"}  # fmt: skip
"""What the script asks of `sbatch`, its options included."""


def test_the_directives_are_those_of_the_table():
    text = text_of["slurm"]
    found = re.findall(r"(?m)^(#?)#SBATCH --([\w-]+)(?:=(\S+))?(?: +#.*)?$", text)
    assert len(found) == text.count("#SBATCH")
    assert {option: value or None for _, option, value in found} == SBATCH
    optional = {option for comment, option, _ in found if comment}
    assert optional == {"partition", "account", "gpus-per-node"}
    assert text.rindex("#SBATCH") < text.index("\nset -euo")  # Slurm reads to the first command


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="Slurm is not installed")
def test_sbatch_reads_the_directives(tmp_path):
    configuration = tmp_path / "slurm.conf"
    configuration.write_text(
        "ClusterName=none\nSlurmctldHost=none(127.0.0.1)\nSlurmctldPort=1\nAuthType=auth/none\n"
        "NodeName=none\nPartitionName=all Nodes=ALL Default=YES\nMessageTimeout=1\n"
    )
    script = tmp_path / "slurm.sh"
    script.write_text(text_of["slurm"].replace("##SBATCH", "#SBATCH"))
    done = subprocess.run(
        ["sbatch", "--test-only", "-v", script],
        cwd=tmp_path,
        env={**os.environ, "SLURM_CONF": str(configuration)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    read = dict(re.findall(r"(?m)^sbatch: ([\w-]+) +: (.+)$", done.stderr))
    read["gpus-per-node"] = read["gpus-per-node"].rpartition(":")[2]  # some versions say gres:gpu:4
    wanted = {**SBATCH, "requeue": "requeue", "open-mode": "a"}
    wanted["output"] = f"{tmp_path}/actsearch-%j.log"
    assert {option: read.get(option) for option in wanted} == wanted, done.stderr


def test_shellcheck_has_nothing_to_say():
    tool = Path(sys.executable).with_name("shellcheck")
    file = FOLDER / TEMPLATES["slurm"]
    done = subprocess.run([tool, "--severity=style", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


SRUN = {"overlap", "nodes", "ntasks", "nodelist", "exclude", "kill-on-bad-exit"}
"""Options of `srun` that the script uses."""

STAND_INS = {
    # Every node is this machine, so what prepares a node's own folder runs once.
    "srun": """
        tasks=1
        while [[ $1 == --* ]]; do
            echo "$1" >>"$STATE/srun"
            [[ $1 == --ntasks=* ]] && tasks=${1#*=}
            shift
        done
        [[ $1 == ray ]] || tasks=1
        trap 'kill $(jobs -p)' TERM
        for ((task = 0; task < tasks; task++)); do "$@" & done
        code=0
        for task in $(jobs -p); do wait "$task" || code=$?; done
        exit "$code"
    """,
    "scontrol": """
        if [[ $1 == show ]]; then printf 'n1\\nn2\\n'; else echo "$@" >>"$STATE/requeued"; fi
    """,
    "hostname": "echo 127.0.0.1 10.0.0.7",
    # What it is asked, what it sees, and how it ends: told to stop, or by itself.
    "actsearch": """
        printf '%s\\n' "$@" >"$STATE/asked"
        stat -c %a "$RAY_AUTH_TOKEN_PATH" "$(dirname "$RAY_AUTH_TOKEN_PATH")" >"$STATE/modes"
        wc -c <"$RAY_AUTH_TOKEN_PATH" >"$STATE/length"
        trap 'echo told >>"$STATE/told"; sleep 0.3; exit 3' TERM
        echo "$RAY_AUTH_MODE" >"$STATE/searching"
        [[ -v ENDS ]] && exit "$ENDS"
        while :; do sleep 0.05; done
    """,
}
"""Commands that stand for Slurm's and for the search."""

FAKE_RAY = {
    "ray": """
        [[ -v BROKEN ]] && exit 1
        echo "$@" >>"$STATE/ray"
        exec sleep 600
    """,
    "ray.py": """
import os, pathlib
def init(**asked): assert ":" in asked["address"]
def nodes():
    there = (pathlib.Path(os.environ["STATE"]) / "ray").read_text().splitlines()
    return [{"Alive": True} for _ in there][: int(os.environ.get("NODES", "9"))]
""",
}
"""A Ray that starts at once, for all but one of the tests."""


class Job:
    """The Slurm script on this machine, as a job of two nodes."""

    def __init__(self, folder: Path, stand_ins: Mapping[str, str], **environment: str):
        self.state, self.home = folder / "state", folder / "home"
        self.files = Path(f"/tmp/actsearch-9{os.getpid()}")
        bin_folder = self.home / "actsearch-env/bin"
        for made in (self.state, bin_folder):
            made.mkdir(parents=True)
        for name, body in stand_ins.items():
            text = body if name.endswith(".py") else f"#!/usr/bin/env bash\n{body}"
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        path = f"{bin_folder}:{Path(sys.executable).parent}:$PATH"
        (bin_folder / "activate").write_text(f'export PATH="{path}"\n')
        (folder / "slurm.sh").write_text(
            text_of["slurm"].replace("wait_s=300 ", f"wait_s={environment.pop('WAIT', '300')} ")
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
        self.process = subprocess.Popen(
            ["bash", "slurm.sh"],
            cwd=folder,
            env={
                **kept,
                **{"HOME": str(self.home), "STATE": str(self.state), "PYTHONPATH": str(bin_folder)},
                **{"SLURM_JOB_ID": self.files.name.partition("-")[2], "SLURM_JOB_NUM_NODES": "2"},
                **{"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "2"},
                **{"SLURM_SUBMIT_DIR": str(folder), **environment},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.files, ignore_errors=True)

    def searches(self, patience_s: float = 60.0) -> None:
        """Waits for the search to go on."""
        last = time.monotonic() + patience_s
        while not (self.state / "searching").exists():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < last
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said; by then nothing of it is left."""
        said, _ = self.process.communicate(timeout=120)
        left = [p for p in psutil.process_iter() if _session(p.pid) == self.process.pid]
        _, alive = psutil.wait_procs(left, timeout=20)
        assert not alive, alive
        assert not self.files.exists()
        assert not any(path.is_file() for path in (self.home / ".actsearch").rglob("*"))
        return self.process.returncode, said

    def told(self, name: str) -> list[str]:
        """The lines that a stand-in left."""
        file = self.state / name
        return file.read_text().splitlines() if file.exists() else []


def _session(process: int) -> int | None:
    try:
        return os.getsid(process)
    except ProcessLookupError:
        return None


def test_the_script_starts_ray_searches_and_cleans_up(tmp_path):
    with Job(tmp_path, STAND_INS | FAKE_RAY, ENDS="0") as job:
        assert job.end()[0] == 0
        head, worker = (shlex.split(line) for line in job.told("ray"))
        asked_for = job.told("asked")
        assert job.told("modes") == ["600", "700"] and job.told("length") == ["65"]
        assert job.told("searching") == ["token"] and not job.told("requeued")
        options = {line.removeprefix("--").partition("=")[0] for line in job.told("srun")}
    assert options == SRUN
    parameters = started(["ray", *head])
    assert parameters["head"] and parameters["block"] and parameters["disable_usage_stats"]
    assert parameters["include_dashboard"] is False and parameters["num_cpus"] == 1
    address = f"127.0.0.1:{parameters['port']}"
    assert parameters["node_ip_address"] == "127.0.0.1"
    assert 1024 <= parameters["ray_client_server_port"] != parameters["port"]
    assert parameters["temp_dir"] == str(job.files / "ray")
    follower = started(["ray", *worker])
    assert (follower["address"], follower["num_cpus"], follower["block"]) == (address, 2, True)
    for each in (parameters, follower):  # ports that another Ray of the node may have
        assert each["min_worker_port"] == each["max_worker_port"] == 0
        assert each["dashboard_agent_listen_port"] == 0
    _, placement = asked(["actsearch", *asked_for])
    assert (placement.address, placement.workers) == (address, "auto")
    assert asked_for[asked_for.index("--run-dir") + 1] == f"{tmp_path}/runs/NAME"


@pytest.mark.parametrize("code", [1, 2, 3])
def test_the_script_ends_as_the_search_does(code, tmp_path):
    with Job(tmp_path, STAND_INS | FAKE_RAY, ENDS=str(code)) as job:
        assert job.end()[0] == code
        assert not job.told("requeued")


@pytest.mark.parametrize("signal_, again", [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_the_script_goes_on_later_when_time_is_over_and_only_then(signal_, again, tmp_path):
    with Job(tmp_path, STAND_INS | FAKE_RAY) as job:
        job.searches()
        job.process.send_signal(signal_)
        assert job.end()[0] == 3
        assert job.told("told") == ["told"]
        requeued = f"requeue {job.files.name.partition('-')[2]}"
        assert job.told("requeued") == ([requeued] if again else [])


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"BROKEN": "1"}, "Ray did not start on a node"),
        ({"NODES": "1", "WAIT": "1"}, "not all nodes are there after 1 s"),
    ],
    ids=["Ray ends", "a node is missing"],
)
def test_the_script_ends_without_a_search_where_ray_does_not_start(environment, said, tmp_path):
    with Job(tmp_path, STAND_INS | FAKE_RAY, **environment) as job:
        code, output = job.end()
        assert code == 1 and said in output
        assert not job.told("asked") and not job.told("requeued")


def test_a_folder_of_somebody_else_is_not_taken(tmp_path):
    stand_ins = STAND_INS | FAKE_RAY | {"rm": '[[ $* == */tmp/* ]] || exec /bin/rm "$@"'}
    with Job(tmp_path, stand_ins, ENDS="0") as job:
        job.files.mkdir()  # and `rm`, which may not remove it, says nothing
        job.process.communicate(timeout=60)
        assert job.process.returncode != 0 and not job.told("ray")
        job.files.rmdir()


@pytest.mark.ray
@pytest.mark.slow
def test_the_script_starts_a_real_ray_of_two_nodes_which_wants_the_token(tmp_path):
    look = """
        while [[ $1 != --address ]]; do shift; done
        python -P -c "
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')
print(sum(node['Alive'] for node in ray.nodes()), ray.cluster_resources()['CPU'])" "$2" >"$STATE/seen"
        RAY_AUTH_TOKEN=0000 python -P -c "import sys, ray; ray.init(address=sys.argv[1])" "$2" \\
            2>"$STATE/refused" && echo let in >>"$STATE/seen"
    """
    stand_ins = STAND_INS | {"actsearch": look + STAND_INS["actsearch"]}
    with Job(tmp_path, stand_ins) as job:
        job.searches(patience_s=180)
        assert job.files.stat().st_mode & 0o777 == 0o700
        job.process.send_signal(signal.SIGUSR1)
        assert job.end()[0] == 3
        assert job.told("seen") == ["2 3.0"]
        assert "AuthenticationError" in (job.state / "refused").read_text()
        assert len(job.told("requeued")) == 1
