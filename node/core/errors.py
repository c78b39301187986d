"""The two ways a thing does not happen: never (`Refused`) and not yet (`Deferred`).

A refusal names a stable reason; its words for people are in `words.py`. Adapters turn the exceptions of their libraries
into these two at the edge. This file knows nobody.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused or ended. The values are stable: they travel, are stored and are counted."""

    # the package (documents/edxml.py)
    XML_MALFORMED = "xml-malformed"
    XML_DOCTYPE = "xml-doctype"
    XML_TOO_DEEP = "xml-too-deep"
    NOT_EDXML = "not-edxml"
    PACKAGE_EMPTY = "package-empty"
    PACKAGE_TOO_LARGE = "package-too-large"
    VALUE_TOO_LONG = "value-too-long"
    TOO_MANY_ELEMENTS = "too-many-elements"
    BASE64_BROKEN = "base64-broken"
    ARCHIVE_BOMB = "archive-bomb"
    ELEMENT_MISSING = "element-missing"
    STATUS_CODE_UNKNOWN = "status-code-unknown"
    DIGEST_MISMATCH = "digest-mismatch"
    # codes (core/identifier.py)
    CODE_EMPTY = "code-empty"
    CODE_PLACEHOLDER = "code-placeholder"
    CODE_TOO_LONG = "code-too-long"
    CODE_BAD_CHARACTER = "code-bad-character"
    CODE_BAD_GROUP = "code-bad-group"
    # receivers (core/directory.py, core/routing.py)
    RECIPIENT_UNKNOWN = "recipient-unknown"
    RECIPIENT_CLOSED = "recipient-closed"
    RECIPIENT_LOCKED = "recipient-locked"
    RECIPIENT_NOT_CONNECTED = "recipient-not-connected"
    NO_RECIPIENT = "no-recipient"
    ALL_OR_NOTHING = "all-or-nothing"
    STATUS_TARGET_UNKNOWN = "status-target-unknown"
    # senders and systems (the office doors)
    SENDER_UNKNOWN = "sender-unknown"
    SENDER_NOT_ALLOWED = "sender-not-allowed"
    SYSTEM_UNKNOWN = "system-unknown"
    SYSTEM_DISABLED = "system-disabled"
    NETWORK_FORBIDDEN = "network-forbidden"
    CLIENT_CERTIFICATE_MISSING = "client-certificate-missing"
    CLIENT_CERTIFICATE_UNKNOWN = "client-certificate-unknown"
    CLIENT_CERTIFICATE_DATES = "client-certificate-dates"
    CLIENT_CERTIFICATE_REVOKED = "client-certificate-revoked"
    CREDENTIALS_WRONG = "credentials-wrong"
    SIGNATURE_WRONG = "signature-wrong"
    SIGNATURE_TEXT_DAMAGED = "signature-text-damaged"
    SIGNATURE_MISSING = "signature-missing"
    HEADER_MISMATCH = "header-mismatch"
    SERVICE_UNKNOWN = "service-unknown"
    OPERATION_UNKNOWN = "operation-unknown"
    REQUEST_MALFORMED = "request-malformed"
    DOC_UNKNOWN = "doc-unknown"
    DOC_AMBIGUOUS = "doc-ambiguous"
    STATUS_WORD_UNKNOWN = "status-word-unknown"
    # the directory (core/changes.py)
    DIRECTORY_OUTSIDE = "directory-outside"
    DIRECTORY_LAW = "directory-law"
    # the link
    WIRE_MALFORMED = "wire-malformed"
    WIRE_TOO_LARGE = "wire-too-large"
    PEER_UNKNOWN = "peer-unknown"
    PEER_NAME = "peer-name"
    PEER_KEY = "peer-key"
    PEER_DATES = "peer-dates"
    PEER_REVOKED = "peer-revoked"
    PEER_LIST_OLD = "peer-list-old"
    INVITE_MALFORMED = "invite-malformed"
    INVITE_UNKNOWN = "invite-unknown"
    INVITE_EXPIRED = "invite-expired"
    INVITE_USED = "invite-used"
    PEER_REGISTERED = "peer-registered"
    SENDER_OUTSIDE = "sender-outside"
    ORIGIN_SIGNATURE = "origin-signature"
    DIGEST_CONFLICT = "digest-conflict"
    TOO_MANY_HOPS = "too-many-hops"
    LOOP = "loop"
    LIFETIME = "lifetime"
    BODY_UNKNOWN = "body-unknown"
    BODY_DAMAGED = "body-damaged"
    # how a delivery may end after custody was taken
    EXPIRED = "expired"
    DROPPED_BY_OPERATOR = "dropped-by-operator"
    # the node itself
    NOT_NOW = "not-now"
    DISK_FULL = "disk-full"
    INTERNAL = "internal"


class Refused(Exception):
    """Final: the caller hears it, nobody retries.

    reason: the stable code. element: what was judged (an edXML element, a header name). value: what stood there, cut to
    100 characters. rule: the limit or form that was broken, as data ("≤ 35", "0..4"), "" where the reason says it all.
    """

    def __init__(self, reason: Reason, element: str = "", value: str = "", rule: str = "") -> None:
        self.reason = reason
        self.element = element
        self.value = value if len(value) <= 100 else value[:97] + "..."
        self.rule = rule
        super().__init__(f"{reason} element={element!r} value={self.value!r} rule={rule!r}")


class Deferred(Exception):
    """Not yet: try again after `retry_after_s` seconds. reason is for logs and counters.

    in_doubt: an offer was sent and no verdict came back, so the other side may hold it (architecture, decision 6).
    """

    def __init__(self, retry_after_s: float, reason: Reason = Reason.NOT_NOW, *, in_doubt: bool = False) -> None:
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.in_doubt = in_doubt
        super().__init__(f"{reason}: retry after {retry_after_s:g} s")
