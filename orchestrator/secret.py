"""A text that stays in memory, whoever prints what it is part of.

Secrets do not get into texts by way of us. Others may put them there: a service that repeats what
it was sent, a library that quotes what it could not read. `blot` takes them out of what is about to
be written, and is the last line of defence, never the first.
"""

import hmac
import json
from typing import NoReturn, Self
from urllib.parse import quote
from weakref import WeakValueDictionary

LEAST_BLOTTED = 6
"""Characters of the shortest secret that is blotted out: shorter ones stand in many a word."""

_HIDDEN = "***"


class Secret:
    """A text that is never shown: not by repr, str, format or a log, and it cannot be pickled."""

    __slots__ = ("__weakref__", "_forms", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._forms = _forms_of(value)
        _living[id(self)] = self

    def reveal(self) -> str:
        """Return the value, for the one place that sends it or signs with it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})"

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._bytes(), other._bytes())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def _bytes(self) -> bytes:
        # What came over a wire may be no text.
        return self._value.encode(errors="surrogatepass")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret stays in memory and is not pickled")


def _forms_of(value: str) -> tuple[str, ...]:
    """Return a text as others may spell it: plain, in JSON, in Python, in an address."""
    if len(value) < LEAST_BLOTTED:
        return ()
    if value.isascii() and value.isalnum():
        return (value,)
    loose = json.dumps(value, ensure_ascii=False)[1:-1]
    spelled = (value, loose, json.dumps(value)[1:-1], repr(value)[1:-1])
    return tuple(dict.fromkeys((*spelled, quote(value, safe="", errors="surrogatepass"))))


# By identity: equal secrets are one to a set, and it would forget both with the first.
_living: WeakValueDictionary[int, Secret] = WeakValueDictionary()


def blot(text: str) -> str:
    """Return `text` without any secret that this process holds."""
    for secret in list(_living.values()):
        for form in secret._forms:  # noqa: SLF001 - of this module
            if form in text:
                text = text.replace(form, _HIDDEN)
    return text
