"""Text that JSON and UTF-8 can carry. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def join_surrogates(text: str) -> str:
    r"""``text`` with the halves of each surrogate pair joined; a lone half becomes U+FFFD.

    >>> join_surrogates("caf\udce9"), join_surrogates("\ud83d\ude00") == "\U0001f600"
    ('caf\ufffd', True)
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def join_all_surrogates(value: object) -> object:
    """The same for every text in ``value``, keys of dicts included."""
    if isinstance(value, str):
        return join_surrogates(value)
    if isinstance(value, Mapping):
        return {join_all_surrogates(k): join_all_surrogates(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [join_all_surrogates(item) for item in value]
    return value
