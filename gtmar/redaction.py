"""Credentials kept out of whatever is printed or recorded: URLs, errors that quote them, options.

A URL shows its scheme, host and path. User and password go, and so do the fragment and all values
of its query but a table's name and version: which others are secret differs by store.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["is_remote", "redacted", "without_credentials"]

#: Schemes known by name, which are URLs with one slash, or none, too: paths lose the second one.
_SCHEMES = (
    "https?|s3[an]?|gs|gcs|azure|az|adl|abfss?|wasbs?|r2|oss|cos|hf|hdfs|ftps?|sftp|ssh|file|ray|"
    "postgres(?:ql)?|mysql|mariadb|mssql|oracle|snowflake|redshift|bigquery|trino|databricks|"
    "sqlite|duckdb|iceberg|delta|mongodb|redis|amqps?|jdbc"
)
_END = re.compile(r"[\s\"'<>`{}|^]|\\[nrtx]|$")
_URL = re.compile(rf"(?:delta:)?(?:[a-z][a-z0-9+.\-]*://|\b(?:{_SCHEMES})(?:\+\w+)?:/?(?!/))", re.I)
#: Where the container stands before the host's @.
_CONTAINERS = re.compile(r"(?:delta:)?(?:abfs|wasb)s?:", re.I)
#: Keys of a query whose values anybody may see.
_PUBLIC = ("table", "version")
#: A secret that stands beside its name, in a query, an option's text or a connection string.
_NAMED = re.compile(
    r"""((?:[\w.\-]*(?:secret|token|passw(?:or)?d|pwd|signature|credential|api[_\-]?key|account[_\-]?key
    |access[_\-]?key(?:[_\-]?id)?|shared[_\-]?access)[\w.\-]*|\bsig|\bsas|x-amz-[\w\-]+|x-goog-[\w\-]+)
    ["']?\s*[=:]\s*)("[^"]*"|'[^']*'|(?:bearer\s+)?[^\s&;,"'<>(){}\[\]]+)""",
    re.I | re.X,
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=\-]{8,}", re.I)
#: Variables of the environment that hold secrets.
_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|CONNECTION_STR"
)
#: Shorter than this a part of a URL is replaced within the URL alone: it may be a word.
_TELLING = 4
_GONE = "..."


def without_credentials(location: str) -> str:
    """Take user, password and query out of a URL, but for a table's name; leave paths alone.

    Examples
    --------
    >>> without_credentials("s3://key:secret@bucket/a.parquet?token=x")
    's3://bucket/a.parquet'
    >>> without_credentials("duckdb:///crm.db?table=accounts")
    'duckdb:///crm.db?table=accounts'
    >>> without_credentials("abfss://container@account.dfs.core.windows.net/a")
    'abfss://container@account.dfs.core.windows.net/a'
    """
    start = _URL.match(location)
    if start is None:
        return location
    head, (user, host, path, query, fragment) = start[0], _parts(location[start.end() :])
    container = user.partition(":")[0] if _CONTAINERS.match(head) else ""
    kept = [item for item in re.split("[&;]", query) if item.partition("=")[0] in _PUBLIC]
    # A path with a question mark in it is no URL where nothing else says so.
    if not head.endswith("//") and not user and not query and not fragment:
        return location
    # Parameters of a path are a query by another sign.
    whole = head + (f"{container}@" if container else "") + host + re.sub(r";[^/]*", "", path)
    return whole + ("?" + "&".join(kept) if kept else "")


def _parts(rest: str) -> tuple[str, str, str, str, str]:
    """Split what follows a URL's scheme: user and password, host, path, query, fragment.

    Nothing is refused, and a password may hold what should have been escaped there.
    """
    end = re.search(r"[/?#]", rest)
    authority = rest[: end.start()] if end else rest
    at = authority.rfind("@")
    if at < 0 and "@" in rest and re.search(r":(?!\d*$)", authority) and authority[:1] != "[":
        # What looks like a port is none: the password goes on, up to the last @.
        at = rest.rfind("@")
    user, rest = (rest[:at], rest[at + 1 :]) if at >= 0 else ("", rest)
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    return user, host, slash + path, query, fragment


def redacted(text: str, *locations: str, foreign: bool = False) -> str:
    """Take credentials out of a text.

    Parameters
    ----------
    text
        The text; every URL in it is shown as `without_credentials` has it.
    locations
        What was given as locations: parts of them that are secret go wherever they stand.
    foreign
        Whether a library wrote it: then values beside a name such as ``token`` go, and those of the
        environment's variables that are named so. In gtmar's own texts such a name is a column's.

    Examples
    --------
    >>> redacted("GET http://me:pw@h/a?sig=x failed")
    'GET http://h/a failed'
    >>> redacted("{'session_token': 'abc'}", foreign=True)
    "{'session_token': ...}"
    >>> redacted("no key sig=abcd", "http://h/a?sig=abcd")
    'no key sig=...'
    """
    for location in locations:
        if _URL.match(location):
            text = text.replace(location, without_credentials(location))
    held = {secret for location in locations for secret in _secrets(location)}
    if foreign:
        held |= {
            value
            for name, value in os.environ.items()
            if len(value) >= 2 * _TELLING and _VARIABLE.search(name.upper())
        }
    for secret in sorted(held, key=len, reverse=True):
        text = text.replace(secret, _GONE)
    if "://" in text or _URL.search(text):
        text = "".join(_words(text))
    if foreign:
        text = _BEARER.sub(rf"\1{_GONE}", _NAMED.sub(rf"\1{_GONE}", text))
    return text


def _words(text: str) -> Iterable[str]:
    """Give a text in pieces, each URL in it without credentials."""
    at = 0
    for found in _URL.finditer(text):
        if found.start() < at:
            continue
        end = _END.search(text, found.end())
        stop = end.start() if end else len(text)
        url = text[found.start() : stop]
        tail = url[len(url.rstrip(".,:;)")) :]
        yield text[at : found.start()]
        yield without_credentials(url.removesuffix(tail)) + tail
        at = stop
    yield text[at:]


def _secrets(location: str) -> Iterable[str]:
    """Give the parts of a location that are secret, as given, decoded and encoded."""
    start = _URL.match(location)
    if start is None:
        return
    user, _, path, query, fragment = _parts(location[start.end() :])
    password = user.partition(":")[2] if _CONTAINERS.match(start[0]) or ":" in user else user
    pairs = [*re.split("[&;]", query), *re.split("[&;]", fragment), *re.findall(";([^/;]*)", path)]
    items = [item.partition("=") for item in pairs]
    values = [value or key for key, _, value in items if key not in _PUBLIC]
    pieces = re.split("[/?#]", password)
    for part in (user if ":" in user else "", password, *pieces, fragment, *values):
        for form in (part, unquote(part), quote(part), quote(part, safe="")):
            if len(form) >= _TELLING:
                yield form


def is_remote(location: str) -> bool:
    r"""Whether to open a location reaches beyond this machine's files.

    Examples
    --------
    >>> [is_remote(each) for each in ("a.parquet", "duckdb:///a.db?table=t", "s3://b/a", r"\\h\a")]
    [False, False, True, True]
    """
    bare = location.removeprefix("delta:")
    if bare.startswith(("//", "\\\\", "/\\", "\\/")):
        return True
    start = _URL.match(bare)
    if start is None:
        return False
    local = ("duckdb:///", "file:///", "sqlite:///")
    if bare.lower().startswith(local):
        return bare.split(":", 1)[1].startswith(("/////", "///\\\\"))
    return start[0].endswith("//") or (os.name == "nt" and len(start[0]) > 2)
