"""Reads specs from YAML and JSON with line numbers, writes them, and makes their JSON Schema.

YAML is read by the core schema of YAML 1.2, so that ``no``, ``on`` and ``12:30`` are texts, as in
names of categories. Repeated keys are refused. So is what lets a short file expand to a large one:
aliases of mappings and lists, merge keys, and more levels, entries or bytes than a spec needs. A
user's file, with its comments, is never changed; writing makes new text. `import_specs` converts
files of other tools, which are validated here.
"""

from __future__ import annotations

import json
import re
import warnings
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from gtmar.documents import HALF, MOST_LEVELS, is_text, parse_json, read_text, with_leaves
from gtmar.errors import SpecError, SpecWarning, UsageError, culprits, did_you_mean
from gtmar.spec.encoders import SpecModel
from gtmar.spec.ids import calibration_of
from gtmar.spec.import_specs import Draft, from_csv, from_tools
from gtmar.spec.model import ProblemsError, ScoringSpec, Tier, tier_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails

__all__ = [
    "at_line",
    "commented_yaml",
    "json_schema",
    "known_keys",
    "load",
    "parse",
    "part_of",
    "read_with_lines",
    "reading_dates",
    "real_place",
    "retiered",
    "reweighed",
    "schema_of",
    "to_json",
    "to_yaml",
]

_Place = tuple[str | int, ...]
M = TypeVar("M", bound=SpecModel)

#: Most keys, values and items of a document.
_MOST_NODES = 200_000
#: Most problems that a message lists, and most unknown keys for which it suggests a name. The
#: error's `problems` has all of them.
_LISTED, _GUESSED = 200, 20


#: The scalars of YAML 1.2's core schema other than text: tag, pattern, first characters.
_CORE_SCALARS = tuple(
    (f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))
    for tag, pattern, first in (
        ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
        ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
        ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
        ("float", r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+."),
        ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    )
)


class _CoreLoader(yaml.SafeLoader):
    """Safe loader that knows only the scalars of YAML 1.2's core schema, and limits documents."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._levels = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node as PyYAML does, after checking the limits on nodes and levels."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call] # so in its stubs
        mark: Any = event.start_mark
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_MOST_NODES:,} keys and values", problem_mark=mark
            )
        if self._levels > MOST_LEVELS:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MOST_LEVELS} levels of lists and mappings within each other",
                problem_mark=mark,
            )
        self._levels += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._levels -= 1
        if isinstance(event, yaml.AliasEvent) and not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(
                problem=f"*{event.anchor} is an alias of a mapping or list; write it out",
                problem_mark=mark,
            )
        return node


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCALARS:
    _CoreLoader.add_implicit_resolver(_tag, _pattern, _first)


# YAML 1.1 reads 010 as octal eight, but a weight is a decimal number.
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(str(node.value)))


def load(path: str | Path) -> ScoringSpec:
    """Read a spec from a YAML or JSON file, or from weights in a ``.csv`` file.

    Raises
    ------
    SpecError
        If the file can't be read, isn't YAML, JSON or CSV, or is no valid spec. The message lists
        every problem with its line.

    Warns
    -----
    SpecWarning
        If keys of another tool's file were left out, or the calibration was fitted to other scores.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except ValueError as err:
        raise SpecError(
            f'spec "{path}": {err}', hint="gtmar init --data TABLE -o spec.yaml makes a spec"
        ) from err
    if path.suffix.lower() == ".csv":
        return _validated(from_csv(text, name=path.stem), source=str(path))
    spec, draft = _read(text, source=str(path))
    if draft.passed_over:
        warnings.warn(
            f'spec "{path}": passed over, since a spec has no use for it: '
            f"{culprits(draft.passed_over, limit=len(draft.passed_over))}",
            SpecWarning,
            stacklevel=2,
        )
    if spec.calibration is not None and calibration_of(spec) is None:
        warnings.warn(
            f'spec "{path}": its calibration was fitted to other scores (weights, encoders or base '
            "have changed since), so there are no probabilities; gtmar calibrate fits it anew",
            SpecWarning,
            stacklevel=2,
        )
    return spec


def parse(text: str, *, source: str = "spec") -> ScoringSpec:
    """Read a spec from YAML or JSON text; `source` names it in errors.

    JSON may have the form of another tool, see `import_specs.from_tools`.

    Raises
    ------
    SpecError
        As for `load`.
    """
    return _read(text, source=source)[0]


def _read(text: str, *, source: str) -> tuple[ScoringSpec, Draft]:
    """Return the spec of a text, and its data as they were before validation.

    Specs of a journal are JSON. Only an error needs the lines of keys, and to find them takes many
    times as long as all else, so they are looked for once there is an error.
    """
    if _is_json(text):
        with suppress(SpecError, ValueError):
            data = _json(text, source, pairs=partial(_once, source))
            assert isinstance(data, dict)
            draft = from_tools(data, {}, name=Path(source).stem)
            return _validated(draft, source=source), draft
    draft = _draft(text, source=source)
    return _validated(draft, source=source), draft


def _is_json(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n").startswith("{")


def _draft(text: str, *, source: str) -> Draft:
    """Parse text to a spec's data with the lines of keys, converted if another tool wrote it."""
    data, lines = read_with_lines(text, source)
    if not isinstance(data, dict):
        raise SpecError(
            f"{source}: a spec is a mapping with model, features and tiers, "
            f"got {'nothing' if data is None else type(data).__name__}"
        )
    if _is_json(text):
        return from_tools(data, lines, name=Path(source).stem)
    return Draft(data, lines)


def _validated(draft: Draft, *, source: str) -> ScoringSpec:
    """Return the spec of a draft, or raise a `SpecError` with all of its problems."""
    problems = [
        (line, f"{source}:{line}: {text}" if line else f"{source}: {text}")
        for line, text in draft.problems
    ]
    if problems and not draft.data["features"]:
        raise _refusal(problems, source=source, hint=draft.hint)
    try:
        spec = ScoringSpec.model_validate(draft.data)
    except ValidationError as err:
        problems += _findings(err, source=source, lines=draft.lines, data=draft.data)
        raise _refusal(problems, source=source, hint=draft.hint) from err
    if problems:
        raise _refusal(problems, source=source, hint=draft.hint)
    return spec


def read_with_lines(text: str, source: str) -> tuple[object, dict[_Place, int]]:
    """Parse YAML or JSON to plain data, and return the line of each path of keys.

    Raises
    ------
    SpecError
        If the text is neither YAML nor JSON, repeats a key, or exceeds a limit.
    """
    lines: dict[_Place, int] = {}
    # JSON is YAML except for surrogate escapes and tabs as indentation, so YAML gives its lines.
    is_json = _is_json(text)
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
        # In JSON a pair of surrogates is a character, so the JSON parser checks them instead.
        strict = not is_json
        as_yaml = _plain(root, (), lines, source, strict=strict) if root is not None else None
    except SpecError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, AttributeError) as err:
        if is_json:
            with suppress(json.JSONDecodeError):
                return _json(text, source, pairs=partial(_once, source)), {}
        mark = getattr(err, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        what = getattr(err, "problem", None) or str(err)
        raise SpecError(f"{where}: not readable as YAML or JSON: {what}") from err
    if is_json:
        with suppress(json.JSONDecodeError):
            return _json(text, source), lines
        if not is_text(as_yaml):
            raise SpecError(f"{source}: {HALF}")
    return as_yaml, lines


def _json(
    text: str, source: str, pairs: Callable[[list[tuple[str, Any]]], object] | None = None
) -> object:
    try:
        return parse_json(text, pairs=pairs)
    except (json.JSONDecodeError, SpecError):
        raise
    except ValueError as err:
        raise SpecError(f"{source}: not readable as YAML or JSON: {err}") from err


def _once(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of JSON's pairs; raise `SpecError` for a repeated key."""
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise SpecError(f'{source}: key "{key}" stands twice')
        data[key] = value
    return data


def _plain(
    node: yaml.Node, path: _Place, lines: dict[_Place, int], source: str, *, strict: bool
) -> object:
    """Convert YAML nodes to plain data, and record the line of each path of keys."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                where = f"{source}:{key_node.start_mark.line + 1}"
                raise SpecError(f"{where}: a key must be a word, got a list or mapping")
            key = str(key_node.value)
            if strict and not is_text(key):
                raise SpecError(f'{source}:{key_node.start_mark.line + 1}: key "{key}": {HALF}')
            if key == "<<" and key_node.style is None:
                where = f"{source}:{key_node.start_mark.line + 1}"
                raise SpecError(f"{where}: merge keys (<<) are not read; write the keys out")
            if key in data:
                raise SpecError(
                    f'{source}:{key_node.start_mark.line + 1}: key "{key}" stands twice'
                )
            data[key] = _plain(value_node, (*path, key), lines, source, strict=strict)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return data
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(item, (*path, i), lines, source, strict=strict)
            for i, item in enumerate(node.value)
        ]
    if path == ("version",):
        return str(node.value)  # 3.10 is a version and no number
    if strict and not is_text(node.value):
        raise _unreadable_value(node, path, source, HALF)
    try:
        value: object = _CoreLoader("").construct_object(node)
    except ValueError as err:
        raise _unreadable_value(node, path, source, "a number of thousands of digits") from err
    return value


def _unreadable_value(node: yaml.Node, path: _Place, source: str, problem: str) -> SpecError:
    name = ".".join(map(str, path)) or "spec"
    return SpecError(f"{source}:{node.start_mark.line + 1}: {name}: {problem}")


def _findings(
    err: ValidationError, *, source: str, lines: Mapping[_Place, int], data: object
) -> list[tuple[int, str]]:
    """Return pydantic's findings as line and message, which names file, line and path of keys."""
    findings = []
    for path, problem in _problems(err, data):
        name = ".".join(str(part) for part in path) or "spec"
        findings.append(
            (_line_of(path, lines), f"{at_line(source, path, lines)}: {name}: {problem}")
        )
    return findings


def _line_of(path: _Place, lines: Mapping[_Place, int]) -> int:
    """Return the line of a path of keys, or of its nearest known parent; 0 if none is known."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def at_line(source: str, path: _Place, lines: Mapping[_Place, int]) -> str:
    """Return ``source:line`` of a path of keys in a document; the source alone without a line."""
    line = _line_of(path, lines)
    return f"{source}:{line}" if line else source


def _refusal(findings: list[tuple[int, str]], *, source: str, hint: str | None = None) -> SpecError:
    """Return one error with all problems, sorted by line."""
    texts = [text for _, text in sorted(set(findings))]
    if len(texts) == 1:
        return SpecError(texts[0], hint=hint, problems=texts)
    listing = [f"  - {text}" for text in texts[:_LISTED]]
    if len(texts) > _LISTED:
        listing.append(f"  - and {len(texts) - _LISTED:,} more")
    return SpecError(f"{source}: {len(texts)} problems", hint=hint, listing=listing, problems=texts)


def _problems(err: ValidationError, data: object) -> Iterator[tuple[_Place, str]]:
    """Yield the path of keys and the message of each problem; a finding may hold several."""
    details = err.errors(include_url=False)
    guessed = 0
    for detail in details:
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ProblemsError):
            yield from cause.problems
        else:
            guessed += detail["type"] == "extra_forbidden"
            problem = _problem(detail, guess=guessed <= _GUESSED)
            yield real_place(detail["loc"], data), problem
    # pydantic validates the spec as a whole only if all its parts are valid. Tiers can be checked
    # even if other parts aren't.
    places = [detail["loc"] for detail in details]
    if isinstance(data, dict) and all(p and p[0] not in ("max_score", "tiers") for p in places):
        with suppress(ValidationError):
            tiers = TypeAdapter(dict[str, Tier]).validate_python(data.get("tiers"))
            if tiers:
                yield from tier_problems(tiers, data.get("max_score", 100))


def real_place(loc: _Place, data: object) -> _Place:
    """Return a pydantic location as a path of keys, without the names of union branches."""
    path: list[str | int] = []
    at: Any = data
    for i, part in enumerate(loc):
        listed = isinstance(at, list) and isinstance(part, int) and part < len(at)
        if listed or (isinstance(at, dict) and part in at):
            at = at[part]
        elif i + 1 < len(loc) or not isinstance(at, dict):
            continue
        path.append(part)
    return tuple(path)


def _problem(detail: ErrorDetails, *, guess: bool = True) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        key = str(detail["loc"][-1])
        known = known_keys(ScoringSpec) - {key} if guess else ()
        return f'unknown key "{key}"' + did_you_mean(key, known, before="; ")
    if kind == "missing":
        return f'"{detail["loc"][-1]}" is required'
    if kind == "union_tag_invalid":
        expected = detail.get("ctx", {}).get("expected_tags", "")
        return f"no such encoder kind; expected one of {expected}"
    message = detail["msg"].removeprefix("Value error, ")
    shown = detail["input"]
    if kind == "value_error" or isinstance(shown, dict | list):
        return message
    return f"{message}, got {culprits([shown]) if isinstance(shown, str) else shown}"


@cache
def known_keys(model: type[SpecModel]) -> frozenset[str]:
    """Return the keys of a document model and of all its parts."""
    schema = model.model_json_schema()
    parts = (schema, *schema["$defs"].values())
    return frozenset(key for part in parts for key in part.get("properties", ()))


def schema_of(model: type[SpecModel], title: str) -> dict[str, Any]:
    """Return the JSON Schema of a document model, with a title."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return {**schema, "$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a spec, with which editors complete and validate YAML.

    Put ``# yaml-language-server: $schema=gtmar.schema.json`` on a spec's first line, after
    ``gtmar spec schema > gtmar.schema.json``.
    """
    return schema_of(ScoringSpec, "gtmar scoring spec")


def reweighed(spec: ScoringSpec, weights: Mapping[str, int]) -> ScoringSpec:
    """Return the spec with other weights, given by term; other terms keep theirs.

    Raises
    ------
    SpecError
        If a name is no term of the spec, or a weight is outside its bounds.
    """
    unknown = [name for name in weights if name not in spec.weights]
    if unknown:
        raise SpecError(
            f'spec "{spec.model}" has no weight named {culprits(unknown)}',
            hint=did_you_mean(unknown[0], spec.weights) or None,
        )
    try:
        return spec.with_weights(weights)
    except ValidationError as err:
        source = f'spec "{spec.model}"'
        findings = _findings(err, source=source, lines={}, data=spec.model_dump())
        raise _refusal(findings, source=source) from err


def retiered(spec: ScoringSpec, tiers: Mapping[str, Mapping[str, float]]) -> ScoringSpec:
    """Return the spec with other tiers, from the highest down, each with its rule or edges.

    Raises
    ------
    SpecError
        If the tiers don't fit together, or don't fit the rest of the spec.
    """
    plain = spec.model_dump(by_alias=True) | {"tiers": {n: dict(t) for n, t in tiers.items()}}
    try:
        return ScoringSpec.model_validate(plain)
    except ValidationError as err:
        source = f'spec "{spec.model}" with other tiers'
        raise _refusal(_findings(err, source=source, lines={}, data=plain), source=source) from err


def _short(spec: ScoringSpec) -> dict[str, Any]:
    """Return a spec's data without defaults, except `max_score`."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"model": data.pop("model"), "max_score": spec.max_score, **data}


def to_json(spec: ScoringSpec) -> str:
    """Return a spec as JSON text that `parse` reads back to an equal spec."""
    return json.dumps(_short(spec), indent=2, ensure_ascii=False) + "\n"


def reading_dates(spec: ScoringSpec | str | Path, date_format: str | None) -> ScoringSpec:
    """Return a spec, or that of a file, with another format of text dates; None keeps its own.

    Raises
    ------
    SpecError
        If the file is no readable spec.
    UsageError
        If `date_format` is no date format.
    """
    if not isinstance(spec, ScoringSpec):
        spec = load(spec)
    if date_format is None:
        return spec
    try:
        return ScoringSpec.model_validate({**spec.model_dump(), "date_format": date_format})
    except ValidationError as err:
        reason = str(err.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--date-format: {reason}", hint="--date-format %m/%d/%Y") from err


def part_of(model: type[M], given: Mapping[str, Any] | None, *, whose: str) -> M | None:
    """Return a part of a spec, such as its `read`, from plain data; None for None.

    Raises
    ------
    UsageError
        If the data is invalid; `whose` is the argument's name in the message.
    """
    try:
        return None if given is None else model.model_validate(given)
    except ValidationError as err:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in err.errors()]
        keys = ", ".join(model.model_fields)
        raise UsageError(f"{whose}: {'; '.join(problems)}", hint=f"its keys are {keys}") from err


def to_yaml(spec: ScoringSpec, *, heading: str = "") -> str:
    """Return a spec as YAML text that `parse` reads back to an equal spec.

    Parameters
    ----------
    heading
        Comment lines at the top, without ``#``.
    """
    return commented_yaml(with_leaves(_short(spec), _whole_number), heading=heading)


def _whole_number(value: Any) -> Any:
    """Return 55 for 55.0, which is shorter and reads back the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ---- commented YAML ------------------------------------------------------------------------------

#: Characters that YAML reads as line ends, besides the usual ones.
_LINE_ENDS = "\x85\u2028\u2029"
#: Line width, so large that a feature stays on one line.
_ONE_LINE = 10_000
#: Comment above a key.
_NOTES = {
    "groups": "Features whose points are summed first, and cut at min and max",
    "veto": "Whom a rule keeps out of the tiers that are better",
    "tiers": "min included, max excluded",
    "guardrails": "What a kept change must not break",
    "no_worse": "In which a kept change must not be worse than the start",
    "constraints": "What the weights hold together",
    "calibration": "How many accounts with such a score left; fitted, not written by hand",
    "fitted": "Encoders that were fitted to outcomes, as they were then; not by hand",
    "chosen_from": "Columns that features were chosen from by outcomes; not by hand",
    "segments": "Whose accounts are looked at apart",
}


def commented_yaml(
    data: Mapping[str, Any],
    *,
    heading: str = "",
    comments: Mapping[str, str] = MappingProxyType({}),
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a spec's plain data as commented YAML.

    Parameters
    ----------
    data
        The spec's plain data.
    heading
        Comment lines at the top, without ``#``.
    comments
        Comment above each feature, of one or more lines.
    left_out
        Reason by column, for columns that became no feature; listed below the features.
    """
    parts = [_commented(heading)]
    for key, value in data.items():
        if key == "features":
            parts.append("\nfeatures:\n")
            for name, feature in value.items():
                comment = _indented(_commented(comments[name])) if name in comments else ""
                parts.append(comment + _indented(_dump({name: _laid_out(feature)})))
            if left_out:
                parts.append("  # Left out:\n")
                parts += [f"  #   {_one_line(n)}: {_one_line(r)}\n" for n, r in left_out.items()]
        else:
            note = f"\n# {_NOTES[key]}\n" if key in _NOTES else ""
            parts.append(note + _dump({key: _shaped(key, value)}))
    return "".join(parts)


def _shaped(key: str, value: Any) -> Any:
    """Mark the mappings of a part of the spec that are written on one line."""
    if key in ("tiers", "groups"):
        return {name: _Flow(each) for name, each in value.items()}
    if key in ("guardrails", "veto"):
        return [_Flow(each) for each in value]
    if key == "calibration":
        return {**value, "steps": [_Flow(step) for step in value["steps"]]}
    return _Flow(value) if isinstance(value, dict) and key != "fitted" else value


def _laid_out(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mark a feature to be written on one line, or each of its bins."""
    encode = feature.get("encode")
    if not isinstance(encode, dict) or encode.get("kind") != "bins":
        return _Flow(feature)
    bins = {key: _Flow(weight) for key, weight in encode["bins"].items()}
    return {**feature, "encode": {**encode, "bins": bins}}


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Safe dumper that writes `_Flow` on one line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Return a text node, double-quoted if the text has unusual line ends."""
    style = '"' if any(end in text for end in _LINE_ENDS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
# Text that `_CoreLoader` would read as a number, flag or null must be quoted.
for _tag, _pattern, _first in _CORE_SCALARS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_representer(
    _Flow,
    lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True),
)


def _dump(data: Mapping[str, Any]) -> str:
    return str(
        yaml.dump(
            data,
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=_ONE_LINE,
            default_flow_style=False,
        )
    )


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.removesuffix("\n").split("\n"))


def _commented(text: str) -> str:
    return "".join(f"# {_one_line(line)}".rstrip() + "\n" for line in text.splitlines())


def _one_line(text: str) -> str:
    """Return text on one line, so that a name from a table can't end its comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
