"""A stranger's run folder: looked at, compared, reported and taken up, without running any of it.

The folders here are made with our own code, so that every seal is right, by somebody who means harm:
operator files and modules that leave a mark when they run, in the folder and in the working
directory; names, formulas and reasons that act on terminals, pages and parsers; files that are not
what they seem. An audit hook of the interpreter watches the commands.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from launch.cli import run
from launch.errors import RequestError
from launch.flags import build, read_config, to_json
from launch.notebook import search as search_from_python
from launch.prepare import load_data
from launch.printable import json_line, printable
from launch.run import read_run_config
from search.journal import CandidateRow, Journal
from search.outcome import Outcome, Trial
from search.schema import ProposalRow
from spaces.grid import grid

ROOT = Path(__file__).parents[2]
AUDITED = Path(__file__).with_name("audited.py")
FAULTY = Path(__file__).with_name("faulty_workers.py")

MARK = "MEANT_TO_HARM"
CALL = f"__import__('os').system('touch {MARK}')"
SCREEN = f"\x1b]0;{MARK}\x07\x1b[2J\x9b5A\r\u202e\u200b\x7f"
ATTACK = f"{SCREEN}<script>{CALL}</script>[/][link=file:///etc/passwd]x[/link] $\\frac{{ {CALL}"
"""Text that means harm to a terminal, a page, rich's markup, TeX and `eval`."""

MODULES = ("evil", "sitecustomize", "usercustomize", "conftest", "launch", "spaces", "search",
           "trainers", "jax", "numpy", "ray", "rich", "sympy", "matplotlib", "pandas", "grpc")  # fmt: skip


def code(folder: Path) -> str:
    """A module that leaves a mark where it is run, and holds an operator set."""
    mark = str(folder / f"{MARK}-{{}}")
    return (
        f"open({mark!r}.format(__name__), 'w').close()\n"
        f"from spaces import PAPER\nOPS = PAPER.without('sin')\n"
    )


class Harm:
    """What runs when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def plant(folder: Path, marks: Path) -> None:
    """Puts everything into a folder that Python or its libraries might run by themselves."""
    for name in MODULES:
        (folder / f"{name}.py").write_text(code(marks))
    (folder / "evil.pth").write_text(f"import os; {CALL}\n")
    (folder / "state.pkl").write_bytes(pickle.dumps(Harm(f"touch {marks / MARK}-pickle")))
    np.save(
        folder / "curve.npy",
        np.array([Harm(f"touch {marks / MARK}-npy")], object),
        allow_pickle=True,
    )
    (folder / "matplotlibrc").write_text(
        f"axes.titlecolor: {CALL}\ntext.usetex: True\nlines.linewidth: 40\n"
    )


def corrupt(folder: Path) -> None:
    """Writes what means harm into every text of a journal, under its right seals."""
    journal = Journal.open(folder)
    first = sum(1 for _ in journal.candidates(sampled=False)) + 1
    proposals = list(journal.proposals())
    last_trial = sum(1 for _ in journal.trials())
    x = grid()
    curve = np.stack([x, np.ones_like(x)]).astype(np.float32)
    with journal.transaction():
        for place, verdict in enumerate(("ok", "ok", "invalid")):
            number, text = first + place, f"{place} {ATTACK}"
            print_ = np.linspace(0, 1, 3 * len(x) // 2) + place
            journal.add_candidate(
                CandidateRow(
                    number, text, text, text, text, verdict, text, None,
                    print_ if verdict == "ok" else None, curve if verdict == "ok" else None,
                )
            )  # fmt: skip
            tokens = proposals[-1].tokens
            journal.add_proposal(ProposalRow(len(proposals) + place, number, tokens, {"a": text}))
        alias = CandidateRow(first + 3, f"3 {ATTACK}", ATTACK, ATTACK, ATTACK, "ok", "", first, None, None)  # fmt: skip
        journal.add_candidate(alias)
        for place in range(2):
            trial = Trial(last_trial + 1 + place, first + place, f"{place} {ATTACK}", 0, 0, False)
            journal.add_trial(trial)
            beta = {"layer": ATTACK, "operator": ATTACK, "param": ATTACK, "slot": 0, "mean": 1.0,
                    "std": 0.1, "min": 0.5, "max": 1.5}  # fmt: skip
            points = [{"step": n, "loss": 1.0, "accuracy": 0.5} for n in (1, 2)]
            known = {"known_from": {"run": ATTACK, "trial": 1}}
            told: dict[str, Any] = {"beta": [beta], "curve": points, **known}
            outcome = Outcome("ok", 0.99, 0.1, 1.0, told)
            if place:
                outcome = Outcome("diverged", details={"reason": ATTACK, **told})
            journal.add_outcome(trial.id, outcome)
        choices = {"choices": [[ATTACK, "tanh"]], "probabilities": [[0.5, 0.5]], ATTACK: 1.0}
        journal.put_snapshot(len(proposals), b"\x80\x04cos\nsystem\n", choices)
        journal.begin_sitting({"trials": 3, "devices": [ATTACK], "reason": ATTACK, "workers": 1,
                               "execution": ATTACK, "wall_s": 1.0, "busy_s": 1.0, "compile_s": 1.0,
                               "training_s": 1.0, "peak_memory_mb": 1.0, "compilations": 1})  # fmt: skip
        journal.put_meta("finished", ATTACK)
        journal.put_meta("from_run", ATTACK)
    journal.close()


def of_real_images(folder: Path) -> None:
    """Notes the images of the data set that the run names, as a driver does."""
    journal = Journal.open(folder)
    with journal.transaction():
        journal.put_meta("data_sha256", load_data(*read_run_config(folder)).digest)
    journal.close()


def asks(folder: Path, **values: Any) -> None:
    """Writes what a run asks for anew, with other values."""
    science, placement = build({**read_config(folder / "config.json"), **values})
    (folder / "config.json").write_text(json.dumps(to_json(science, placement)))


@pytest.fixture(scope="module")
def strangers(make_run, tmp_path_factory) -> Path:
    """A folder of runs that all mean harm, which is the working directory as well."""
    place = tmp_path_factory.mktemp("strangers")
    made = make_run(place / "made", trials=12, baselines="relu,swish", strategy="controller")
    (place / "mine.json").write_text('{"search": {"trials": 5}}')
    of_real_images(made)
    (made / "lock").unlink()
    for name in ("texts", f"name {SCREEN}[/]".replace("/", "-"), "file", "module", "path"):
        shutil.copytree(made, place / name)
        corrupt(place / name)
        plant(place / name, place)
    plant(place, place)
    asks(place / "file", operators="evil.py:OPS")
    asks(place / "module", operators="evil:OPS")
    asks(place / "path", operators=f"{place / 'path'}/evil.py")
    for name in UNFINISHED:
        make_run(place / name, trials=12, baselines="relu", stop_after=4)
        of_real_images(place / name)
        plant(place / name, place)
    asks(place / "cluster", address="127.0.0.1:9")
    return place


def audited(place: Path, commands: list[list[str]], **environment: str) -> Iterator[Any]:
    """Runs commands in the strangers' folder under an audit hook; yields what each came to."""
    done = subprocess.run(
        [sys.executable, str(AUDITED), str(place), MARK],
        input=json.dumps(commands),
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    yield from json.loads(done.stdout)
    assert [path.name for path in place.rglob(f"{MARK}*")] == []


UNFINISHED = ("cluster", "unfinished")


def harmless(text: str) -> bool:
    """Whether a terminal may be given it."""
    return not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ud800-\udfff]", text
    )


def looks(run: str, other: str) -> list[list[str]]:
    """Every way to look at a run."""
    shows = [["show", run, which] for which in ("1", f"0 {ATTACK}", f"2 {ATTACK}", "zzz", ATTACK)]
    return [
        ["top", run],
        ["top", run, "--json"],
        ["top", run, "--csv"],
        ["top", run, "--failed"],
        ["top", run, "--contains", "sigmoid"],
        ["top", run, "--contains", ATTACK],
        ["top", run, "--name", ATTACK],
        *shows,
        ["show", run, "1", "--json"],
        ["show", run, "1", "--plot", "drawn.png"],
        ["watch", run, "--once"],
        *([] if run in UNFINISHED else [["watch", run]]),
        ["report", run],
        ["report", run, "--against", other],
        ["compare", run, other, "--anyway"],
        ["compare", run, other, "--anyway", "--json"],
        ["compare", run, other, "--anyway", "--plot", "compared.png"],
    ]


def uses(run: str) -> list[list[str]]:
    """Every way to go on from a run."""
    return [
        ["resume", run],
        ["export", "1", "--from-run", run, "--to", "jax"],
        ["export", "relu", "--from-run", run, "--to", "torch"],
        ["search", "--from", run, "--run-dir", "grown"],
        ["search", "--from", run, "--run-dir", "grown", "--config", "mine.json"],
        ["search", "--config", f"{run}/config.json", "--run-dir", "again"],
        ["bench", "--config", f"{run}/config.json"],
        ["search", "--run-dir", run],
    ]


def test_looking_at_it_runs_nothing_and_harms_no_terminal(strangers: Path) -> None:
    names = [path.name for path in strangers.iterdir() if path.is_dir() and path.name != "made"]
    assert len(names) == 7
    commands = [line for name in names for line in looks(name, "made")]
    refused = 0
    for arguments, code, out, err, events in audited(strangers, commands):
        assert events == [], arguments
        assert code in (0, 2), (arguments, code, err)
        assert harmless(out) and harmless(err), (arguments, out, err)
        if code == 2:
            refused += 1
            assert err.startswith("actsearch: ") and err.count("\n") == 1
        if code == 0 and "--json" in arguments:
            json.loads(out)
    assert refused < len(commands) / 3


def test_a_terminal_gets_no_escape_but_those_of_the_table(strangers: Path) -> None:
    commands = [["top", "texts"], ["show", "texts", "1"], ["watch", "texts", "--once"],
                ["compare", "texts", "made", "--anyway"]]  # fmt: skip
    for arguments, code, out, _, _ in audited(strangers, commands, FORCE_COLOR="1"):
        assert code == 0 and "\x1b[" in out
        assert harmless(re.sub(r"\x1b\[[0-9;]*m", "", out)), arguments


def test_what_needs_its_operators_is_refused_before_they_are_read(strangers: Path) -> None:
    commands = [line for name in ("file", "module", "path") for line in uses(name)]
    for arguments, code, out, err, events in audited(strangers, commands):
        assert (code, out, events) == (2, "", []), (arguments, code, err, events)
        asked_otherwise = arguments[0] == "search" and arguments[1] == "--run-dir"
        named = "holds a run that asked for something else" in err or "--operators " in err
        assert named and asked_otherwise == ("something else" in err), (arguments, err)
    assert not (strangers / "grown").exists() and not (strangers / "again").exists()


def test_a_run_of_the_papers_operators_is_taken_up_without_running_it(strangers: Path) -> None:
    """Also what its journal says of state and candidates is only ever data."""
    lines = [*uses("texts"), *uses("unfinished")]
    commands = [line for line in lines if line[0] != "bench"]  # which would measure for a minute
    begun = 0
    for arguments, code, _, err, events in audited(strangers, commands):
        assert events == [], arguments
        assert code in (0, 1, 2), (arguments, code)
        assert harmless(err) and (code == 0 or err.splitlines()[-1].startswith("actsearch: "))
        begun += "the driver would begin" in err
    assert begun >= 3


def test_its_cluster_is_not_joined_unless_named(strangers: Path) -> None:
    commands = [
        ["resume", "cluster"],
        ["search", "--config", "cluster/config.json", "--run-dir", "again"],
        ["bench", "--config", "cluster/config.json"],
    ]
    for arguments, code, _, err, events in audited(strangers, commands):
        assert (code, events) == (2, []), (arguments, err)
        assert "asks for the Ray cluster at '127.0.0.1:9'" in err and "--address 127.0.0.1:9" in err
    with pytest.raises(RequestError, match="asks for the Ray cluster"):
        search_from_python(strangers / "again", config=strangers / "cluster/config.json")
    with pytest.raises(RequestError, match="asks for operators of its own"):
        search_from_python(strangers / "again", config=strangers / "file/config.json")


@pytest.mark.parametrize(
    "statements, word",
    [
        (["ALTER TABLE candidates RENAME TO hidden",
          "CREATE VIEW candidates AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)"
          " SELECT n.id, h.* FROM n, hidden h"], "view 'candidates'"),
        (["DROP TABLE meta", "CREATE VIEW meta AS SELECT 'schema_version' AS key, '2' AS value"],
         "view 'meta'"),
        (["CREATE TRIGGER t AFTER INSERT ON outcomes BEGIN DELETE FROM outcomes; END"], "trigger 't'"),
        (["CREATE VIRTUAL TABLE v USING fts5(a)"], "virtual table 'v'"),
        (["CREATE INDEX i ON trials (candidate)"], "index 'i'"),
        (["CREATE TABLE more (a)"], "table 'more'"),
        (["ALTER TABLE trials ADD COLUMN a AS (zeroblob(1000000000))"], "table 'trials'"),
    ],
)  # fmt: skip
def test_a_journal_that_brings_its_own_queries_is_refused(
    statements: list[str], word: str, make_run, tmp_path: Path, capsys
) -> None:
    folder = make_run(tmp_path / "run", trials=3, baselines="none")
    path = folder / "journal.sqlite"
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    for name, *more in (["top"], ["show", "1"], ["report"], ["watch"], ["resume"]):
        assert run([name, str(folder), *more]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.count("\n") == 1
        assert f"it holds the {word}, which actsearch does not make" in shown.err
    assert path.read_bytes() == before


def test_links_out_of_a_folder_are_not_followed(make_run, tmp_path: Path, capsys) -> None:
    own = make_run(tmp_path / "own", trials=3, baselines="none", stop_after=1)
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    treasure = tmp_path / "treasure"
    for linked in ("config.json", "journal.sqlite", "lock"):
        folder = tmp_path / f"stranger-{linked}"
        shutil.copytree(own, folder)
        (folder / linked).unlink()
        (folder / linked).symlink_to(treasure if linked == "lock" else own / linked)
        assert run(["resume", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        if linked != "lock":
            assert run(["top", str(folder)]) == 2
            assert "is a link to somewhere else" in capsys.readouterr().err
    assert not treasure.exists()
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_a_report_is_not_written_through_a_link(make_run, tmp_path: Path, capsys) -> None:
    folder = make_run(tmp_path / "run", trials=3, baselines="none")
    treasure = tmp_path / "treasure"
    treasure.write_text("precious")
    (folder / "report.html").symlink_to(treasure)
    assert run(["report", str(folder)]) == 0
    assert treasure.read_text() == "precious" and not (folder / "report.html").is_symlink()


@pytest.mark.parametrize(
    "text",
    ["[" * 900_000, '{"a":' * 150_000, '{"train": {"steps": ' + "9" * 900_000 + "}}", " " * 10**7],
    ids=["lists", "objects", "digits", "blanks"],
)
def test_a_bottomless_configuration_is_one_line(text, make_run, tmp_path: Path, capsys) -> None:
    folder = make_run(tmp_path / "run", trials=3, baselines="none")
    (folder / "config.json").write_text(text)
    for line in (["top"], ["report"], ["resume"]):
        assert run([*line, str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_what_is_printed_is_printable_and_data_stay_equal() -> None:
    text = "".join(map(chr, range(0x2100))) + "\udfff\ud800\ufeff\u2067"
    assert harmless(printable(text)) and printable("x · σ(βx)\n\t") == "x · σ(βx)\n\t"
    assert printable("\x1b[2J\x9b\u202e\ud800") == r"\x1b[2J\x9b\u202e\ud800"
    line = json_line({"a": [text, 1.5]})
    assert harmless(line) and "\n" not in line and json.loads(line) == {"a": [text, 1.5]}
    assert json.loads(json_line([float("nan"), {"a": float("inf")}])) == [None, {"a": None}]


@pytest.mark.ray
@pytest.mark.slow
def test_workers_run_nothing_of_the_working_directory_and_nobody_else_gets_in(
    make_run, tmp_path: Path
) -> None:
    """A run taken up by somebody who stands in the stranger's folder; real Ray, made-up child."""
    folder = make_run(tmp_path / "stranger", trials=12, baselines="relu", stop_after=4)
    of_real_images(folder)
    plant(folder, tmp_path)
    values = {"strategy": "random", "trials": 12, "baselines": "relu", "steps": 100}
    values["workers"] = "1"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    home = tmp_path / "home"
    home.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(FAULTY), str(folder), "waits", json.dumps(values)],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        listening = control_service(process, tmp_path)
        assert {address.removeprefix("::ffff:") for address, _ in listening} == {"127.0.0.1"}
        knocked = {knock(f"127.0.0.1:{port}") for _, port in listening}
        assert knocked == {"AuthenticationError"}
    finally:
        (tmp_path / "go").touch()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [path.name for path in tmp_path.rglob(f"{MARK}*")] == []
    assert not (home / ".ray").exists()


def control_service(process: subprocess.Popen[str], marks: Path) -> list[tuple[str, int]]:
    """Where the control service of a driver's Ray listens, once a worker trains."""
    deadline = time.monotonic() + 90
    while not list(marks.glob("begun-*")):
        assert time.monotonic() < deadline and process.poll() is None, "no worker came up"
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    (service,) = (child for child in family if child.name() == "gcs_server")
    found = service.net_connections("tcp")
    return [(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN]


KNOCK = """
import sys
from ray._raylet import GcsClient
try:
    print(GcsClient(address=sys.argv[1]).cluster_id and "in")
except Exception as error:
    print(type(error).__name__)
"""


def knock(address: str) -> str:
    """What Ray's control service says to a stranger who has no token."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", KNOCK, address],
        env=kept,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout.strip()


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
TOKEN = "b1946ac92492d2347c6235b4d2611184b1946ac92492d2347c6235b4d2611184"


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_with_a_token_lets_in_who_has_it(tmp_path: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    kept |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    mode, right = {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": TOKEN}
    (tmp_path / "token").write_text(TOKEN)

    def search(address: str, **environment: str) -> tuple[int, str]:
        words = ["search", "--run-dir", "new", "--address", address]
        done = subprocess.run(
            [sys.executable, "-c", f"import sys{ASKING}", *words],
            cwd=tmp_path,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stderr

    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env={**kept, **mode, **right},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as host:
        assert host.stdin is not None and host.stdout is not None
        address = host.stdout.readline().strip()
        for environment, said in (
            ({}, "wants a token and RAY_AUTH_MODE is not set here: set it to token; put the text"),
            ({**mode}, "RAY_AUTH_MODE is token and no token is here for the Ray cluster at"),
            ({**mode, "RAY_AUTH_TOKEN": "0" * 64}, "wants a token and the one that is here is not"),
        ):
            code, errors = search(address, **environment)
            assert (code, errors.count("\n")) == (2, 1), errors
            assert said in errors and address in errors and "RAY_AUTH_TOKEN_PATH" in errors
        path = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
        assert search(address, **mode, **path) == (3, "")
        host.stdin.close()
        host.wait(timeout=60)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["token"]


ASKING = """
from launch import cli
from launch.commands import options
def check(*request):
    checked(*request)
    raise KeyboardInterrupt
checked, options.check_request = options.check_request, check
cli._complain = lambda said, code: code if said == "interrupted" else complain(said, code)
complain = lambda said, code: (print(said, file=sys.stderr), code)[1]
sys.exit(cli.run(sys.argv[1:]))
"""
"""A search that ends, as if interrupted, where its request has been found right."""


DANGEROUS = {"eval", "exec", "compile", "__import__", "execfile"}
MODULES_OF_HARM = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml",
                   "runpy", "code", "codeop", "pty", "commands"}  # fmt: skip
CALLS = {"system", "popen", "sympify", "parse_expr", "lambdify", "import_module", "exec_module",
         "load_extension", "enable_load_extension", "extractall", "extract", "unpack_archive",
         "literal_eval", "execv", "execve", "spawnl", "posix_spawn"}  # fmt: skip

EXCEPTIONS = {
    ("spaces/operator_source.py", "exec"): "the file that the request names",
    ("spaces/operator_source.py", "compile"): "likewise",
    ("spaces/operator_source.py", "import_module"): "the module that the request names",
    ("spaces/__init__.py", "import_module"): "our own modules, by a table of ours",
    ("search/__init__.py", "import_module"): "likewise",
    ("trainers/__init__.py", "import_module"): "likewise",
    ("launch/__init__.py", "import_module"): "likewise",
    ("spaces/lazy.py", "import_module"): "likewise",
    ("trainers/bench_command.py", "execve"): "itself again, with another allocator",
    ("trainers/ready_programs.py", "pickle"): "programs that this user's processes kept",
    ("trainers/ready_programs.py", "pickle.loads"): "likewise",
    ("spaces/export/to_sympy.py", "sympify"): "numbers; strict: text is refused",
}


def dangers(source: str) -> Iterator[str]:
    """What of a module could turn data into code, by the names of what it calls and imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in modules if name.partition(".")[0] in MODULES_OF_HARM)
            yield from (name for name in names if name in CALLS and name != "import_module")
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: k.value for k in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id in DANGEROUS | CALLS:
            yield node.func.id
        if isinstance(node.func, ast.Attribute):
            name, value = node.func.attr, node.func.value
            if name in CALLS:
                yield name
            if name in ("load", "loads") and isinstance(value, ast.Name) and value.id in (
                "np", "numpy", "jnp", "torch", *MODULES_OF_HARM
            ):  # fmt: skip
                yield f"{value.id}.{name}"
        for keyword in ("shell", "allow_pickle"):
            value = keywords.get(keyword)
            if value is not None and not (isinstance(value, ast.Constant) and not value.value):
                yield keyword


def test_no_module_turns_data_into_code() -> None:
    found = {
        (str(path.relative_to(ROOT)), danger)
        for package in ("spaces", "search", "trainers", "launch")
        for path in (ROOT / package).rglob("*.py")
        for danger in dangers(path.read_text())
    }
    assert found == set(EXCEPTIONS)


@pytest.mark.parametrize(
    "source",
    ["eval(x)", "exec(x)", "import pickle", "from yaml import load", "np.load(p)", "os.system(x)",
     "sp.sympify(x)", "from sympy import sympify", "run(x, shell=True)", "tar.extractall()",
     "np.load(p, allow_pickle=flag)", "importlib.import_module(x)", "torch.load(p)"],
)  # fmt: skip
def test_the_test_above_sees(source: str) -> None:
    assert list(dangers(source))
