"""What the driver says of workers that Ray could not start."""

from __future__ import annotations

import pytest
from ray.exceptions import RuntimeEnvSetupError

from launch.pool import brief

TRACEBACK = """Failed to create the runtime environment on 127.0.0.1. Traceback (most recent call last):
  File "agent.py", line 5, in setup
    raise OSError("there is no uv here")
OSError: there is no uv here
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("\n it is gone.\nand more of it"), "RuntimeError: it is gone"),
        (
            RuntimeEnvSetupError(TRACEBACK),
            "RuntimeEnvSetupError: Failed to set up runtime environment: OSError: there is no uv here",
        ),
    ],
)
def test_an_error_of_rays_is_one_line(error: Exception, line: str) -> None:
    assert brief(error) == line
