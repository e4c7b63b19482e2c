"""Chooses the form in which candidates run, for `--execution auto`.

The choice is made once per run, from its configuration alone, so that it is the same on every
machine and at every resume: a form that depended on a stopwatch would make histories differ.

A specialised candidate costs a compilation and saves a part of every step. Both are estimated from
the work in the child: seconds saved per step grow with the elements that pass activations, seconds
of compilation with the core units and a little with the activation layers. The constants come from
`actsearch bench` on a CPU; `docs/performance.md` has the figures.
"""

from __future__ import annotations

from trainers.config import TrainConfig, resnet_blocks

SAVED_NS_PER_ELEMENT = {1: 2.0, 2: 4.5, 3: 10.5}
"""Nanoseconds per activation element and step that specialising saves, by core units."""

SAVED_NS_PER_FURTHER_UNIT = 6.0
"""The same for each core unit beyond the third, estimated and not measured."""

COMPILE_S = 3.0
COMPILE_S_PER_UNIT = 1.0
COMPILE_S_PER_LAYER = 0.05
"""Seconds to compile a specialised training step and its evaluation."""


def choose_execution(
    asked: str, train: TrainConfig, *, core_units: int, image_size: int
) -> tuple[str, str]:
    """The form of execution and the reason for it.

    Args:
        asked: `auto`, `traced` or `specialised`.
        train: The child and its budget.
        core_units: Of the space.
        image_size: Pixels a side.
    """
    if asked != "auto":
        return asked, "asked for"
    per_element = SAVED_NS_PER_ELEMENT[min(core_units, 3)]
    per_element += SAVED_NS_PER_FURTHER_UNIT * max(0, core_units - 3)
    elements = train.batch_size * activation_elements(train, image_size)
    saved = train.steps * elements * per_element * 1e-9
    layers = 6 * resnet_blocks(train.child) + 1
    cost = COMPILE_S + COMPILE_S_PER_UNIT * core_units + COMPILE_S_PER_LAYER * layers
    chosen = "specialised" if saved > cost else "traced"
    return chosen, (
        f"over {train.steps} steps a compilation of its own is estimated to save a candidate "
        f"{saved:.1f} s and to cost {cost:.1f} s"
    )


def activation_elements(train: TrainConfig, image_size: int) -> int:
    """Elements that pass through activations for one image.

    There is one activation layer after the first convolution, then two per residual block.
    """
    blocks = resnet_blocks(train.child)
    sides = (image_size, -(-image_size // 2), -(-image_size // 4))
    return sum(
        side * side * train.width * 2**stage * (2 * blocks + (stage == 0))
        for stage, side in enumerate(sides)
    )
