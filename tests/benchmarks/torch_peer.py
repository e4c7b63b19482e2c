"""PyTorch as a peer: the training loop that a skilled user would write, in several forms.

A form is called `torch-MODE[-nchw][-bf16]`. Modes: `eager`; `compile`, the loss compiled as a whole
by `torch.compile`; `graphs`, the same with `mode="reduce-overhead"`, on a GPU. Images are
channels-last unless the name says `nchw`. `bf16` is autocast.

Normalisation is part of what is compiled. The optimizer is the fused SGD. Losses stay on the device
until the end, no step waits for Python. Evaluation is not compiled: it costs one more compilation
and would save less. The learning rate follows `trainers.schedule`.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from peer import Score, Setting, precision_of
from torch_child import ResNet
from torch_data import TorchData

from spaces import PAPER, Candidate, parse
from trainers.config import TrainConfig

torch: Any = importlib.import_module("torch")
functional: Any = importlib.import_module("torch.nn.functional")

EVALUATION_BATCH = 256


class TorchPeer:
    """Trains children with PyTorch."""

    def __init__(self, setting: Setting) -> None:
        torch.set_num_threads(setting.threads)
        # XLA does the same. Threads that are started later inherit it.
        torch.set_flush_denormal(True)
        self._device = torch.device(setting.device)
        if setting.device == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        self._setting = setting
        self._data = TorchData(setting, self._device)
        self._open: dict[str, Training] = {}

    def score(self, form: str, expression: str, steps: int) -> Score:
        """See `peer.Peer`."""
        if "compile" in form or "graphs" in form:
            torch._dynamo.reset()  # what is compiled for the last candidate is of no more use
        start = time.perf_counter()
        training = self._training(form, parse(expression, PAPER))
        compile_s = training.compile() if training.compiled else 0.0
        begun = time.perf_counter()
        losses = training.run(steps)
        finite = bool(torch.isfinite(losses).all())  # waits for the device
        trained = time.perf_counter()
        loss, accuracy = training.evaluate()
        end = time.perf_counter()
        ok = finite and math.isfinite(loss)
        return Score(
            status="ok" if ok else "loss became nan or infinite",
            accuracy=accuracy if ok else None,
            loss=loss if ok else None,
            compile_s=compile_s,
            train_s=trained - begun,
            evaluate_s=end - trained,
            total_s=end - start,
        )

    def open(self, form: str, expression: str) -> None:
        """See `peer.Peer`."""
        training = self._training(form, parse(expression, PAPER))
        training.run(3).sum().item()
        self._open[form] = training

    def advance(self, form: str, steps: int) -> float:
        """See `peer.Peer`."""
        start = time.perf_counter()
        self._open[form].run(steps).sum().item()
        return (time.perf_counter() - start) / steps

    def close(self) -> None:
        """See `peer.Peer`."""
        self._open.clear()
        torch._dynamo.reset()

    def _training(self, form: str, candidate: Candidate) -> Training:
        return Training(form, candidate, self._setting.train, self._data, self._setting.seed)


class Training:
    """One child in one form.

    Args:
        form: See above.
        candidate: The activation function.
        config: How to train.
        data: What to train on.
        seed: Of weights, batches and augmentation.
    """

    def __init__(
        self, form: str, candidate: Candidate, config: TrainConfig, data: TorchData, seed: int
    ) -> None:
        _, mode, *options = form.split("-")
        self.compiled = mode in ("compile", "graphs")
        self._config, self._data, self._seed = config, data, seed
        self._bf16 = precision_of(form) == "bfloat16"
        self._layout = torch.contiguous_format if "nchw" in options else torch.channels_last
        device = data.mean.device
        torch.manual_seed(seed)
        self.model = ResNet(
            config.child,
            width=config.width,
            channels=len(data.mean),
            num_classes=data.num_classes,
            candidate=candidate,
        ).to(device, memory_format=self._layout)
        self._optimizer = torch.optim.SGD(
            [
                {"params": self.model.kernels(), "weight_decay": config.weight_decay},
                {"params": self.model.others(), "weight_decay": 0.0},
            ],
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            fused=True,
        )
        self._device = device
        self._loss: Callable[..., Any] = self._plain_loss
        if self.compiled:
            self._loss = torch.compile(
                self._plain_loss,
                fullgraph=True,
                dynamic=False,
                mode="reduce-overhead" if mode == "graphs" else "default",
            )

    def compile(self) -> float:
        """Compiles by way of one forward and backward pass, which trains nothing; seconds."""
        start = time.perf_counter()
        stats = [buffer.clone() for buffer in self.model.buffers()]
        images, labels = next(self._data.batches(1, seed=self._seed))
        self.model.train()
        self._loss(images, labels).backward()
        self._optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(self.model.buffers(), stats, strict=True):
            buffer.copy_(before)
        self._wait()
        return time.perf_counter() - start

    def run(self, steps: int) -> Any:
        """Trains for as many steps as one training has; returns float32 [steps], the losses."""
        self.model.train()
        losses = torch.zeros(steps, device=self._device)
        batches = self._data.batches(steps, seed=self._seed)
        for step, (images, labels) in enumerate(batches):
            losses[step] = self.step(images, labels, rate(self._config, step, steps))
        return losses

    def step(self, images: Any, labels: Any, rate: float) -> Any:
        """One step on uint8 [B, H, W, C] images and int64 [B] labels; its loss before the update."""
        loss = self._loss(images, labels)
        loss.backward()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def logits(self, images: Any) -> Any:
        """Logits [B, V] of uint8 [B, H, W, C] images."""
        # NHWC bytes seen as NCHW are channels-last without a copy.
        pixels = ((images.float() - self._data.mean) * self._data.inverse).permute(0, 3, 1, 2)
        with self._autocast():
            return self.model(pixels.contiguous(memory_format=self._layout))

    def evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on the validation split."""
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        with torch.inference_mode():
            for images, labels in self._valid():
                logits = self.logits(images).float()
                sums[0] += functional.cross_entropy(logits, labels, reduction="sum")
                sums[1] += (logits.argmax(1) == labels).sum()
        loss, right = (sums / len(self._data.valid_labels)).tolist()
        return loss, right

    def _plain_loss(self, images: Any, labels: Any) -> Any:
        return functional.cross_entropy(self.logits(images).float(), labels)

    def _valid(self) -> Iterator[tuple[Any, Any]]:
        images, labels = self._data.valid, self._data.valid_labels
        return zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)

    def _autocast(self) -> Any:
        if not self._bf16:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of `trainers.schedule.learning_rate`, as a number."""
    rising = max(round(config.warmup * total), 1)
    done = step / total
    shape = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
        "constant": 1.0,
    }[config.schedule]
    return config.lr * min((step + 1) / rising, 1.0) * shape
