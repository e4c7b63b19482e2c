"""Chooses the form in which candidates run, for `--execution auto`.

The choice is made once, when a run begins, from its configuration and the kind of processor that the
driver has, and holds for every later sitting, wherever that is: a form that depended on a stopwatch
would make histories differ. Kinds of processors differ in rounding, and so in history, in any case.

A specialised candidate costs a compilation and saves a part of every step. Both are estimated from
the work in the child: seconds saved per step grow with the elements that pass activations, seconds
of compilation with the core units and a little with the activation layers. The constants come from
`actsearch bench`; `docs/performance.md` has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainers.config import TrainConfig, resnet_blocks


@dataclass(frozen=True, slots=True)
class Costs:
    """What the two forms cost on a kind of processor."""

    saved_ns: tuple[float, float, float]
    """Nanoseconds per activation element and step that specialising saves, with one, two and three
    core units."""
    saved_ns_further: float
    """The same for each core unit beyond the third, estimated and not measured."""
    compile_s: float
    """Seconds to compile a specialised training step and its evaluation, and what is added to them"""
    compile_s_unit: float
    """for each core unit"""
    compile_s_layer: float
    """and for each activation layer."""


USUAL = Costs((2.0, 4.5, 10.5), 6.0, 3.0, 1.0, 0.05)
"""Of an AMD EPYC (family 26), and of every processor that nobody has measured."""

MEASURED: Mapping[str, Costs] = {
    "GenuineIntel 6 85": Costs((4.2, 10.0, 20.0), 10.0, 5.9, 1.0, 0.375),
    "GenuineIntel 6 207": Costs((2.6, 10.4, 20.4), 10.0, 2.9, 1.2, 0.19),
}
"""Of other processors, by `trainers.processor.processor_kind`; of the last with oneDNN's convolutions, which
compile faster than XLA's, the others with XLA's."""


LINKED = Costs((0.0, 0.0, 0.0), 0.0, 2.9, 1.2, 0.19)
"""Of the traced form where it links candidates, on any processor: that of the last was measured. A linked step took
as long as a specialised one, within a few hundredths (`docs/performance.md`)."""


def choose_execution(
    asked: str,
    train: TrainConfig,
    *,
    core_units: int,
    image_size: int,
    processor: str,
    linked: bool,
) -> tuple[str, str]:
    """The form of execution and the reason for it.

    Args:
        asked: `auto`, `traced` or `specialised`.
        train: The child and its budget.
        core_units: Of the space.
        image_size: Pixels a side.
        processor: Its kind, as `trainers.processor.processor_kind` has it.
        linked: Whether the traced form links candidates there, see `trainers.linked_form`.
    """
    if asked != "auto":
        return asked, "asked for"
    costs = LINKED if linked else MEASURED.get(processor, USUAL)
    per_element = costs.saved_ns[min(core_units, 3) - 1]
    per_element += costs.saved_ns_further * max(0, core_units - 3)
    elements = train.batch_size * activation_elements(train, image_size)
    saved = train.steps * elements * per_element * 1e-9
    layers = 6 * resnet_blocks(train.child) + 1
    cost = costs.compile_s + costs.compile_s_unit * core_units + costs.compile_s_layer * layers
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
