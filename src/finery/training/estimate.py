"""What a run needs, measured on this very machine: memory of its largest pass, time of its steps.

It does not know models or losses: it reads the meters of the operating system and of the device.
"""

import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from finery.training.spec import RunSpec

_PROC = Path("/proc/self")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What the first step told about the whole run."""

    peak_bytes: int
    """Largest memory in use during the first step, which has the largest pass."""
    seconds: float
    """Of all steps still to come, at the speed of the first."""

    def text(self) -> str:
        """For people."""
        minutes = round(self.seconds / 60)
        duration = f"{minutes} minutes" if minutes > 1 else "a minute" if self.seconds > 30 else "half a minute or less"
        return f"Measured: longest batch needs {self.peak_bytes / 1e9:.1f} GB, about {duration}"


def reset_peak(device: torch.device) -> None:
    """Let the peak memory be measured from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return  # not allowed here: the peak since the start of the process is then reported


def peak_bytes(device: torch.device) -> int:
    """Most memory in use since `reset_peak`: of the device, or resident of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _bytes_of("VmHWM", _PROC / "status")


def available_bytes(device: torch.device) -> int:
    """Memory this process may still take: what the device, or the machine and its control group, have left."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    left = [_bytes_of("MemAvailable", Path("/proc/meminfo"))]
    for limit, used in _CGROUPS:
        if limit.exists() and (text := limit.read_text(encoding="ascii").strip()) != "max":
            left.append(int(text) - int(used.read_text(encoding="ascii")))
    return min(left)


def limit_memory() -> None:
    """Make an allocation that the machine can't serve an error at once, instead of a later kill of this process."""
    limit = _bytes_of("VmData", _PROC / "status") + available_bytes(torch.device("cpu"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device had no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def advice(*, pass_tokens: int, longest_tokens: int, spec: RunSpec) -> str:
    """Which knob makes a job fit whose pass of `pass_tokens`, with its longest example of `longest_tokens`, did not."""
    if pass_tokens > longest_tokens:
        smaller = max(longest_tokens, pass_tokens // 2)
        return f"Set tokens_per_pass to {smaller} (it is {spec.tokens_per_pass}): some speed lost, the same result."
    ways = [f"keep examples below {longest_tokens // 2} tokens (the longest has {longest_tokens})"]
    if spec.method == "full":
        ways.append("use method lora")
    elif spec.lora.rank > 16:
        ways.append(f"use a lora rank below {spec.lora.rank}")
    if spec.precision == "fp32":
        ways.append("use precision bf16")
    return f"An example needs a pass of its own here, so {', or '.join([*ways, 'take a smaller base model'])}."


def _bytes_of(name: str, table: Path) -> int:
    for line in table.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
