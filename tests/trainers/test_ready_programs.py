"""Programs that are kept whole: found by name, never another one's, and the same afterwards."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces import PAPER, OperatorSet, OperatorTable, known_function
from spaces.operator import Operator
from trainers import ready_programs as module
from trainers.config import TrainConfig
from trainers.ready_programs import KEPT, ReadyShelf, ready_programs, trainer_name

ROOT = Path(__file__).parents[2]

TRAINING = """
import json, sys
from pathlib import Path
import jax
from spaces import OperatorTable, PAPER, known_function
from trainers.config import TrainConfig
from trainers.dataset import load_dataset
from trainers.trainer import Trainer
found = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: found.append(event.rpartition("/")[2]))
keys, folder = sys.argv[1].split(","), Path(sys.argv[2])
table = OperatorTable.for_run(
    PAPER.only("identity", "sigmoid", "mul"), core_units=1,
    extra=[known_function(key).candidate for key in ("swish", "atan2_minus_x")])
config = TrainConfig(width=2, batch_size=16, steps=3)
data = load_dataset("digits", data_dir=None, image_size=None, valid_size=None, seed=0)
trainer = Trainer(config, data, table, cache=folder)
results = [trainer.run(known_function(key).candidate, seed=1).to_dict() for key in keys]
for result in results:
    del result["seconds"]
print(json.dumps({
    "results": results,
    "traced": sum(event == "jaxpr_trace_duration" for event in found),
    "pieces": len(trainer._operators._pieces),
    "compiled": sum(event == "backend_compile_duration" for event in found),
}))
"""


def train(folder: Path, keys: str, **variables: str) -> dict[str, Any]:
    """Trains candidates in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-c", TRAINING, keys, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(process.stdout)


def test_a_later_process_traces_and_compiles_nothing_and_trains_the_same(tmp_path: Path):
    """Nor does a cache of JAX's that somebody has set up get in the way: what comes from one has
    lost the names of its kernels, and cannot be written down again.
    """
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    keys = "swish,atan2_minus_x"
    plain = train(Path("/dev/null/none"), keys, **cache)
    assert list((tmp_path / "jax").iterdir())
    first = train(tmp_path / "kept", keys, **cache)
    later = train(tmp_path / "kept", keys, **cache)
    assert first["results"] == later["results"] == plain["results"]
    programs = (
        3 + first["pieces"]
    )  # a step, an evaluation, the initial vectors, operators by themselves
    assert first["traced"] - later["traced"] == programs
    assert first["compiled"] - later["compiled"] == programs


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., tuple[float, bool]]:
    """Asks for a program by name; says what it gives, and whether it was compiled for that."""

    def ask(name: str, number: float = 2.0, folder: Path = tmp_path) -> tuple[float, bool]:
        made = []

        def make() -> tuple[Any, ...]:
            made.append(name)
            x = jax.ShapeDtypeStruct((3,), jnp.float32)
            return (jax.jit(lambda x: jnp.sin(x) * number).lower(x).compile(),)

        (program,) = ready_programs(folder, name, make)
        return float(np.asarray(program(np.ones(3, np.float32)))[0]), bool(made)

    return ask


def test_a_name_is_found_again_and_no_other(programs):
    value = pytest.approx(2 * 0.8414710)
    assert programs("one") == (value, True)
    assert programs("one", 7.0) == (value, False)
    assert programs("two", 7.0) == (pytest.approx(7 * 0.8414710), True)


@pytest.mark.parametrize(
    "harm", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:99] + b"?" + b[100:]]
)
def test_a_damaged_file_is_made_anew(tmp_path: Path, programs, harm):
    programs("one")
    file = tmp_path / "ready" / "one"
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    assert programs("one")[1]
    assert programs("one") == (pytest.approx(2 * 0.8414710), False)


def test_a_folder_that_others_may_write_is_not_read(tmp_path: Path, programs):
    programs("one")
    (tmp_path / "ready").chmod(0o770)
    assert programs("one")[1]


def test_a_folder_that_cannot_be_had_is_no_error(programs):
    assert programs("one", folder=Path("/dev/null/none"))[1]
    assert programs("one", folder=None)[1]


def test_code_that_changed_since_it_was_read_is_kept_under_no_name(
    tmp_path: Path, programs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "source_digest", lambda _: "another")
    assert programs("one")[1]
    assert not list((tmp_path / "ready").iterdir())


def test_files_are_a_few(tmp_path: Path, programs):
    folder = tmp_path / "ready"
    folder.mkdir(mode=0o700)
    for number in range(KEPT):
        (folder / f"{number}").write_text("")
        os.utime(folder / f"{number}", (number, number))
    programs("one")
    left = {path.name for path in folder.iterdir()}
    assert left == {"one", *map(str, range(1, KEPT))}


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[[], ReadyShelf]:
    """The shelf as a further process has it."""
    return lambda: ReadyShelf(tmp_path, "shelf")


def take(shelf: ReadyShelf, key: str, number: float) -> tuple[float, bool]:
    """Asks a shelf for a program; says what it gives, and whether it was compiled for that."""
    made = []

    def make() -> Any:
        made.append(key)
        x = jax.ShapeDtypeStruct((3,), jnp.float32)
        return jax.jit(lambda x: x * number).lower(x).compile()

    program = shelf(key, make)
    return float(np.asarray(program(np.ones(3, np.float32)))[0]), bool(made)


def test_a_shelf_keeps_each_program_under_its_key(tmp_path: Path, shelf):
    first = shelf()
    assert take(first, "a", 2.0) == (2.0, True)
    assert take(first, "b", 3.0) == (3.0, True)
    assert take(shelf(), "a", 5.0) == (5.0, True)  # nothing was written yet
    first.write()
    assert take(shelf(), "a", 5.0) == (2.0, False)
    assert take(shelf(), "b", 5.0) == (3.0, False)
    before = (tmp_path / "ready" / "shelf").stat().st_ino
    first.write()  # nothing is new
    assert (tmp_path / "ready" / "shelf").stat().st_ino == before


def test_processes_that_fill_a_shelf_at_a_time_lose_nothing(shelf):
    one, other = shelf(), shelf()
    take(one, "a", 2.0)
    take(other, "b", 3.0)
    one.write()
    other.write()
    assert [take(shelf(), key, 5.0) for key in "ab"] == [(2.0, False), (3.0, False)]


def test_a_damaged_shelf_is_empty(tmp_path: Path, shelf):
    first = shelf()
    take(first, "a", 2.0)
    first.write()
    file = tmp_path / "ready" / "shelf"
    file.write_bytes(file.read_bytes()[:-9])
    assert take(shelf(), "a", 5.0) == (5.0, True)


CONFIG = TrainConfig(width=2)
TABLE = OperatorTable.for_run(PAPER, core_units=1)
CONSTANTS = (np.ones(3, np.float32), np.zeros(3, np.float32))


def name(
    config: TrainConfig = CONFIG,
    table: OperatorTable = TABLE,
    constants: tuple[np.ndarray, ...] = CONSTANTS,
    shapes: object = (8, 8),
) -> str:
    return trainer_name(config, table, constants, shapes)


def changed(**values: Any) -> TrainConfig:
    return dataclasses.replace(CONFIG, **values)


def test_everything_that_decides_a_program_is_in_its_name(monkeypatch: pytest.MonkeyPatch):
    names = [
        name(),
        name(changed(lr=0.07)),
        name(changed(child="resnet14")),
        name(changed(augment=False)),
        name(table=OperatorTable.for_run(PAPER, core_units=2)),
        name(table=OperatorTable.for_run(PAPER, core_units=1, beta_init=0.5)),
        name(table=OperatorTable.for_run(PAPER.without("sinc"), core_units=1)),
        name(constants=(CONSTANTS[0], CONSTANTS[0])),
        name(shapes=(8, 9)),
    ]
    before = jax.config.values["jax_default_matmul_precision"]
    jax.config.update("jax_default_matmul_precision", "highest")
    names.append(name())
    jax.config.update("jax_default_matmul_precision", before)
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(module, "_CODE", "another")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(module, "computes", lambda _: "otherwise")
        names.append(name())
    assert len(set(names)) == len(names) == 13
    assert name() == names[0]


def test_what_no_program_has_is_not_in_its_name():
    assert name(changed(steps=7, dataset="cifar10", image_size=8, valid_size=9)) == name()


def test_only_operators_of_this_package_are_told_by_their_names():
    """A set of one's own may call something else by a name of ours; a baseline may be made of it."""
    assert TABLE.built_in
    fused = known_function("atan2_minus_x").candidate
    assert OperatorTable.for_run(PAPER.only("sin", "mul"), core_units=1, extra=[fused]).built_in
    other = Operator("atan", 1, jnp.sinh)
    own = OperatorSet("own", unary=(other,), binary=(PAPER["mul"],))
    assert not OperatorTable.for_run(own, core_units=1).built_in
    table = OperatorTable.for_run(own, core_units=1, extra=[fused])
    alone = dataclasses.replace(
        table, unary=tuple(each for each in table.unary if each.name != "atan")
    )
    assert [each.name for each in alone.unary if each.name.startswith("fused")]
    assert not alone.built_in
