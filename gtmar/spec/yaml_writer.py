"""A new spec as YAML that people like to read: a heading, and a comment above each feature."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CORE_SCALARS", "commented_yaml"]

#: The scalars of YAML 1.2's core schema that aren't text: tag, form, first characters.
CORE_SCALARS = tuple(
    (f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))
    for tag, pattern, first in (
        ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
        ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
        ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
        ("float", r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+."),
        ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    )
)

#: Beside the usual ones.
_LINE_ENDS = "\x85\u2028\u2029"
#: A feature stands on one line, however long.
_ONE_LINE = 10_000


#: What stands above some keys.
_NOTES = {
    "groups": "Features whose points are summed first, and cut at min and max",
    "veto": "Whom a rule keeps out of the tiers that are better",
    "tiers": "min included, max excluded",
    "guardrails": "What a kept change must not break",
    "no_worse": "In which a kept change must not be worse than the start",
    "constraints": "What the weights hold together",
    "calibration": "How many accounts with such a score left; fitted, not written by hand",
    "fitted": "Encoders that were fitted to outcomes, as they were then; not by hand",
    "segments": "Whose accounts are looked at apart",
}


def commented_yaml(
    data: Mapping[str, Any],
    *,
    heading: str = "",
    comments: Mapping[str, str] = MappingProxyType({}),
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Write a spec's plain data as commented YAML.

    Parameters
    ----------
    heading
        Lines to stand at the top as comments.
    comments
        A comment by feature, of one line or more, to stand above it.
    left_out
        Columns that are no feature, with the reason; listed below the features.
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
        elif key in _NOTES:
            parts.append(f"\n# {_NOTES[key]}\n" + _dump({key: _by_line(key, value)}))
        else:
            parts.append(_dump({key: value}))
    return "".join(parts)


def _by_line(key: str, value: Any) -> Any:
    """Put each step of a table of probabilities, and each fitted encoder, on a line."""
    if key == "calibration":
        return _Block({**value, "steps": [_Flow(step) for step in value["steps"]]})
    return _Block(value) if key == "fitted" else value


def _laid_out(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put a feature on one line; with bins, each bin on one."""
    encode = feature.get("encode")
    if not isinstance(encode, dict) or encode.get("kind") != "bins":
        return _Flow(feature)
    bins = {key: _Flow(weight) for key, weight in encode["bins"].items()}
    return _Block({**feature, "encode": {**encode, "bins": bins}})


class _Block(dict[str, Any]):
    """A mapping of which each key has its line."""


class _Flow(dict[str, Any]):
    """A mapping that is written on one line, where it fits."""


class _Dumper(yaml.SafeDumper):
    """Safe dumper that knows `_Flow`."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Escape what YAML takes for the end of a line."""
    style = '"' if any(end in text for end in _LINE_ENDS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Block, yaml.SafeDumper.represent_dict)
# What our own reader takes for a number must be quoted where it is text.
for _tag, _pattern, _first in CORE_SCALARS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_representer(
    _Flow,
    lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True),
)


def _dump(data: Mapping[str, Any]) -> str:
    """Write keys in block style, and what they hold on one line."""
    shaped: dict[str, Any] = {
        key: value if isinstance(value, _Block) or not isinstance(value, dict) else _Flow(value)
        for key, value in data.items()
    }
    for key in {"tiers", "groups"}.intersection(data):
        shaped[key] = {name: _Flow(each) for name, each in data[key].items()}
    for key in {"guardrails", "veto"}.intersection(data):
        shaped[key] = [_Flow(each) for each in data[key]]
    if "calibration" in data:
        steps = [_Flow(step) for step in data["calibration"]["steps"]]
        shaped["calibration"] = {**data["calibration"], "steps": steps}
    return str(
        yaml.dump(
            shaped,
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
    """Keep a name from the table from breaking out of its comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
