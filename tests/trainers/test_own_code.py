"""Machine code of our own is what its source says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from trainers.own_code import CODE, ENTRIES, SOURCE


@pytest.mark.skipif(not shutil.which("as") or not shutil.which("objcopy"), reason="no assembler")
def test_the_code_is_its_source_assembled(tmp_path: Path):
    made, code = tmp_path / "own.o", tmp_path / "own.bin"
    assemble = ["as", "--64", "-msyntax=intel", "-mnaked-reg", "-o", str(made), "-"]
    subprocess.run(assemble, input=SOURCE, text=True, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, code], check=True)
    assert code.read_bytes() == CODE
    symbols = subprocess.run(["nm", made], capture_output=True, text=True, check=True).stdout
    found = {name: int(at, 16) for at, _, name in map(str.split, symbols.splitlines())}
    assert found == ENTRIES
