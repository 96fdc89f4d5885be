"""What a YAML file may change, each with its default. A key that has no effect does not exist here: it is refused."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidArgumentError
from .models import MODELS, Model

Range = tuple[float, float]


@dataclass(frozen=True)
class Template:
    """A kind of user: tokens of the longest prompt, tokens of the answer, seconds between requests."""

    context: Range
    generate: Range
    think: Range


@dataclass(frozen=True)
class Qos:
    """`targets`: milliseconds of the 95th, 99th, 99.9th and 99.99th percentile, end to end."""

    share: float
    priority: int
    targets: tuple[float, float, float, float]


@dataclass(frozen=True)
class Prefix:
    probability: float = 0.2
    prompt_tokens: tuple[int, ...] = (256, 512, 1024)


@dataclass(frozen=True)
class Rag:
    probability: float = 0.1
    chunk_tokens: int = 512
    chunks_per_document: int = 20
    chunks_per_request: int = 5


@dataclass(frozen=True)
class Conversation:
    continue_probability: float = 0.8
    max_turns: int = 50


@dataclass(frozen=True)
class Decode:
    tokens_per_read: int = 32
    prefill_only_from_tokens: int = 10_000
    prepopulated_per_user: int = 10
    prepopulated_tokens: int = 2048


@dataclass(frozen=True)
class Eviction:
    target_usage_ratio: float = 0.8
    max_object_ratio: float = 0.95


@dataclass(frozen=True)
class Timing:
    """Seconds of a generated token."""

    none: float = 0.0
    fast: float = 0.002
    realistic: float = 0.030


@dataclass(frozen=True)
class ShareGpt:
    max_context_tokens: int = 16_384
    max_generate_tokens: int = 2_048
    characters_per_token: float = 4.0


_TEMPLATES = {
    "chatbot": Template((512, 4096), (50, 200), (0.1, 0.5)),
    "coding": Template((4096, 25_000), (100, 500), (0.2, 1.0)),
    "document": Template((4096, 16_384), (200, 800), (0.3, 1.5)),
}
_QOS = {
    "interactive": Qos(0.15, 3, (50, 100, 150, 200)),
    "responsive": Qos(0.35, 2, (100, 200, 350, 500)),
    "batch": Qos(0.50, 1, (1000, 5000, 7500, 10_000)),
}


@dataclass(frozen=True)
class Config:
    user_templates: dict[str, Template] = field(default_factory=lambda: dict(_TEMPLATES))
    qos_profiles: dict[str, Qos] = field(default_factory=lambda: dict(_QOS))
    prefix_cache: Prefix = Prefix()
    rag: Rag = Rag()
    conversation: Conversation = Conversation()
    decode: Decode = Decode()
    eviction: Eviction = Eviction()
    generation_timing: Timing = Timing()
    sharegpt: ShareGpt = ShareGpt()
    model_configs: dict[str, Model] = field(default_factory=lambda: dict(MODELS))


_REFUSED = {
    "gpu_backend": "the GPU tier is simulated in host memory",
    "autoscaler": "a count of users that changes no concurrency would be no scaling",
    "saturation_detection": "it belongs to autoscaling, which there is none of",
    "validation_limits": "the limits of the flags are those of --help",
    "qos_distribution": "the shares stand in qos_profiles, as share",
}


def load(path: str) -> Config:
    """Defaults, changed by what the file says. InvalidArgumentError names the key that is wrong."""
    try:
        import yaml
    except ImportError:
        raise InvalidArgumentError("--config needs PyYAML: pip install 'moorage[bench]'") from None
    with open(path, encoding="utf-8") as file:
        try:
            content = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise InvalidArgumentError(f"--config {path}: {error}") from None
    if content is None:
        return Config()
    return changed(content)


def changed(content: Any) -> Config:
    """The defaults with what this mapping says."""
    config = Config()
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"--config must be a mapping of sections, not a {type(content).__name__}")
    for section, values in content.items():
        if section in _REFUSED:
            raise InvalidArgumentError(f"--config {section}: {_REFUSED[section]}")
        _known(section, [f.name for f in dataclasses.fields(Config)], "section")
        old = getattr(config, section)
        if isinstance(old, dict):
            new: Any = {**old, **_entries(section, values, type(next(iter(old.values()))))}
        else:
            new = _replace(section, old, values)
        config = dataclasses.replace(config, **{section: new})
    _check(config)
    return config


def _known(name: Any, names: list[str], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise InvalidArgumentError(f"--config: there is no {what} {name!r}; {hint}")


def _entries(section: str, values: Any, kind: type) -> dict[str, Any]:
    """Named entries: each is given whole."""
    if not isinstance(values, dict):
        raise InvalidArgumentError(f"--config {section} must be a mapping of names")
    found = {}
    for name, fields in values.items():
        if not isinstance(fields, dict):
            raise InvalidArgumentError(f"--config {section}.{name} must be a mapping")
        given = {"name": str(name), **fields} if kind is Model else fields
        try:
            found[str(name)] = _replace(f"{section}.{name}", None, given, kind)
        except TypeError as error:
            raise InvalidArgumentError(f"--config {section}.{name}: {error}") from None
    return found


def _replace(where: str, old: Any, values: Any, kind: Any = None) -> Any:
    kind = kind or type(old)
    if not isinstance(values, dict):
        raise InvalidArgumentError(f"--config {where} must be a mapping")
    names = {f.name: f for f in dataclasses.fields(kind)}
    given = {}
    for name, value in values.items():
        _known(name, list(names), f"key in {where}")
        given[name] = _value(f"{where}.{name}", str(names[name].type), value)
    return dataclasses.replace(old, **given) if old is not None else kind(**given)


def _value(where: str, wanted: str, value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    if wanted == "str" and isinstance(value, str):
        return value
    if (wanted == "int" and number and int(value) == value) or (wanted == "float" and number):
        return value
    if wanted == "Range" and isinstance(value, list) and len(value) == 2 and 0 <= value[0] <= value[1]:
        return value[0], value[1]
    if (
        wanted.startswith("tuple")
        and isinstance(value, list)
        and value
        and all(isinstance(v, (int, float)) for v in value)
    ):
        return tuple(value)
    raise InvalidArgumentError(f"--config {where}: {value!r} is no {wanted.replace('Range', 'pair [least, most]')}")


def _check(config: Config) -> None:
    for where, value in (
        ("prefix_cache.probability", config.prefix_cache.probability),
        ("rag.probability", config.rag.probability),
        ("conversation.continue_probability", config.conversation.continue_probability),
        ("eviction.target_usage_ratio", config.eviction.target_usage_ratio),
        ("eviction.max_object_ratio", config.eviction.max_object_ratio),
    ):
        if not 0 <= value <= 1:
            raise InvalidArgumentError(f"--config {where} must be from 0 to 1, not {value}")
    if abs(sum(q.share for q in config.qos_profiles.values()) - 1) > 0.001:
        raise InvalidArgumentError("--config qos_profiles: the shares must add up to 1")
    for least, value in (
        ("decode.tokens_per_read", config.decode.tokens_per_read),
        ("rag.chunk_tokens", config.rag.chunk_tokens),
        ("rag.chunks_per_document", config.rag.chunks_per_document),
        ("conversation.max_turns", config.conversation.max_turns),
    ):
        if value < 1:
            raise InvalidArgumentError(f"--config {least} must be at least 1, not {value}")
