"""The child network of `trainers.resnet` in PyTorch, written as one writes for speed.

The same layers in the same places: 3 x 3 convolutions without bias and one pixel of padding,
BatchNorm with its scale, shortcuts of option A, the activation after the first norm of a block and
after the sum, the mean over pixels, a dense layer. flax's momentum 0.9 is PyTorch's 0.1, its ε
1e-5. PyTorch's running variance is the unbiased one and flax's is not: a factor n / (n - 1), with
n at least a thousand values. Images are channels-last throughout.

PyTorch is no dependency of this project, hence the import by name: types are `Any`.

Letters: B batch, H W C image, V classes, S slots, P vectors of a slot.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from spaces import PAPER, Candidate, OperatorTable
from spaces.candidate import FIRST
from spaces.catalogue import known_operators
from trainers.config import resnet_blocks

torch: Any = importlib.import_module("torch")
functional: Any = importlib.import_module("torch.nn.functional")

FASTER = {"relu": "torch.relu({a})", "softplus": "torch.nn.functional.softplus({a})"}
"""Operators for which PyTorch has a kernel of its own, faster than the one of `Operator.torch`."""


def activation_code(candidate: Candidate) -> Callable[..., Any]:
    """A candidate as a Python function `f(x, p)` over tensors, composed of `Operator.torch`.

    Args:
        candidate: What to compose.

    Returns:
        A function of x and of a mapping from `p{slot}_{vector}` to trainable vectors that
        broadcast against x.
    """
    known = known_operators(PAPER)
    names = ["x"]
    lines: list[str] = []

    def call(name: str, slot: int, target: str, *operands: str) -> None:
        operator = known[name]
        template = FASTER.get(name, operator.torch)
        if template is None:
            raise ValueError(f"operator {name!r} has no PyTorch form")
        code = template.replace("{a}", operands[0]).replace("{b}", operands[-1])
        for vector, param in enumerate(operator.params):
            code = code.replace(f"<{param.name}>", f"p['p{slot}_{vector}']")
        lines.append(f"    {target} = {code}")

    for index, (unit, used) in enumerate(zip(candidate.units, candidate.used(), strict=True)):
        output = f"u{index + 1}"
        names.append(output)
        if not used:
            continue
        call(unit.unary1, 3 * index, f"{output}a", names[unit.input1])
        if unit.binary == FIRST:
            lines.append(f"    {output} = {output}a")
            continue
        call(unit.unary2, 3 * index + 1, f"{output}b", names[unit.input2])
        call(unit.binary, 3 * index + 2, output, f"{output}a", f"{output}b")
    source = "\n".join(["def activation(x, p):", *lines, f"    return {names[-1]}"])
    space: dict[str, Any] = {"torch": torch}
    exec(compile(source, f"<{candidate}>", "exec"), space)  # our own table's text
    return space["activation"]


def vectors_of(candidate: Candidate) -> dict[str, float]:
    """Initial values of a candidate's trainable vectors by the names `p{slot}_{vector}`."""
    table = OperatorTable.for_run(PAPER, core_units=len(candidate.units), extra=[candidate])
    known = known_operators(PAPER)
    return {
        f"p{each.slot}_{each.vector}": known[each.operator].params[each.vector].init
        for each in table.occurrences(candidate)
    }


class Activation(torch.nn.Module):
    """One place in the network where the candidate stands, with trainable vectors [C, 1, 1]."""

    def __init__(
        self, channels: int, function: Callable[..., Any], vectors: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.function = function
        self.vectors = torch.nn.ParameterDict(
            {
                name: torch.nn.Parameter(torch.full((channels, 1, 1), value))
                for name, value in vectors.items()
            }
        )

    def forward(self, x: Any) -> Any:
        """The candidate on x [B, C, H, W]."""
        return self.function(x, self.vectors)


class ConvNorm(torch.nn.Module):
    """3 x 3 convolution, then BatchNorm; running averages without PyTorch's count of batches."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        torch.nn.init.kaiming_normal_(self.conv.weight)
        self.scale = torch.nn.Parameter(torch.ones(outputs))
        self.bias = torch.nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("var", torch.ones(outputs))

    def forward(self, x: Any) -> Any:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        return functional.batch_norm(
            self.conv(x), self.mean, self.var, self.scale, self.bias, self.training, 0.1, 1e-5
        )


class BasicBlock(torch.nn.Module):
    """conv-norm-act, conv-norm, plus shortcut, act."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int, activation: Callable[[int], Activation]
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, stride=stride)
        self.act1 = activation(outputs)
        self.conv2 = ConvNorm(outputs, outputs, stride=1)
        self.act2 = activation(outputs)
        self.stride = stride
        self.missing = outputs - inputs

    def forward(self, x: Any) -> Any:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.conv2(self.act1(self.conv1(x)))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.missing:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.missing))
        return self.act2(y.add_(x))


class ResNet(torch.nn.Module):
    """CIFAR ResNet of 6n+2 layers with a candidate as its activation function.

    Args:
        name: `resnet{6n+2}`.
        width: Channels of the first stage.
        channels: C of the images.
        num_classes: V.
        candidate: The activation function.
    """

    def __init__(
        self, name: str, *, width: int, channels: int, num_classes: int, candidate: Candidate
    ) -> None:
        super().__init__()
        function, vectors = activation_code(candidate), vectors_of(candidate)

        def activation(channels: int) -> Activation:
            return Activation(channels, function, vectors)

        self.stem = ConvNorm(channels, width, stride=1)
        self.act = activation(width)
        blocks = []
        inputs = width
        for stage in range(3):
            for block in range(resnet_blocks(name)):
                stride = 2 if stage and not block else 1
                outputs = width * 2**stage
                blocks.append(BasicBlock(inputs, outputs, stride=stride, activation=activation))
                inputs = outputs
        self.blocks = torch.nn.ModuleList(blocks)
        self.dense = torch.nn.Linear(inputs, num_classes)
        torch.nn.init.kaiming_normal_(self.dense.weight)
        torch.nn.init.zeros_(self.dense.bias)

    def forward(self, x: Any) -> Any:
        """Logits [B, V] of normalised images [B, C, H, W]."""
        x = self.act(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.dense(x.mean(dim=(2, 3)))

    def kernels(self) -> list[Any]:
        """The parameters that decay: kernels of convolutions and of the dense layer."""
        return [each for name, each in self.named_parameters() if _is_kernel(name)]

    def others(self) -> list[Any]:
        """The parameters that do not: scales, biases and the candidate's vectors."""
        return [each for name, each in self.named_parameters() if not _is_kernel(name)]

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes over the weights of another child, HWIO turned to OIHW.

        Args:
            weights: All kernels, scales and biases by names as `blocks.0.conv1.kernel`.
        """
        own = {_plain_name(n): p for n, p in self.named_parameters() if ".vectors." not in n}
        if set(weights) != set(own):
            raise ValueError(f"`weights` must be called {sorted(own)}, got {sorted(weights)}")
        with torch.no_grad():
            for name, value in weights.items():
                axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
                own[name].copy_(torch.from_numpy(np.transpose(value, axes).copy()))


def _plain_name(name: str) -> str:
    """`stem.conv.weight` is `stem.kernel`."""
    return name.replace(".conv.", ".").replace("weight", "kernel")


def _is_kernel(name: str) -> bool:
    return name.endswith(".weight")
