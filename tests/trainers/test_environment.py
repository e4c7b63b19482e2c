"""What a process that trains asks XLA for, in processes that have not imported JAX yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainers.environment import XLA_OPTION

ROOT = Path(__file__).resolve().parents[2]

CODE_SIZE = """
import jax
from jax.experimental import serialize_executable
x = jax.ShapeDtypeStruct((64, 16, 16, 16), "float32")
program = jax.jit(lambda x: x * jax.nn.sigmoid(x)).lower(x).compile()
print(len(serialize_executable.serialize(program)[0]))
"""


VALUES = """
import json
import jax, jax.numpy as jnp, numpy as np
from spaces import PAPER, OperatorTable, SpecialisedForm, parse
from trainers.convolution import conv3x3
from trainers.normalisation import batch_norm
candidate = parse("mul(x, sigmoid(x))", PAPER)
table = OperatorTable.for_run(PAPER, core_units=1)
form, program = SpecialisedForm(table, candidate), table.program(candidate)
rng = np.random.default_rng(0)
x = rng.normal(size=(16, 8, 8, 16)).astype(np.float32)
kernel = rng.normal(size=(3, 3, 16, 16)).astype(np.float32)
beta = jnp.ones((table.slots, table.vectors, 16))
def layer(x, kernel):
    y, *_ = batch_norm(conv3x3(x, kernel), jnp.ones(16), jnp.zeros(16))
    return form(y, beta, program)
def both(x, kernel):
    value, pull_back = jax.vjp(layer, x, kernel)
    return value, *pull_back(x)
print(json.dumps([np.asarray(each).ravel().tolist() for each in jax.jit(both)(x, kernel)]))
"""


def printed(code: str, **variables: str) -> str:
    """What a fresh process prints that has this project's modules and these variables."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | variables
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", XLA_OPTION),
        ("--xla_cpu_enable_fast_math=false", f"--xla_cpu_enable_fast_math=false {XLA_OPTION}"),
        ("--xla_backend_extra_options=another", "--xla_backend_extra_options=another"),
    ],
)
def test_what_is_given_stays(given: str, expected: str):
    tell = "import os, trainers.environment as e; e.tune_xla(); print(os.environ['XLA_FLAGS'])"
    assert printed(tell, XLA_FLAGS=given) == expected


def test_a_process_that_has_imported_jax_is_left_as_it_is():
    tell = (
        "import os, jax, trainers.environment as e; e.tune_xla(); print('XLA_FLAGS' in os.environ)"
    )
    assert printed(tell) == "False"


def test_loops_over_channels_are_not_unrolled():
    """By the size of the code with all that belongs to it: unrolled it was 1.8 times as long."""
    tuned = printed(f"import trainers.environment as e; e.tune_xla()\n{CODE_SIZE}")
    plain = printed(CODE_SIZE)
    assert 1.5 * int(tuned) < int(plain)


def test_values_and_gradients_of_a_layer_are_the_same_to_rounding():
    tuned = json.loads(printed(f"import trainers.environment as e; e.tune_xla()\n{VALUES}"))
    plain = json.loads(printed(VALUES))
    for one, other in zip(tuned, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_a_worker_has_it_before_it_imports_jax():
    tell = """
import json, os, sys
from types import SimpleNamespace
from launch.worker import Worker
early = "jax" in sys.modules
try:
    Worker().set_up(SimpleNamespace(cpus=1, platform="tpu", devices=1), None, None)
except RuntimeError as error:
    assert "was to compute on tpu" in str(error)
print(json.dumps([early, "jax" in sys.modules, os.environ["XLA_FLAGS"]]))
"""
    assert json.loads(printed(tell)) == [False, True, XLA_OPTION]
