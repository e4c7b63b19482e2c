"""A search that is killed again and again, against the same search that nothing happened to.

    uv run python tests/crash/campaign.py --kills 100

makes two runs in a new folder, `sound` and `killed`, with real Ray workers that train real
children on the digits. The second one's driver is killed with SIGKILL: at random moments, at the
named points of `victim.py`, and at times with everything that it started, as when a machine loses
power; or a worker is killed under it. After each kill the same command goes on. In the end both
runs must be one: every outcome that was ever seen still there as it was, the same proposals, the
same strategy states, the same ranking, the same `history_sha256`, and nothing left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from search.journal import Journal, JournalError
from search.ranking import rank

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
POINTS = runpy.run_path(str(HERE / "victim.py"))["POINTS"]

OPERATORS = """
from spaces import PAPER

OPS = PAPER.only("identity", "neg", "square", "sigmoid", "relu", "sin", "cos", "tanh", "erf", "abs",
                 "add", "mul", "sub", "max", "min")
"""
"""Few, so that the program that trains them is compiled in seconds."""

CHILD = ("--width", "4", "--batch-size", "32", "--execution", "traced")
CONTROLLER = ("--strategy", "controller", "--controller-batch-size", "5", "--core-units", "1")


@dataclass
class Campaign:
    """Both runs, and everything that was seen of the one that is killed.

    Args:
        folder: Where the runs are made.
        arguments: Of `actsearch search`: what both runs are asked for.
    """

    folder: Path
    arguments: tuple[str, ...]
    seen: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    """Outcomes that stood in the journal after some kill, by trial."""
    kills: Counter[str] = field(default_factory=Counter)
    """How often each thing was killed, or died at which point."""

    def __post_init__(self) -> None:
        (self.folder / "ops.py").write_text(OPERATORS)

    @property
    def killed(self) -> Path:
        """The run that is killed again and again."""
        return self.folder / "killed"

    def start(
        self,
        name: str,
        point: tuple[str, int] | None = None,
        command: tuple[str, ...] = (),
        workers: int = 2,
    ) -> subprocess.Popen[str]:
        """Begins a sitting of a driver, or another command, in a session of its own."""
        request = ("--run-dir", name, "--operators", "ops.py:OPS", "--workers", str(workers))
        asked = ("search", *request, *self.arguments, "--json")
        victim = [str(HERE / "victim.py"), point[0], str(point[1])] if point else ["-m", "launch"]
        return subprocess.Popen(
            [sys.executable, *victim, *(command or asked)],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, name: str) -> dict[str, Any]:
        """A sitting that nothing happens to; returns what it printed."""
        printed, errors = self.start(name).communicate(timeout=1800)
        assert errors.count("Traceback") == 0, errors
        return json.loads(printed)

    def die_at(self, point: str, count: int = 1) -> None:
        """A sitting, with one worker, that ends at a fault point, which it must reach."""
        process = self.start("killed", (point, count), workers=1)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == -signal.SIGKILL, (point, process.returncode, errors)
        self._note(point)

    def die_in_a_report(self) -> None:
        """A report that is killed when its file is half written leaves the one before it."""
        report = self.killed / "report.html"
        before = report.read_bytes() if report.exists() else None
        command = ("report", "killed")
        process = self.start("killed", ("report half written", 1), command)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, errors
        assert (report.read_bytes() if report.exists() else None) == before
        self._note("report half written")
        process = self.start("killed", None, command)
        process.communicate(timeout=120)
        assert process.returncode == 0 and report.read_bytes().endswith(b"</html>\n")

    def die_at_random(self, chance: random.Random, what: str = "") -> None:
        """A sitting in which something is killed at a random moment.

        Args:
            chance: Decides when.
            what: driver, everything or worker, which is killed before the driver; empty: by chance.
        """
        what = what or chance.choices(["driver", "everything", "worker"], [6, 3, 1])[0]
        process = self.start("killed")
        if what == "worker" or chance.random() < 0.7:
            further = chance.randint(what == "worker", 3)  # whoever has trained is there to die
            wait_for_outcomes(self.killed, len(self.seen) + further, process)
            pause = chance.uniform(0.0, 0.6)
        else:
            pause = chance.uniform(0.0, 12.0)
        last = time.monotonic() + pause
        while time.monotonic() < last and outcomes(self.killed) < len(self.seen) + 4:
            time.sleep(0.02)  # however fast the machine is, each kill is to have its trials
        if what == "worker":
            self._kill_a_worker(process, chance)
        family = descendants(process)
        process.kill()
        if what == "everything":
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        _, errors = process.communicate(timeout=60)
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            return  # the run was finished before
        self._note("driver" if what == "worker" else what)

    def _kill_a_worker(self, process: subprocess.Popen[str], chance: random.Random) -> None:
        """And then the driver, once the run has gone on without that worker."""
        workers = [each for each in descendants(process) if name(each).startswith("ray::Worker")]
        if workers:
            chance.choice(workers).kill()
            self.kills["worker"] += 1
            wait_for_outcomes(self.killed, outcomes(self.killed) + 2, process)

    def _note(self, what: str) -> None:
        """Checks what the journal has after a kill: all that it had, untouched."""
        self.kills[what] += 1
        found = recorded(self.killed)
        lost = {trial: row for trial, row in self.seen.items() if found.get(trial) != row}
        assert not lost, f"after a kill ({what}) these outcomes are others or gone: {lost}"
        self.seen |= found

    def compare(self) -> dict[str, Any]:
        """Both runs, finished, are one.

        Returns:
            Figures: kills by kind, trials, attempts that deaths of workers cost.
        """
        sound, killed = (Journal.read(self.folder / name) for name in ("sound", "killed"))
        assert killed.meta("finished") is not None
        found = recorded(self.killed)
        assert self.seen.items() <= found.items()
        assert sorted(found) == list(range(1, len(found) + 1))
        assert list(map(repr, killed.proposals())) == list(map(repr, sound.proposals()))
        assert killed.snapshot() == sound.snapshot()
        assert list(killed.metrics()) == list(sound.metrics())
        assert ranking(killed) == ranking(sound)
        (attempts,) = killed.execute("SELECT sum(attempts) FROM trials").fetchone()
        assert attempts <= self.kills["worker"], "a death outside a trial was counted as its own"
        return {
            "kills": dict(self.kills),
            "in_all": self.kills.total(),
            "trials": len(found),
            "attempts": attempts,
            "sittings": len(killed.sittings()),
        }

    def leftovers(self) -> list[str]:
        """Processes and folders of a search's that outlived it."""
        deadline = time.monotonic() + 60.0
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def _left(self) -> list[str]:
        hidden = [str(path) for path in self.killed.glob(".*")]
        folders = [str(path) for path in Path(tempfile.gettempdir()).glob("actsearch-ray-*")
                   if not psutil.pid_exists(int(path.name.rpartition("-")[2]))]  # fmt: skip
        marks = [str(self.folder), *folders]
        ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        running = [
            " ".join(command)[:100]
            for process in psutil.process_iter(["cmdline"])
            if (command := process.info["cmdline"] or []) and process.pid not in ours
            if any(mark in word for mark in marks for word in command)
        ]
        return [*hidden, *folders, *running]


def environment() -> dict[str, str]:
    """As a user's shell: without what a test run says of JAX."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def recorded(folder: Path) -> dict[int, tuple[Any, ...]]:
    """Every outcome in a run's journal, with when it was recorded: a second one would differ."""
    try:
        journal = Journal.read(folder)
    except JournalError as error:
        assert "holds no journal" in str(error)
        return {}
    query = "SELECT trial, status, reward, loss, seconds, details, finished FROM outcomes"
    found = {row[0]: row[1:] for row in journal.execute(query)}
    journal.close()
    return found


def outcomes(folder: Path) -> int:
    return len(recorded(folder))


def wait_for_outcomes(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while outcomes(folder) < count and process.poll() is None:
        assert time.monotonic() < deadline, f"{folder} did not reach {count} outcomes"
        time.sleep(0.05)


def ranking(journal: Journal) -> list[tuple[Any, ...]]:
    return [(each.row.expression, each.reward, each.loss, each.rung) for each in rank(journal)]


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def main() -> None:
    """Runs a campaign and prints its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="crash-campaign-"))
    folder.mkdir(exist_ok=True)
    # Two core units: of one the controller would run out before it had been killed often enough.
    arguments = (*CHILD, *CONTROLLER[:-1], "2", "--steps", "12", "--rungs", "8:10,12:5")
    campaign = Campaign(folder, (*arguments, "--trials", str(3 * options.kills + 40)))
    chance, begin = random.Random(options.seed), time.monotonic()
    sound = campaign.finish("sound")["summary"]
    for point in POINTS:
        if not point.startswith(("report", "rung", "end")):
            campaign.die_at(point)
    while campaign.kills.total() < options.kills - 2 and len(campaign.seen) < sound["trials"]:
        if campaign.kills.total() % 10 == 9:
            campaign.die_in_a_report()
        campaign.die_at_random(chance)
        print(f"{dict(campaign.kills)}, {len(campaign.seen)} trials", flush=True)
    campaign.die_at("rung in its transaction")
    campaign.die_at("end in its transaction")
    killed = campaign.finish("killed")["summary"]
    figures = campaign.compare()
    assert killed["history_sha256"] == sound["history_sha256"]
    figures |= {"history_sha256": killed["history_sha256"], "left": campaign.leftovers()}
    figures |= {"minutes": round((time.monotonic() - begin) / 60, 1)}
    print(json.dumps(figures, indent=2))
    sys.exit(1 if figures["left"] else 0)


if __name__ == "__main__":
    main()
