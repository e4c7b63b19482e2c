"""What is told of a processor, from files of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers import compile_cache, processor
from trainers.processor import processor_kind, processor_name

XEON = """\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 85
model name	: Intel(R) Xeon(R) Processor @ 2.50GHz
flags		: fpu avx2 avx512f

processor	: 1
vendor_id	: GenuineIntel
cpu family	: 6
model		: 85
model name	: Intel(R) Xeon(R) Processor @ 2.50GHz
flags		: fpu avx2 avx512f
"""
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Has the machine say of its processor what is given."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_FILE", file)
    return file.write_text


def test_an_x86_processor_has_a_name_and_a_kind(told):
    told(XEON)
    assert processor_name() == "Intel(R) Xeon(R) Processor @ 2.50GHz"
    assert processor_kind() == "GenuineIntel 6 85"


def test_another_one_has_neither(told):
    told(GRAVITON)
    assert (processor_name(), processor_kind()) == ("cpu", "")


def test_a_system_without_the_file_tells_what_python_knows(told):
    assert (processor_name(), processor_kind()) == ("cpu", "")
    assert compile_cache._processor()


def test_programs_are_told_apart_by_what_a_processor_can_do(told):
    kept = set()
    for text in (XEON, XEON.replace(" avx512f", ""), GRAVITON, GRAVITON.replace("0xd0c", "0xd40")):
        told(text)
        kept.add(compile_cache._processor())
    assert len(kept) == 4
    told(XEON.replace("processor\t: 0", "processor\t: 0\ncpu MHz\t: 3001"))
    assert compile_cache._processor() in kept
