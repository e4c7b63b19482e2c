"""What the driver says of workers that Ray could not start or that died."""

from __future__ import annotations

import pytest
from ray.core.generated import common_pb2
from ray.exceptions import ActorDiedError, RuntimeEnvSetupError

from launch.ray_errors import brief, cause

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


def test_why_an_actor_is_dead_is_told():
    context = common_pb2.ActorDiedErrorContext(  # type: ignore[attr-defined]  # generated
        class_name="Worker",
        actor_id=b"\1" * 16,
        pid=7,
        error_message="The actor is dead because its owner has died. " + "Owner Id: 0500. " * 40,
        never_started=True,
    )
    told = brief(ActorDiedError(context)) + cause(ActorDiedError(context))
    died = "The actor died unexpectedly before finishing this task"
    assert told.startswith(
        f"ActorDiedError: {died}: The actor is dead because its owner has died. "
    )
    assert len(told) < 300 and told.endswith(" …") and "\n" not in told


def test_an_error_without_a_context_has_no_cause():
    assert cause(ActorDiedError()) == cause(RuntimeError("a\nb")) == ""
