"""Adapters by PEFT's names: scales, targets and configuration as PEFT understands them."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftConfig
from peft.tuners.lora import Linear
from torch import nn

from finery.core.errors import InvalidRequest
from finery.training import lora
from finery.training.spec import LoraSpec


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.block = nn.ModuleDict({"q_proj": nn.Linear(8, 8), "k_proj": nn.Linear(8, 4)})
        self.lm_head = nn.Linear(8, 5, bias=False)


@pytest.mark.parametrize("stabilised", [False, True])
@pytest.mark.parametrize(("rank", "alpha"), [(4, 8.0), (16, 32.0), (64, 16.0)])
def test_scales_are_peft_s(rank: int, alpha: float, stabilised: bool) -> None:
    config = LoraConfig(r=rank, lora_alpha=alpha, use_rslora=stabilised)
    theirs = Linear(nn.Linear(8, 8), "default", config=config, r=rank, lora_alpha=alpha).scaling["default"]
    assert lora.scale(LoraSpec(rank=rank, alpha=alpha, rank_stabilised=stabilised)) == pytest.approx(theirs)


def test_all_linear_leaves_out_the_head_and_names_match_whole_parts() -> None:
    model = Model()
    found = lora.adapters(model, LoraSpec(), output=model.lm_head, seed=0)
    assert list(found) == ["block.q_proj", "block.k_proj"]
    assert list(lora.adapters(model, LoraSpec(targets=("k_proj",)), output=model.lm_head, seed=0)) == ["block.k_proj"]
    with pytest.raises(InvalidRequest, match="no linear layer is named proj"):
        lora.adapters(model, LoraSpec(targets=("proj",)), output=model.lm_head, seed=0)


def test_magnitudes_start_as_the_norms_of_the_base_s_rows() -> None:
    model = Model()
    found = lora.adapters(model, LoraSpec(dora=True), output=model.lm_head, seed=0)
    magnitude = found["block.q_proj"].magnitude
    assert magnitude is not None
    torch.testing.assert_close(magnitude.detach(), model.block["q_proj"].weight.detach().norm(dim=1))


def test_peft_reads_the_configuration(tmp_path: Path) -> None:
    spec = LoraSpec(rank=8, alpha=4.0, dropout=0.1, rank_stabilised=True, dora=True)
    config = lora.config(spec, base_model="smollm2", targets=["q_proj", "k_proj", "q_proj"], head="score")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    read = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(read, LoraConfig)
    assert (read.r, read.lora_alpha, read.lora_dropout, read.use_rslora, read.use_dora) == (8, 4.0, 0.1, True, True)
    assert read.target_modules == {"q_proj", "k_proj"}
    assert (read.task_type, read.modules_to_save, read.base_model_name_or_path) == ("SEQ_CLS", ["score"], "smollm2")
