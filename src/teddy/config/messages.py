"""Hydra's and OmegaConf's errors as one sentence that names the key, the file and the remedy."""

from __future__ import annotations

import difflib
import re
import traceback

from teddy.config.paths import config_dir, options
from teddy.config.schema import EvaluationConfig, ProtocolConfig, SearchConfig, TeddyConfig, walk

_HELP = "'python -m teddy --help' lists groups and experiments"
_FRAME = re.compile(r"In '|full_key:|\w+_type=|Error merging override|.*raised while composing config:?$")
_UNKNOWN = r"Key '([^']+)' (?:is not in struct|not in '\w+')|override '([^']+)'\. No match in the defaults"
_KINDS = {"Integer": "a whole number", "Float": "a number", "String": "a word"}
# What a library says, and what we say: {0}, {1} are the groups, {key} is the key's full name, {place} its file.
_SENTENCES = (
    (r"Ambiguous value for argument '(\+[^']*)'", "{0} stands for several values: add -m to run each of them."),
    (
        r"Ambiguous value for argument '([^=']+)=([^']*)'",
        "{0}={1} stands for several values: add -m to run each of them, or write '{0}=[{1}]' for a list.",
    ),
    (r"Sweep parameters '([^']+)' requires --multirun", "{0} stands for several values: add -m to run each of them."),
    (
        r"Could not override '(experiment|sweep|search)'",
        f"{{0}} has no default to replace: write +{{0}}=NAME; {_HELP}.",
    ),
    (r"An item is already at '([^']+)'", "{0} exists already: write it without the +."),
    (r"not Optional|Incompatible value 'None'", "{key}{place} must have a value, not null."),
    (r"is not a ListConfig, list or tuple", "{key}{place} must be a list such as [a,b]."),
    (
        r"Config group override must be",
        f"A group of conf/ takes the name of one of its files, or a list of them; {_HELP}.",
    ),
    (r"missing mandatory value: ", "{key} has no value; set it in its file or write {key}=VALUE."),
    (r"Value '(.*)' is not a valid bool", "{key}{place} must be true or false, not '{0}'."),
)


def is_about_config(error: Exception) -> bool:
    """Whether Hydra, OmegaConf or the YAML parser complains about the user's words or files."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, HydraException | OmegaConfBaseException) or hasattr(error, "problem_mark"):
        return True
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ValueError) and bool(modules) and modules[-1].startswith("hydra.")


def sentence(error: BaseException) -> str:
    """One line for a person, from an exception of the configuration libraries."""
    chain = _chain(error)
    text = "\n".join(map(str, chain))
    where = re.search(r"In '([^']+)':", text)
    place = f" in {_file(where[1])}" if where else ""
    full = re.search(r"full_key: (\S+)", text)
    key = full[1] if full else ""

    if mark := getattr(error, "problem_mark", None):  # the YAML parser's
        return f"{mark.name}, line {mark.line + 1}: {getattr(error, 'problem', None) or 'this is not YAML'}."
    if override := next((word for one in chain if (word := getattr(one, "override", None))), None):
        return f"'{override}' cannot be read; an override is KEY=VALUE, in quotes if it holds spaces or brackets."
    if absent := re.search(r"Could not (?:find|load) '([^']+)'", text):
        return _no_file(absent[1], place)
    for pattern, template in _SENTENCES:
        if match := re.search(pattern, text):
            return template.format(*match.groups(), key=key, place=place)
    if unknown := re.search(_UNKNOWN, text):
        return unknown_key(key or unknown[1] or unknown[2], place)
    if value := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        return f"{key}{place} must be {_KINDS.get(value[2], value[2])}, not '{value[1]}'."
    return _first_line(text, key, type(error).__name__, f" ({place.strip()})" if place else "")


def unknown_key(key: str, place: str = "") -> str:
    """The sentence for a key that does not exist, with the nearest one that does."""
    if key in ("experiment", "sweep") and place:
        return f"The file{place.removeprefix(' in')} must begin with the line '# @package _global_'."
    near = "" if key.startswith("hydra.") else _near(key, [_named_as(key, option) for option in known_keys()])
    return f"There is no key '{key}'{place}{near}; {_HELP}."


def known_keys() -> list[str]:
    """Every dotted key of the schema; ``*`` stands for a name that the user chooses."""
    evaluation = EvaluationConfig(protocols={"*": ProtocolConfig()})
    return [key for key, *_ in walk(TeddyConfig(evaluation=evaluation, search=SearchConfig()))]


def _no_file(name: str, place: str) -> str:
    group, _, option = name.rpartition("/")
    named = "" if place in ("", " in conf/config.yaml") else f", which is named{place}"
    known = options(group)
    choice = f"choose one of {', '.join(known)}" if known else _HELP
    return f"There is no config file '{name}'{named}{_near(option, known)}; {choice}."


def _first_line(text: str, key: str, otherwise: str, place: str) -> str:
    """The library's own message, without the lines around it."""
    lines = [re.sub(r"^In '[^']+': ", "", line.strip()) for line in text.split("\n")]
    first = next((line for line in lines if line and not _FRAME.match(line)), otherwise).rstrip(".:")
    override = re.search(r"Error merging override (\S+?)=", text)
    named = override[1] if override else key
    return f"{named}: {first}{place}." if named and named not in re.split(r"[\s']+", first) else f"{first}{place}."


def _file(name: str) -> str:
    """A config file for people: ours below ``conf/``, another by its path below ``--config-dir``."""
    return f"conf/{name}.yaml" if (config_dir() / f"{name}.yaml").is_file() else f"{name}.yaml"


def _named_as(key: str, option: str) -> str:
    """``option`` with the names that ``key`` has in the places of ``*``."""
    given = key.split(".")
    parts = enumerate(option.split("."))
    return ".".join(given[i] if part == "*" and i < len(given) else part for i, part in parts)


def _chain(error: BaseException) -> list[BaseException]:
    return [error, *(_chain(error.__cause__) if error.__cause__ else [])]


def _near(word: str, known: list[str]) -> str:
    namesakes = [one for one in known if one.split(".")[-1] == word.split(".")[-1]]
    close = difflib.get_close_matches(word, known, n=1) or namesakes
    return f"; did you mean '{close[0]}'?" if close else ""
