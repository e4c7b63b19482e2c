"""What `bench` measured, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_lines(found: Mapping[str, Any]) -> list[str]:
    """The document of `trainers.bench.bench` as text.

    Args:
        found: The document.
    """
    forms, peak = found["forms"], found["peak_memory_mb"]
    lines = [
        f"{_who(found)}: {_train(found['config'])}, {found['driver']} driver, jax {found['jax']}",
        f"{_count(found['candidates'], 'random candidate')} of "
        f"{_count(found['core_units'], 'core unit')}, {_count(found['timed_steps'], 'step')} each; "
        f"medians:",
        f"{'':12}{'step':>11}{'compile':>15}{'images/s':>11}{'candidates/hour':>18}",
    ]
    for name, form in forms.items():
        when = "each" if name == "specialised" else "once"
        lines.append(
            f"{name:12}{form['step_ms']:8.2f} ms{form['compile_s']:8.1f} s {when:5}"
            f"{round_number(form['images_per_s']):>11}"
            f"{round_number(form['candidates_per_hour']):>18}"
        )
    fused = forms["traced"]["fuse_s"]
    own = f", and {fused:.2f} s to compile it" if fused >= 0.005 else ""
    lines.append(
        f"traced / specialised {found['traced_over_specialised']:.2f} (median of pairs); first step "
        f"of a new candidate, traced, {found['first_step_new_candidate_ms']:.1f} ms{own}; a trial of "
        f"{_count(found['config']['steps'], 'step')} {found['forms'][found['form']]['trial_s']:.2f} s "
        f"{found['form']}, of which evaluation {forms[found['form']]['evaluate_s']:.2f} s"
    )
    if peak is not None:
        device = found["device_peak_memory_mb"]
        more = "" if device is None else f", of the device {device:,.0f} MB"
        lines.append(f"peak memory of a process {peak:,.0f} MB, both forms compiled{more}")
    lines.append(_where(found))
    lines.append(_floor(found))
    return lines


def round_number(value: float) -> str:
    """Three digits of small numbers, all digits of the whole part of large ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min, 3.5 days."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s".removesuffix(" 0 s")
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min".removesuffix(" 0 min")
    return f"{whole / 86400:,.1f} days"


def _who(found: Mapping[str, Any]) -> str:
    processes, cores = found["processes"], found["cores"]
    what = "One process" if processes == 1 else f"{processes} processes at once"
    where = "" if cores is None else f", {_count(len(cores), 'core')} ({_list(cores)})"
    return f"{what} on {found['device']}{where}"


def _train(config: Mapping[str, Any]) -> str:
    size = "" if config["image_size"] is None else f" at {config['image_size']} px"
    return (
        f"{config['child']} of width {config['width']} on {config['dataset']}{size}, batches of "
        f"{config['batch_size']}, {config['precision']}"
    )


def _where(found: Mapping[str, Any]) -> str:
    if found["where"] is None:
        return f"where the time goes: not measured ({found['where_not_measured']})"
    parts = ", ".join(
        f"{kind} {100 * share:.0f} %" for kind, share in found["where"].items() if share >= 0.005
    )
    return f"where the time of a {found['form']} step goes: {parts}"


def _floor(found: Mapping[str, Any]) -> str:
    floor = found["floor"]
    return (
        f"physical floor {found['floor_ms']:.2f} ms a step: {round_number(floor['flops'] / 1e9)} Gflop "
        f"at {round_number(floor['flops_per_s'] / 1e9)} Gflop/s = {floor['compute_ms']:.2f} ms, "
        f"{round_number(floor['bytes'] / 1e6)} MB at "
        f"{round_number(floor['bytes_per_s'] / 1e9)} GB/s = "
        f"{floor['memory_ms']:.2f} ms; the {found['form']} step takes "
        f"{found['step_ms'] / found['floor_ms']:.1f} times as long"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
