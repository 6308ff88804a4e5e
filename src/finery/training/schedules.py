"""The learning rate of a step. It does not know optimizers or models; no torch."""

import math

from finery.training.spec import OptimizerSpec


def learning_rate(spec: OptimizerSpec, step: int, total_steps: int) -> float:
    """The rate of `step`, counted from 1 to `total_steps`.

    Over the first W = ceil(warmup_ratio · total_steps) steps it climbs in a line and stays below the peak; step W + 1
    has the peak. From there `linear` falls by the same amount each step, the last one still above 0; `cosine` follows
    half a cosine wave (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts); `constant` stays.
    """
    warmup_steps = min(math.ceil(spec.warmup_ratio * total_steps), total_steps - 1)
    if step <= warmup_steps:
        return spec.learning_rate * step / (warmup_steps + 1)
    done = (step - 1 - warmup_steps) / (total_steps - warmup_steps)
    if spec.schedule == "linear":
        return spec.learning_rate * (1 - done)
    if spec.schedule == "cosine":
        return spec.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return spec.learning_rate
