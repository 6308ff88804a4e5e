"""A model written for other programs, and the proof that it still answers the same: a child process, files in and out.

    python -m finery.serving.export FOLDER

`FOLDER/order.json` says what to write. What was written lies in `FOLDER/files`, with `parity.json` (the certificate)
and `manifest.json` (sizes and SHA-256 of all); `FOLDER/outcome.json`, written last, holds the certificate or the error.
The export is opened again and asked: a GGUF file and merged weights by llama.cpp, an adapter beside its base. It needs
no torch; the certificate's reference has it, in a child of its own. It knows no database.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from finery.core.errors import Conflict, FineryError, InvalidRequest
from finery.modeling import gguf_write, manifests, merging, sources
from finery.modeling.adapters import CONFIG_FILE, WEIGHTS_FILE, read_adapter
from finery.modeling.architectures import read_config
from finery.modeling.gguf_packing import QUANTIZATIONS
from finery.modeling.ollama import modelfile
from finery.modeling.template import ChatTemplate
from finery.serving import parity
from finery.serving.config import ServerConfig, write_json
from finery.serving.export_order import FILES, OUTCOME_FILE, ExportOrder
from finery.serving.lifeline import die_with_input
from finery.serving.parity import Certificate, Limits
from finery.serving.process import InferenceProcess
from finery.serving.protocol import error_json

CERTIFICATE_FILE = "parity.json"
MODELFILE = "Modelfile"
CARD_FILE = "README.md"

LIMITS = {
    "q8_0": Limits(agreement=0.95, mean_kl=0.02),
    "q6_k": Limits(agreement=0.9, mean_kl=0.04),
    "q5_k_m": Limits(agreement=0.87, mean_kl=0.15),
    "q4_k_m": Limits(agreement=0.85, mean_kl=0.25),
}
"""What rounding may cost, twice what it costs SmolLM2-135M (docs/log.md); all else must be as good as a deployment. A
wrong template or adapter costs far more."""

_NICE = 10
"""Whoever is being answered goes first."""


async def export(order: ExportOrder, folder: Path) -> Certificate | None:
    """Write the export into `folder/files` and prove it; None for a head, whose files are the very ones of training.

    Raises:
        InvalidRequest: the model has no such form.
        Conflict: it answers differently than the trainer's model, and that was not overridden.
    """
    out = folder / FILES
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        base, adapter = _opened(order, Path(scratch))
        config = _WRITERS[order.format](order, base, adapter, out, Path(scratch))
        certificate = None if config is None else await _certify(order, config, base, adapter, Path(scratch))
    if certificate is not None:
        write_json(out / CERTIFICATE_FILE, certificate.to_json())
        if not (certificate.passed or order.override):
            raise Conflict(_difference(order, certificate), code="parity_failed")
    (out / CARD_FILE).write_text(_card(order, certificate), encoding="utf-8")
    manifests.write_manifest(out, model=order.model, format=order.format, quantization=order.quantization)
    return certificate


def _opened(order: ExportOrder, scratch: Path) -> tuple[Path, Path | None]:
    """The folders of the base and of the adapter; a whole tuned model is its own base."""
    if order.tuned_folder is None:
        return Path(order.base_folder), None
    if order.whole:
        return sources.import_folder(scratch / "models", Path(order.tuned_folder), "tuned").folder, None
    return Path(order.base_folder), Path(order.tuned_folder)


def _write_adapter(
    order: ExportOrder, base: Path, adapter: Path | None, out: Path, scratch: Path
) -> ServerConfig | None:
    if adapter is None:
        raise InvalidRequest(f"{order.model} has no adapter: export it as merged or gguf.", param="format")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(adapter / name, out / name)
    if read_adapter(out, read_config(base))[0].task != "CAUSAL_LM":
        return None
    # Of its own folder: the engine writes what it needs beside it.
    opened = shutil.copytree(out, scratch / "adapter")
    return ServerConfig(model_folder=str(base), adapters={"adapter": str(opened)})


def _write_merged(
    order: ExportOrder, base: Path, adapter: Path | None, out: Path, scratch: Path
) -> ServerConfig | None:
    if adapter is None:
        merging.copy_model(base, out)
    else:
        merging.merge(base, adapter, out)
    opened = sources.import_folder(scratch / "opened", out, "merged")
    return ServerConfig(model_folder=str(opened.folder))


def _write_gguf(order: ExportOrder, base: Path, adapter: Path | None, out: Path, scratch: Path) -> ServerConfig | None:
    quantization = QUANTIZATIONS[order.quantization]
    path = out / f"model.{quantization.name}.gguf"
    gguf_write.write_model(base, path, adapter_folder=adapter, quantization=quantization)
    (out / MODELFILE).write_text(modelfile(ChatTemplate.load(base), path.name), encoding="utf-8")
    for licence in base.glob("LICEN[CS]E*"):
        shutil.copyfile(licence, out / licence.name)
    return ServerConfig(model_folder=str(base), weights_file=str(path))


_WRITERS = {"adapter": _write_adapter, "merged": _write_merged, "gguf": _write_gguf}


async def _certify(
    order: ExportOrder, config: ServerConfig, base: Path, adapter: Path | None, scratch: Path
) -> Certificate:
    threads = max(1, (os.cpu_count() or 2) // 2)
    process = InferenceProcess.start(scratch / "server", dataclasses.replace(config, threads=threads, slots=1))
    try:
        async with await process.wait_ready() as client:
            return await parity.certify(
                client,
                adapter=next(iter(config.adapters), None),
                model_folder=base,
                adapter_folder=adapter,
                questions=order.questions,
                limits=LIMITS.get(order.quantization) if order.format == "gguf" else None,
            )
    finally:
        await process.stop()


def _difference(order: ExportOrder, certificate: Certificate) -> str:
    limits, first = certificate.limits, certificate.first_divergence
    what = f"{order.format} {order.quantization}" if order.format == "gguf" else order.format
    where = f" They part first in question {first.conversation + 1}, token {first.place + 1}." if first else ""
    return (
        f"The export of {order.model} as {what} answers differently than the trained model: the same token in "
        f"{certificate.agreement_but_ties:.1%} of {certificate.places} places ({limits.agreement:.1%} are needed), "
        f"KL {certificate.mean_kl:.4f} nats (at most {limits.mean_kl:g}).{where} Choose a finer quantization, or "
        "override it."
    )


def _card(order: ExportOrder, certificate: Certificate | None) -> str:
    """A model card: what this is, made of what, and how far it can be trusted."""
    lines = [f"# {order.model}", ""]
    lines += [f"- {name}: {value}" for name, value in order.facts.items() if value not in (None, "")]
    if certificate is not None:
        verdict = "passed" if certificate.passed else "NOT passed, kept by override"
        lines += [
            f"- parity with the trained model: {verdict}; same token in {certificate.agreement_but_ties:.2%} of "
            f"{certificate.places} places, KL {certificate.mean_kl:.5f} nats ({CERTIFICATE_FILE})"
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point; see the module's docstring."""
    die_with_input()
    os.nice(_NICE)
    folder = Path(sys.argv[1])
    try:
        certificate = asyncio.run(export(ExportOrder.read(folder), folder))
        outcome: dict[str, Any] = {"certificate": certificate.to_json() if certificate else None}
    except FineryError as error:
        outcome = {"error": error_json(error)}
        certificate_file = folder / FILES / CERTIFICATE_FILE
        with contextlib.suppress(OSError):
            outcome["certificate"] = json.loads(certificate_file.read_text(encoding="utf-8"))
        shutil.rmtree(folder / FILES, ignore_errors=True)
    write_json(folder / OUTCOME_FILE, outcome)


if __name__ == "__main__":
    main()
