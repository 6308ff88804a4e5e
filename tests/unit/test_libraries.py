"""A process of ours loads a model without the compiler and whatever else transformers brings along."""

import json
import os
import subprocess
import sys
from pathlib import Path

from servers import SPARING

PROGRAM = """
import json, sys
from finery.libraries import load_transformers
load_transformers()
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
with torch.no_grad():
    lean = model(torch.arange(40)[None]).logits
unused = ("torch._inductor", "torch.distributed.tensor", "accelerate", "scipy")
loaded = [name for name in unused if sys.modules.get(name)]
# Whoever wants more of the compiler gets it.
real = torch._dynamo.is_compiling.__module__
import torch._dynamo as by_name
print(json.dumps([loaded, real, by_name.config.__name__, "torch._inductor" in sys.modules, lean.tolist()]))
"""


def test_a_model_answers_as_ever_without_what_it_does_not_need(tiny_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = tiny_folder / "tiny-phi3"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | SPARING,
    )
    assert done.returncode == 0, done.stderr
    loaded, real, by_name, compiler, lean = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert real.startswith("torch.")
    assert by_name == "torch._dynamo.config"
    assert compiler
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        wanted = model(torch.arange(40)[None]).logits
    torch.testing.assert_close(torch.tensor(lean), wanted, rtol=1e-5, atol=1e-6)
