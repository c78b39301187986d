"""What a VXP client signed, and whether it did: pure functions from header bytes to a system and the values it signed.

Nothing but the signed object is ever used: headers of earlier calls ride along, and names that differ only in case melt into
one on HTTP's side. Knows no web framework, no store and no clock; a lookup of systems is handed in.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from node.core.errors import Reason, Refused
from node.core.office import System

PREFIX = "XroadVnpt-"
TEXT_HEADER = PREFIX + "sign-header"
MAC_HEADER = PREFIX + "hash-header"
FIELDS_MAX = 200
"""Names in one signed text; the SDK's own operations need 17 together."""

RawHeaders = Sequence[tuple[bytes, bytes]]
FindSystem = Callable[[str], System | None]

_NOBODY = "khoa-cua-khong-ai"  # an unknown system costs the caller as much time as a known one


class NotGenuine(Refused):
    """The caller hears one and the same reason whether the system or the secret was wrong; the log hears the truth."""

    def __init__(self, told: Reason, truth: Reason) -> None:
        super().__init__(told, f"{PREFIX}systemid, {MAC_HEADER}")
        self.truth = truth


@dataclass(frozen=True, slots=True)
class Presented:
    """The bytes a caller presents: the signed text and the HMAC over it, as received."""

    text: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed object: names without prefix, letter for letter, and their values."""

    values: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """The value of exactly this name, else of the first one that differs only in case, else None."""
        if name in self.values:
            return self.values[name]
        return next(iter(self.variants(name)), None)

    def variants(self, name: str) -> tuple[str, ...]:
        """All values of this name in any case, in the order signed: `docId` of one call and `docid` of the next."""
        return tuple(value for key, value in self.values.items() if key.lower() == name.lower())


def present(headers: RawHeaders, text_bytes_max: int) -> Presented:
    """Pick the two headers that carry the signature; `Refused(SIGNATURE_MISSING | REQUEST_MALFORMED)`."""
    text, mac = _only(headers, TEXT_HEADER), _only(headers, MAC_HEADER)
    if len(text) > text_bytes_max:
        raise Refused(Reason.REQUEST_MALFORMED, TEXT_HEADER, str(len(text)), f"≤ {text_bytes_max}")
    return Presented(text, mac.strip().lower())


def verify(presented: Presented, find: FindSystem) -> tuple[System, Signed]:
    """Who signed, and what. Raises `NotGenuine`, or `Refused(REQUEST_MALFORMED)` for a text that is no object of strings.

    The HMAC is taken over the bytes as received; the text is never rebuilt, for its order and its escapes vary.
    """
    truth = Reason.SIGNATURE_WRONG
    fault: Refused | None = None
    for text in _readings(presented.text):
        try:
            signed = _parse(text)
        except Refused as refusal:
            fault = fault or refusal
            continue
        system = find(signed.get("systemid") or "")
        if system is None:
            truth = Reason.SYSTEM_UNKNOWN
        if _right(text, presented.mac, system.secrets if system is not None else (_NOBODY,)) and system is not None:
            return system, signed
    if not presented.text.isascii():
        # The SDK cuts letters above U+00FF to their low byte on every call but sendEdoc: such a text cannot be checked at all.
        raise NotGenuine(Reason.SIGNATURE_TEXT_DAMAGED, truth)
    if fault is not None:
        raise fault
    raise NotGenuine(Reason.SIGNATURE_WRONG, truth)


def check_headers(signed: Signed, headers: RawHeaders) -> None:
    """Each signed name must stand beside the text with the same value; `Refused(HEADER_MISMATCH)` names the first that does not.

    Names doubled by case are left out: there HTTP cannot say which of the two values belongs to which name.
    """
    beside: dict[bytes, list[bytes]] = {}
    for header, raw in headers:
        beside.setdefault(header.lower(), []).append(raw.strip(b" \t"))
    alike: dict[str, int] = {}
    for name in signed.values:
        alike[name.lower()] = alike.get(name.lower(), 0) + 1
    for name, value in signed.values.items():
        received = beside.get((PREFIX + name).lower().encode("latin-1", "replace"), [])
        if len(received) > 1 or alike[name.lower()] > 1:
            continue
        if not received or received[0] not in _spellings(value):
            beside_it = received[0].decode("utf-8", "replace") if received else ""
            raise Refused(Reason.HEADER_MISMATCH, PREFIX + name[:60], beside_it, value[:60])


def require_ascii(name: str, value: str) -> str:
    """Ids, codes and status words are printable ASCII, or `Refused(SIGNATURE_TEXT_DAMAGED)` says so with the header's name."""
    if not (value.isascii() and value.isprintable()):
        raise Refused(Reason.SIGNATURE_TEXT_DAMAGED, PREFIX + name, value, "ASCII")
    return value


def may_call_from(networks: Sequence[IPv4Network | IPv6Network], remote: str | None) -> bool:
    """Whether an address lies in one of the networks; no networks: anywhere. IPv4 inside IPv6 counts as IPv4."""
    if not networks:
        return True
    try:
        address = ip_address(remote or "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _only(headers: RawHeaders, name: str) -> bytes:
    wanted = name.lower().encode()
    values = [value for key, value in headers if key.lower() == wanted]
    if not values or not values[0]:
        raise Refused(Reason.SIGNATURE_MISSING, name)
    if len(values) > 1:
        raise Refused(Reason.REQUEST_MALFORMED, name, str(len(values)), "= 1")
    return values[0]


def _readings(text: bytes) -> Iterator[bytes]:
    """The text as received, then, where it has letters above 7F, read as ISO-8859-1: what the SDK does on all calls but one."""
    yield text
    if not text.isascii():
        yield text.decode("latin-1").encode()


def _right(text: bytes, mac: bytes, secrets: Sequence[str]) -> bool:
    right = False
    for secret in secrets:
        expected = hmac.digest(secret.encode(), text, "sha256").hex().encode()
        right |= hmac.compare_digest(expected, mac)  # never leave early: which of two secrets it was shows nowhere
    return right


def _parse(text: bytes) -> Signed:
    try:
        # Tabs may stand raw in a value (the SDK escapes the quote and the backslash only), so control characters pass here.
        pairs = json.loads(text.decode(), object_pairs_hook=_Pairs, parse_constant=_no_constant, strict=False)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(pairs, _Pairs) or len(pairs) > FIELDS_MAX:
        raise _malformed()
    values: dict[str, str] = {}
    for key, value in pairs:
        name = key[len(PREFIX) :]
        if key[: len(PREFIX)].lower() != PREFIX.lower() or name in values:
            raise _malformed(key)
        if not isinstance(value, str) or not _encodable(key) or not _encodable(value):
            raise _malformed(key)
        values[name] = value
    return Signed(values)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its order and its repeated keys still visible, and apart from an array."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _encodable(text: str) -> bool:
    """False for half a surrogate pair: no header and no database can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spellings(value: str) -> tuple[bytes, ...]:
    """The bytes a header may carry for a signed value: the SDK has two HTTP stacks, one UTF-8, one ISO-8859-1."""
    plain = value.strip(" \t")
    if plain.isascii():
        return (plain.encode(),)
    narrow = (plain.encode("latin-1"),) if all(letter < "\u0100" for letter in plain) else ()
    return (plain.encode(), *narrow)


def _malformed(key: str = "") -> Refused:
    return Refused(Reason.REQUEST_MALFORMED, TEXT_HEADER, key if _encodable(key) else "")
