"""Programs kept between processes: found again, never torn, never somebody else's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spaces.scratch import scratch_path
from trainers.compile_cache import default_folder, kept_programs


@pytest.fixture
def events() -> Iterator[list[str]]:
    """The names of what JAX's cache reports."""
    found: list[str] = []

    def listen(event: str, **_: str | int) -> None:
        found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.clear_event_listeners()


def compile_and_run(folder: Path | None, number: float) -> float:
    """A program of its own for each number, compiled afresh, and its result."""
    with kept_programs(folder):
        x = jax.ShapeDtypeStruct((3,), jnp.float32)
        compiled = jax.jit(lambda x: jnp.sin(x) * number).lower(x).compile()
    return float(np.asarray(compiled(np.ones(3, np.float32)))[0])


HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


def test_the_second_process_reads_what_the_first_compiled(tmp_path: Path, events: list[str]):
    folder = tmp_path / "kept"
    first = compile_and_run(folder, 2.0)
    assert (events.count(HIT), events.count(MISS)) == (0, 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 1
    jax.clear_caches()
    assert compile_and_run(folder, 2.0) == first
    assert (events.count(HIT), events.count(MISS)) == (1, 1)
    assert sorted(path.name for path in folder.iterdir()) == names  # nothing of ours is left


def test_outside_nothing_is_kept(tmp_path: Path, events: list[str]):
    compile_and_run(tmp_path / "kept", 3.0)
    compile_and_run(None, 4.0)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    setting = "jax_compilation_cache_dir"
    assert getattr(jax.config, setting) is None
    assert events.count(MISS) == 1


def test_a_process_that_dies_while_it_writes_leaves_nothing_that_is_read(tmp_path: Path):
    folder = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt), kept_programs(folder):
        (own,) = folder.glob("process-*")
        (own / "torn").write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(folder.iterdir())
    # SIGKILL: its folder stays until the next process comes, a day where machines share it.
    gone = scratch_path(folder, "process").name.replace(str(os.getpid()), str(2**22 + 1))
    dead, elsewhere, old = (folder / name for name in (gone, "process-else-1", "process-else-2"))
    for left in (dead, elsewhere, old):
        left.mkdir()
        (left / "torn").write_bytes(b"half")
    then = time.time() - 90_000
    os.utime(old, (then, then))
    compile_and_run(folder, 5.0)
    assert [path.name for path in folder.glob("process-*")] == [elsewhere.name]
    assert all(path.name != "torn" for path in folder.iterdir())


def test_a_damaged_file_is_compiled_again(tmp_path: Path):
    folder = tmp_path / "kept"
    expected = compile_and_run(folder, 6.0)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    jax.clear_caches()
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        assert compile_and_run(folder, 6.0) == expected


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path, mode: int, events: list[str]):
    folder = tmp_path / "kept"
    folder.mkdir()
    folder.chmod(mode)
    compile_and_run(folder, 7.0)
    assert not list(folder.iterdir())
    assert events.count(MISS) == 0


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert compile_and_run(tmp_path / "file" / "kept", 8.0) == pytest.approx(8.0 * 0.8414710)


def test_old_files_go_when_there_are_many(tmp_path: Path):
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    for number in range(100):
        (folder / f"{number:03d}").write_text("")
        os.utime(folder / f"{number:03d}", (number, number))
    compile_and_run(folder, 9.0)
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 64
    assert left[0] == "037"


def test_the_folder_names_the_version_and_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jaxlib.version import __version__

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = default_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "actsearch" / "compiled"
    assert folder.name.startswith(f"jaxlib-{__version__}-")
    assert folder == default_folder()


PROGRAM = """
import sys, time
from pathlib import Path
import jax, jax.numpy as jnp
from trainers.compile_cache import kept_programs
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event.rpartition("/")[2]))
folder, made, nap, dies = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:]
print("ready", flush=True)
sys.stdin.readline()
with kept_programs(folder, made=made):
    print("within", flush=True)
    time.sleep(nap)  # so that who does not wait is within before the other has compiled
    if dies:
        sys.stdin.readline()
    jax.jit(lambda x: jnp.sin(x) * 11.0).lower(jax.ShapeDtypeStruct((3,), jnp.float32)).compile()
print(*[event for event in found if event in ("cache_hits", "cache_misses")], flush=True)
"""


@contextlib.contextmanager
def beginning(*requests: tuple[str, ...]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are about to compile the same, each when it is sent a line."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for request in requests
    ]
    try:
        assert [line(process) for process in started] == ["ready"] * len(started)
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def send(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_processes_that_want_one_program_one_compiles_it(tmp_path: Path):
    folder = str(tmp_path / "kept")
    requests = [(folder, "one", "1.5"), (folder, "one", "0"), (folder, "two", "0")]
    with beginning(*requests) as (first, second, other):
        send(first)
        assert line(first) == "within"
        send(second)
        send(other)
        assert line(other) == "within"  # whoever makes something else waits for nobody
        assert line(first) == "cache_misses"
        assert [line(second), line(second)] == ["within", "cache_hits"]


def test_who_is_killed_while_it_compiles_keeps_nobody_waiting(tmp_path: Path):
    folder = str(tmp_path / "kept")
    with beginning((folder, "one", "0", "dies"), (folder, "one", "0")) as (first, second):
        send(first)
        assert line(first) == "within"
        send(second)
        first.kill()
        assert [line(second), line(second)] == ["within", "cache_misses"]


def test_where_no_lock_can_be_had_nobody_waits(tmp_path: Path):
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    (folder / "turns").write_text("")  # no folder for locks
    with kept_programs(folder, made="one"), kept_programs(folder, made="one"):
        pass


def test_a_program_that_was_made_is_waited_for_by_nobody(tmp_path: Path):
    folder = tmp_path / "kept"
    with kept_programs(folder, made="one"):
        pass
    with kept_programs(folder, made="one"), kept_programs(folder, made="one"):
        pass
