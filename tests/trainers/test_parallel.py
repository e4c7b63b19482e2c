import json
import os
import subprocess
import sys

import numpy as np
import pytest

from trainers.onednn import SWITCH
from trainers.parallel import BatchLayout

SCRIPT = """
import json, sys
from trainers.parallel import use_cores
use_cores(int(sys.argv[1]))
from spaces import PAPER, OperatorTable, parse
from trainers import Trainer, load_dataset
from trainers.config import TrainConfig
config = TrainConfig(width=4, steps=12, batch_size=12, image_size=8)
data = load_dataset("digits", data_dir=None, image_size=8, valid_size=101, seed=0)
operators = PAPER.only("identity", "sin", "scale", "mul", "gate")
trainer = Trainer(config, data, OperatorTable.for_run(operators, core_units=1))
driver = trainer._driver
found = trainer.run(parse("gate(scale(x), x)", PAPER), seed=0)
((_, compiled),) = trainer._kept.items()
text = compiled.train.as_text()
print(json.dumps({
    "parts": driver._layout.parts,
    "partitions": "num_partitions=3" in text,
    "gathered": "all-gather" in text,
    "losses": [point.loss for point in found.curve],
    "loss": found.loss,
    "accuracy": found.accuracy,
    "beta": [(b.mean, b.std) for b in found.beta],
}))
"""


def trained(cores: int, onednn: str) -> dict:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cores)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, SWITCH: onednn},
    )
    return json.loads(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("onednn", ["1", "0"])
def test_a_batch_in_parts_trains_the_same(onednn: str):
    whole, split = trained(1, onednn), trained(3, onednn)
    assert (whole["parts"], split["parts"]) == (1, 3)
    assert split["partitions"] and not whole["partitions"]
    assert not split["gathered"]  # each device has its images and no others
    # Sums of BatchNorm and of gradients are made in another order: rounding, a dozen steps on.
    np.testing.assert_allclose(split["losses"], whole["losses"], rtol=2e-5)
    np.testing.assert_allclose(split["loss"], whole["loss"], rtol=2e-5)
    np.testing.assert_allclose(split["beta"], whole["beta"], rtol=2e-5, atol=1e-6)
    assert abs(split["accuracy"] - whole["accuracy"]) < 1.5 / 101


@pytest.mark.parametrize("devices, batch, parts", [(1, 64, 1), (2, 64, 2), (4, 6, 3), (3, 64, 2)])
def test_a_batch_is_shared_by_as_many_devices_as_divide_it(devices, batch, parts):
    import jax

    layout = BatchLayout.over(jax.devices()[:1] * devices, batch)
    assert layout.parts == parts
    assert (layout.split is None) == (layout.everywhere is None) == (parts == 1)
