"""Where an operator set comes from, what travels to a worker, and what is said when it fails."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spaces import PAPER, OperatorSetError, OperatorSource, parse, read_source

GOOD = """\
import dataclasses
import jax.numpy as jnp
from spaces import PAPER, Operator, Param

@dataclasses.dataclass(frozen=True)
class Knee:
    at: float = 0.25

def bend(x, p):
    return jnp.maximum(x, p["knee"] * x)

OPS = PAPER.only("identity", "sigmoid", "mul").with_unary(
    Operator("bend", 1, bend, params=(Param("knee", init=Knee().at),))
).named("mine")
OTHER = 7
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "my_ops.py"
    path.write_text(GOOD, encoding="utf-8")
    return path


def _fault(spec: str) -> str:
    with pytest.raises(OperatorSetError) as caught:
        read_source(spec).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_paper_is_the_built_in_set():
    source = read_source("paper")
    assert source.load() is PAPER
    assert source == OperatorSource("paper", None, PAPER.digest)


def test_a_file_gives_its_set_and_carries_its_text(good: Path):
    source = read_source(f"{good}:OPS")
    operators = source.load()
    assert operators.name == "mine"
    assert [o.name for o in operators] == ["identity", "sigmoid", "bend", "mul"]
    assert operators["bend"].params[0].init == 0.25
    assert source.text == GOOD
    assert source.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert source.attribute == "OPS"
    assert source.load() is operators


def test_an_installed_module_gives_its_set_and_its_digest():
    source = read_source("spaces.paper:PAPER")
    assert source.load() is PAPER
    assert source == read_source("spaces.paper:PAPER")
    assert (source.text, source.sha256 == PAPER.digest) == (None, False)


def test_an_installed_module_of_other_code_is_another_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The names may be the same: on a node that was forgotten, a function's body is the old one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ops_of_today.py").write_text(GOOD, encoding="utf-8")
    source = read_source("ops_of_today:OPS")
    assert source.load().digest == read_source("ops_of_today:OPS").load().digest
    (tmp_path / "ops_of_today.py").write_text(GOOD.replace("maximum", "minimum"), encoding="utf-8")
    monkeypatch.delitem(sys.modules, "ops_of_today")
    with pytest.raises(OperatorSetError, match="holds other operators here than where the run"):
        source.load()


def test_a_source_travels_to_a_process_that_lacks_the_file(good: Path, tmp_path: Path):
    source = read_source(f"{good}:OPS")
    fields = json.dumps(dataclasses.asdict(source))
    good.unlink()
    program = (
        "import json, sys\n"
        "from spaces import OperatorSource\n"
        "operators = OperatorSource(**json.load(sys.stdin)).load()\n"
        "import jax.numpy as jnp\n"
        "bend = operators['bend']\n"
        "print(json.dumps([operators.digest, bend(jnp.array([-2.0, 3.0])).tolist()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=fields,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [source.load().digest, [-0.5, 3.0]]


def test_a_loaded_operator_can_be_used_in_text(good: Path):
    operators = read_source(f"{good}:OPS").load()
    assert str(parse("mul(x, bend(x))", operators)) == "mul(x, bend(x))"


def test_a_near_miss_of_the_built_in_set_is_told():
    assert _fault("papr").endswith("got 'papr': did you mean `paper`?")


@pytest.mark.parametrize("spec", ["", "my_ops.py:", ":OPS", "a.py:1x", "a:b c"])
def test_a_specification_of_another_form_is_refused(spec: str):
    assert _fault(spec) == (
        f"`operators` must be paper, FILE.py[:NAME] or module:NAME, got {spec!r}"
    )


def test_a_missing_file_is_named(tmp_path: Path):
    path = tmp_path / "none.py"
    assert _fault(f"{path}:OPS") == f"cannot read operators from {path}: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path):
    folder = tmp_path / "folder.py"
    folder.mkdir()
    assert _fault(f"{folder}:OPS") == f"cannot read operators from {folder}: Is a directory"


def test_a_file_must_be_text(tmp_path: Path):
    path = tmp_path / "binary.py"
    path.write_bytes(b"\xff\xfe\x00")
    assert _fault(f"{path}:OPS") == f"cannot read operators from {path}: not a UTF-8 text file"


def test_a_path_that_cannot_be_is_one_line():
    assert _fault("a\0b.py:OPS") == "cannot read operators from a\0b.py: not a UTF-8 text file"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = = 2\n", r", line 2: SyntaxError: invalid syntax"),
        ("a = 1\n\n\nb = a / 0\n", r", line 4: ZeroDivisionError: division by zero"),
        ("def f():\n    raise OSError('no\\nway')\n\nf()\n", r", line 2: OSError: no"),
        ("import sys\nsys.exit(3)\n", r", line 2: SystemExit: 3"),
        ("raise ValueError\n", r", line 1: ValueError"),
        ("import no_such_module_at_all\n", r", line 1: ModuleNotFoundError: No module named .*"),
        (
            "x = 1\nimport json\njson.loads('{')\n",
            r", line 3: JSONDecodeError: .*",
        ),
        (
            "x = 1\ny = 2\ncompile('a b', 'elsewhere', 'exec')\n",
            r", line 3: SyntaxError: .*",
        ),
        ("a = 1\0\n", r": (SyntaxError|ValueError): source code .* null bytes"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "broken.py"
    path.write_text(text, encoding="utf-8")
    for _ in range(2):  # a failure leaves nothing behind that would look like success
        assert re.fullmatch(re.escape(str(path)) + said, _fault(f"{path}:OPS"))


def test_an_interrupt_is_not_an_error_of_the_file(tmp_path: Path):
    path = tmp_path / "slow.py"
    path.write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        read_source(f"{path}:OPS").load()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OPPS", "has no operator set `OPPS`: did you mean `OPS`?"),
        ("SOMETHING", "has no operator set `SOMETHING`; operator sets there: PAPER, OPS"),
        ("OTHER", "has int, not an operator set `OTHER`; operator sets there: PAPER, OPS"),
    ],
)
def test_a_missing_name_is_told_what_there_is(good: Path, name: str, said: str):
    assert _fault(f"{good}:{name}") == f"{good} {said}"


def test_a_file_without_a_set_says_so(tmp_path: Path):
    path = tmp_path / "empty.py"
    path.write_text("", encoding="utf-8")
    assert _fault(f"{path}:OPS") == f"{path} has no operator set `OPS`; it holds none"


def test_a_module_that_cannot_be_imported_is_named():
    assert _fault("no_such_package.ops:OPS") == (
        "cannot import no_such_package.ops: ModuleNotFoundError: No module named 'no_such_package'"
    )
    assert _fault("spaces.paper:PAPR").endswith("has no operator set `PAPR`: did you mean `PAPER`?")


def test_a_module_that_exits_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "leaving_ops.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert _fault("leaving_ops:OPS") == "cannot import leaving_ops: SystemExit: 0"


def test_an_installed_module_must_hold_the_operators_of_the_run():
    with pytest.raises(OperatorSetError, match="holds other operators here than where the run"):
        OperatorSource("spaces.paper:PAPER", None, "0" * 64).load()


def test_a_file_that_makes_one_set_needs_no_name(good: Path):
    source = read_source(str(good))
    assert source == read_source(f"{good}:OPS")
    assert source.load().name == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "makes no operator set"),
        ("from spaces import PAPER\n", "makes no operator set"),
        (
            "from spaces import PAPER\nA = PAPER.without('cube')\nB = A.without('sin')\n",
            "makes 2 operator sets: name one, {0}:A or {0}:B",
        ),
        ("a = 1\nb = a / 0\n", ", line 2: ZeroDivisionError: division by zero"),
        (
            "from spaces import PAPER\nA = PAPER.with_(PAPER['sin'])\n",
            ", line 2: ValueError: operator set 'paper' has two operators called 'sin'",
        ),
        (
            "from spaces import PAPER, operator\n@operator\ndef f(x, *, Beta=1.0):\n"
            "    return Beta * x\n",
            ", line 2: ValueError: a parameter's `name` must match [a-z][a-z0-9_]*",
        ),
    ],
)
def test_a_file_alone_must_make_one_sound_set(tmp_path: Path, text: str, said: str):
    path = tmp_path / "ops.py"
    path.write_text(text, encoding="utf-8")
    assert said.format(path) in _fault(str(path))
