"""PyTorch: an `nn.Module`; channels are dimension 1, as in (N, C) and (N, C, H, W)."""

from __future__ import annotations

from .layout import docstring
from .python import body_lines, constant, module, per_channel
from .subject import Subject


def torch_source(subject: Subject) -> str:
    """A class; it is called with x alone and owns its trainable vectors."""
    vectors = subject.body.vectors
    doc = [subject.summary, subject.source]
    if vectors:
        doc.append(f"Args:\n    channels: Size of x's dimension 1. {per_channel(vectors)}")
    code = body_lines(subject, "torch", indent=8)
    result = code.result if code.reads_x else f"torch.broadcast_to({code.result}, x.shape)"
    text = [f"class {subject.class_name}(nn.Module):", *docstring(doc, indent=4), ""]
    if vectors:
        text += ["    def __init__(self, channels: int) -> None:", "        super().__init__()"]
        for v in vectors:
            value = constant(v.init, "torch", "(channels,)", "channels")
            text.append(f"        self.{v.name} = nn.Parameter({value})")
        text.append("")
    text.append("    def forward(self, x: torch.Tensor) -> torch.Tensor:")
    if vectors:
        text.append("        shape = [-1] + [1] * (x.ndim - 2)")
    text += [
        *(f"        {v.name} = self.{v.name}.view(shape)" for v in vectors),
        *(f"        {line}" for line in code.assignments),
        f"        return {result}",
    ]
    return module([[line.replace("torch.nn.", "nn.") for line in text]])
