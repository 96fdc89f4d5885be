"""Models, as far as their KV cache goes: how many bytes a token takes, and in which shape they lie."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ...errors import InvalidArgumentError

_DTYPES = {"float16": 2, "bfloat16": 2, "float32": 4, "float8": 1, "int8": 1}


@dataclass(frozen=True)
class Model:
    """K and V of `kv_heads` heads for each layer, or one latent vector for each layer (MLA)."""

    name: str
    layers: int
    kv_heads: int = 0
    head_dim: int = 0
    latent: int = 0
    """Elements of the latent vector, the rotary part included; 0 without MLA."""
    dtype: str = "float16"

    @property
    def itemsize(self) -> int:
        return _DTYPES[self.dtype]

    @property
    def bytes_per_token(self) -> int:
        each = self.latent if self.latent else 2 * self.kv_heads * self.head_dim
        return self.layers * each * self.itemsize

    def shape(self, tokens: int) -> tuple[int, ...]:
        if self.latent:
            return self.layers, tokens, self.latent
        return self.layers, 2, tokens, self.kv_heads, self.head_dim

    def share(self, ranks: int) -> Model:
        """What one of so many tensor-parallel ranks stores."""
        if ranks == 1:
            return self
        what, name = (self.latent, "latent elements") if self.latent else (self.kv_heads, "KV heads")
        if what % ranks:
            raise InvalidArgumentError(
                f"--tensor-parallel {ranks}: the {what} {name} of {self.name} cannot be shared equally"
            )
        if self.latent:
            return replace(self, latent=what // ranks)
        return replace(self, kv_heads=what // ranks)


_KNOWN = (
    Model("tiny-1b", 12, 4, 128),
    Model("mistral-7b", 32, 8, 128),
    Model("llama2-7b", 32, 32, 128),
    Model("llama3.1-8b", 32, 8, 128),
    Model("llama3.1-70b-instruct", 80, 8, 128),
    Model("deepseek-v3", 61, latent=512 + 64),
    Model("qwen3-32b", 64, 8, 128),
    Model("gpt-oss-120b", 36, 8, 64),
    Model("gpt-oss-20b", 24, 8, 64),
)

MODELS = {model.name: model for model in _KNOWN}

_FORM = "layers=32,heads=8,dim=128[,dtype=float16], or layers=61,latent=576"
_WORDS = {"layers": "layers", "heads": "kv_heads", "dim": "head_dim", "latent": "latent"}


def custom(text: str) -> Model:
    """A model from the text of --model-shape."""
    numbers: dict[str, int] = {}
    dtype = "float16"
    for word in text.split(","):
        name, _, value = word.strip().partition("=")
        if name == "dtype" and value in _DTYPES:
            dtype = value
        elif name in _WORDS and re.fullmatch(r"[1-9]\d{0,6}", value):
            numbers[_WORDS[name]] = int(value)
        else:
            raise InvalidArgumentError(f"--model-shape must be like {_FORM}, not {text!r}")
    heads = {"layers", "kv_heads", "head_dim"}
    if set(numbers) not in (heads, {"layers", "latent"}):
        raise InvalidArgumentError(f"--model-shape must be like {_FORM}, not {text!r}")
    return Model(f"custom({text})", dtype=dtype, **numbers)
