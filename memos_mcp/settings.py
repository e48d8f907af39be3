"""Resolves every setting, from what was asked, config.toml and defaults, and says where each came from.

Standard library only, and it opens no store: command line and kernel share it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from memos_mcp import asked, heat_constants, model_names
from memos_mcp.asked import Asked
from memos_mcp.errors import InvalidInput, StorageFailed

Kind = Literal["connection", "store", "place"]

ON_OFF = ("on", "off")
EXTRACT_DEFAULT = "off"
EXTRACT_MODES = ("off", "rules", "model")
SUMMARIES_DEFAULT = "off"
COMPOSITIONS = ("exact", "blended", "thinned")
CHOICES = {
    "extract": EXTRACT_MODES, "summaries": EXTRACT_MODES, "composition": COMPOSITIONS, "life": ON_OFF,
    "supersede": ON_OFF, "train": ("ask", "auto", "off"), "tainted": ("retire", "retrain"),
}  # fmt: skip
"""Settings that are one of a few words."""

PERCENT = 100
CONFIG_FILE = "config.toml"
KEYS_FILE = "keys.toml"


@dataclass(frozen=True)
class Declared:
    """A setting's name in config.toml, its environment variable, who owns it, and its default."""

    name: str
    kind: Kind
    default: str | int | None
    meaning: str

    @property
    def variable(self) -> str:
        return f"MEMOS_{self.name.upper()}"


DECLARED: tuple[Declared, ...] = (
    Declared("home", "place", None, "data directory: ledger, index, blobs, logs"),
    Declared("space", "connection", "personal", "the space written to, and read with any granted"),
    Declared("principal", "connection", None, "label of who acts; the operating-system user unless set"),
    Declared("tools", "connection", "core", "core, or all"),
    Declared("embedder", "store", "minilm", model_names.EMBEDDERS),
    Declared("reranker", "store", model_names.NONE, model_names.RERANKERS),
    Declared("model", "store", None, f"what memory_ask asks: {model_names.MODELS}"),
    Declared("states_ram_mb", "store", 512, "megabytes of states beside the model's context in memory"),
    Declared("states_disk_mb", "store", 4_096, "megabytes of states in files"),
    Declared("composition", "store", "exact", "how memories are put together for the model: exact, blended, thinned"),
    Declared("base_model", "store", None, "Hugging Face folder of the same model, for adapters"),
    Declared("train", "store", "ask", "adapters: trained when asked for (ask), by itself too (auto), never (off)"),
    Declared("tainted", "store", "retire", "an adapter whose sources changed: retire, or retrain (default with auto)"),
    Declared("training_minutes", "store", 240, "minutes that the training of one adapter may take; 0: as it needs"),
    Declared("training_ram_mb", "store", 0, "megabytes of memory that a training may have; 0: as it needs"),
    Declared("llm", "store", None, "MODEL@URL of an OpenAI-compatible endpoint for extraction and summaries"),
    Declared("extract", "store", EXTRACT_DEFAULT, "facts drawn out of dialogue: off, rules, model"),
    Declared("life", "store", "on", "whether memories are archived, ended and promoted behind the calls: on, off"),
    Declared("policy", "store", "decay", "what becomes of memories whose space has no policy of its own"),
    Declared("archive_days", "store", 180, "days without use after which a memory is archived; 0 for never"),
    Declared("supersede", "store", "on", "newer statements supersede older ones where a rule is sure: on, off"),
    Declared("merge_from", "store", 0, "likeness in percent from which near-duplicates are merged unasked; 0: never"),
    Declared("idle_exit", "store", 900, "seconds without work after which a kernel ends"),
    Declared("heat", "store", "", "constants of heat that differ, as NAME=NUMBER: " + ", ".join(heat_constants.NAMES)),
    Declared("summaries", "store", SUMMARIES_DEFAULT, "summaries of conversations that rest: off, rules, model"),
    Declared("compress_after", "store", 30, "days in the archive after which a memory is compressed; 0: never"),
    Declared("background_share", "store", 50, "percent of one core that heavy background work may take, 1 to 100"),
    Declared("index_from", "store", 12_000, "memories of a space above which its vectors get an index"),
)
SECRET_KEYS = ("openai_api_key", "llm_api_key", "model_api_key")
"""A key is sent to the server that its own setting names, and to no other."""
_BY_NAME = {d.name: d for d in DECLARED}


@dataclass(frozen=True)
class Settings:
    """Every setting with its value; `sources`: where each came from; `wishes`: what was asked for and not applied."""

    home: Path
    space: str
    principal: str
    tools: str
    embedder: str
    reranker: str
    model: str | None
    states_ram_mb: int
    states_disk_mb: int
    composition: str
    base_model: str | None
    train: str
    tainted: str
    training_minutes: int
    training_ram_mb: int
    llm: str | None
    extract: str
    life: str
    policy: str
    archive_days: int
    supersede: str
    merge_from: int
    idle_exit: int
    heat: str
    summaries: str
    compress_after: int
    background_share: int
    index_from: int
    sources: Mapping[str, str] = field(default_factory=dict)
    wishes: Mapping[str, str] = field(default_factory=dict)

    @property
    def extraction(self) -> str:
        """How facts are drawn out of dialogue: off, rules or model. An endpoint that is set is set for that."""
        return "model" if self.llm and self.sources.get("extract") == "default" else self.extract

    @property
    def summarising(self) -> str:
        """How conversations are summarised: off, rules or model. An endpoint that is set is set for that too."""
        return "model" if self.llm and self.sources.get("summaries") == "default" else self.summaries

    @property
    def consent(self) -> Literal["ask", "auto", "off"]:
        """Who decides that something is trained: whoever asks for it, the store by itself too, or nobody."""
        return "off" if self.train == "off" else "auto" if self.train == "auto" else "ask"

    @property
    def retrains(self) -> bool:
        """Whether an adapter is trained anew when its sources change; unless said, where training needs no consent."""
        unset = self.sources.get("tainted") == "default"
        return self.train != "off" and (self.tainted == "retrain" or (unset and self.train == "auto"))

    def value(self, name: str) -> str | int | None:
        """The value of one declared setting, as text or number."""
        found = getattr(self, name)
        return str(found) if isinstance(found, Path) else found


def place(arguments: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> Path:
    """The data directory alone, for when the other settings cannot be resolved.

    Raises:
        InvalidInput: it is not a path.
    """
    return _home(arguments or {}, asked.environment() if env is None else env)[0]


def load(
    arguments: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    fresh: bool | None = None,
) -> Settings:
    """Resolve every setting; `config` stands in for config.toml where that cannot be read.

    `fresh`: whether the data directory is still to be made; None to look.

    Connection settings: command line over environment over config.toml over defaults. Store settings: config.toml,
    then the environment only while the data directory has no ledger yet, then defaults.

    Raises:
        InvalidInput: a value has the wrong type, or config.toml is not TOML; the sentence names the file and key.
    """
    env = asked.environment() if env is None else env
    given = {k: v for k, v in (arguments or {}).items() if v}
    home, home_source = _home(given, env)
    config = read_config(home) if config is None else config
    if fresh is None:  # unlike Path.exists, os.path.exists is False for a folder that may not be entered
        fresh = not os.path.exists(home / "ledger.db")
    values: dict[str, Any] = {"home": home}
    sources, wishes = {"home": home_source}, {}
    for declared in DECLARED:
        if declared.kind == "place":
            continue
        wish = given.get(declared.name) or env.get(declared.variable)
        value, source = _resolve(declared, given, env, config, fresh)
        values[declared.name], sources[declared.name] = _typed(declared, value, source), source
        if declared.kind == "store" and wish and str(wish) != str(value):
            wishes[declared.name] = str(wish)
    values["principal"] = values["principal"] or asked.user_name(env)
    return Settings(**values, sources=sources, wishes=wishes)


def of_connection(wishes: Asked, home: Path) -> Settings:
    """The settings of one host's connection to the kernel of this data directory, which has made it already.

    Raises:
        InvalidInput, StorageFailed: as `load` does.
    """
    env = {**wishes.environment, "LOGNAME": wishes.user}
    return load({**wishes.arguments, "home": str(home)}, env, fresh=False)


def read_config(home: Path, name: str = CONFIG_FILE) -> dict[str, Any]:
    """The contents of config.toml (or of another TOML file of the data directory); {} when there is none."""
    path = home / name
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML ({error}): mend or remove that file.") from error
    except NotADirectoryError as error:
        raise StorageFailed(f"{home} is not a folder: set MEMOS_HOME to a folder that you may write to.") from error
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read ({error.strerror}): check its permissions.") from error


def write_config(home: Path, name: str, value: str | int | None) -> None:
    """Set one key of config.toml, or of the 0600 keys file for secrets; None removes it. Atomic.

    Raises:
        InvalidInput: the key is not a setting that config.toml may hold.
        StorageFailed: the file could not be written.
    """
    import tomli_w  # off the bridge's path: only a command that changes settings needs a writer

    if name not in SECRET_KEYS and (name not in _BY_NAME or name == "home"):
        known = ", ".join([d.name for d in DECLARED if d.name != "home"] + list(SECRET_KEYS))
        raise InvalidInput(f"There is no setting {name!r}: use one of {known}.", field=name)
    file = KEYS_FILE if name in SECRET_KEYS else CONFIG_FILE
    content = read_config(home, file)
    if value is None:
        content.pop(name, None)
    else:
        content[name] = value if name in SECRET_KEYS else _typed(_BY_NAME[name], value, "the command")
    path, fresh = home / file, home / f".{file}.new"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as out:
            tomli_w.dump(content, out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(fresh, path)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written ({error.strerror}): check space and permissions.") from error


def pin_store_settings(settings: Settings) -> None:
    """Keep store settings that came from the environment when the data directory is made, and the key they need."""
    for declared in DECLARED:
        if declared.kind == "store" and settings.sources.get(declared.name) in ("environment", "command line"):
            write_config(settings.home, declared.name, settings.value(declared.name))
            key = asked.environment().get("OPENAI_API_KEY")
            if key and declared.name == "embedder" and str(settings.value(declared.name)).startswith("openai:"):
                write_config(settings.home, "openai_api_key", key)  # the next host to start a kernel may not have it
            if declared.name in ("llm", "model"):
                name = f"{declared.name}_api_key"
                if key := asked.environment().get(name.upper()):
                    write_config(settings.home, name, key)


def secret(home: Path, name: str) -> str | None:
    """A key from the 0600 keys file, or from the environment variable of its name."""
    found = read_config(home, KEYS_FILE).get(name) or asked.environment().get(name.upper())
    return str(found) if found else None


def _home(given: Mapping[str, str], env: Mapping[str, str]) -> tuple[Path, str]:
    for value, source in ((given.get("home"), "command line"), (env.get("MEMOS_HOME"), "environment")):
        if value:
            if "\0" in value:
                raise InvalidInput("MEMOS_HOME contains a NUL character: give a folder's path.", field="home")
            return Path(value).expanduser().absolute(), source
    return Path(asked.default_home(env=env)), "default"


def _resolve(
    declared: Declared, given: Mapping[str, str], env: Mapping[str, str], config: Mapping[str, Any], fresh: bool
) -> tuple[Any, str]:
    asked = [(given.get(declared.name), "command line"), (env.get(declared.variable), "environment")]
    kept = [(config.get(declared.name), CONFIG_FILE)]
    order = asked + kept if declared.kind == "connection" else kept + (asked if fresh else [])
    for value, source in order:
        if value not in (None, ""):
            return value, source
    return declared.default, "default"


def _typed(declared: Declared, value: Any, source: str) -> str | int | None:
    if isinstance(declared.default, int):
        return _whole_number(declared, value, source)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{declared.name} from {source} must be text, not {value!r}.", field=declared.name)
    if declared.name == "tools" and value not in ("core", "all"):
        raise InvalidInput(f"tools from {source} must be 'core' or 'all', not {value!r}.", field="tools")
    choices = CHOICES.get(declared.name)
    if choices is not None and value not in choices:
        known = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise InvalidInput(f"{declared.name} from {source} must be {known}, not {value!r}.", field=declared.name)
    if declared.name == "model" and value is not None and source != CONFIG_FILE:
        _check_local_or_served(value, source)
    if declared.name in ("embedder", "reranker", "heat"):
        _check_value(declared, str(value), source)
    return None if value is None else str(value)


def _whole_number(declared: Declared, value: Any, source: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{declared.name} from {source} must be a whole number, not {value!r}.") from None
    if number < 0:
        raise InvalidInput(f"{declared.name} from {source} must not be below 0, and is {number}.")
    if declared.name == "background_share" and not 1 <= number <= 100:
        raise InvalidInput(f"{declared.name} from {source} is a share of 1 to 100 percent, and not {number}.")
    if number > PERCENT and declared.name == "merge_from":
        raise InvalidInput(f"{declared.name} from {source} is a percentage, at most {PERCENT}, not {number}.")
    return number


def _check_local_or_served(model: str, source: str) -> None:
    problem = model_names.model_problem(model)
    if problem is not None:
        raise InvalidInput(f"model from {source}: {problem}", field="model")


def _check_value(declared: Declared, value: str, source: str) -> None:
    """Refuse constants, or a model, that cannot be, before the store is held to it.

    A model that config.toml names is looked at when it is loaded: a store whose embedder is gone is read by its words.

    Raises:
        InvalidInput: no such constant or model, or its folder is not there.
    """
    if declared.name == "heat":
        heat_constants.read(value)
        return
    if declared.name == "embedder" and source not in ("environment", "command line"):
        return  # it was loaded before it was written there
    try:
        if declared.name == "reranker":
            model = model_names.check_reranker(value)
        else:
            kind, rest = model_names.check_embedder(value)
            model = rest if kind == model_names.TRANSFORMERS else None
    except InvalidInput as error:
        raise InvalidInput(f"{declared.name} from {source}: {error}", field=declared.name) from None
    problem = model_names.folder_problem(model) if model and source != CONFIG_FILE else None
    if problem:
        raise InvalidInput(f"{declared.name} from {source}: {problem}", field=declared.name)
