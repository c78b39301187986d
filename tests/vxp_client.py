"""A connector as offices run it: a small client that does on the wire what the vendor's SDK does, its oddities included.

Written from observed traffic, apart from the gateway's code and sharing nothing with it, so that the two check each other: a
header list that is never cleared, names that differ only in case, a signed text built by hand, SHA-256 in short hex, two bytes
after the file. It insists on what the SDK needs of an answer (`Unreadable` otherwise). Needs aiohttp only.

    async with VxpClient("https://127.0.0.1:8443/vxp", "h41-07.vanphong", secret, ssl=context) as office:
        answer = await office.send(package, sender="H41.07")
        for item in await office.received():
            package = await office.get(item["docId"])
            await office.update(item["docId"], "done")
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import socket
import ssl as tls
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
from multidict import CIMultiDict

PREFIX = "XroadVnpt-"
USER_AGENT = "JAVASDKAgent/1.0.0 XRoad/VPCP"
VERSION = "3.0.201608"
EMPTY_OBJECT = b"{}"
ADDED = b"\r\n"

Answer = dict[str, Any]
List = Literal["documents", "directory"]


class VxpFailed(Exception):
    """The node answered FAIL. answer: all of it; code and text are what a clerk is shown."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.code = str(answer.get("ErrorCode", ""))
        self.text = str(answer.get("ErrorDesc", ""))
        super().__init__(f"{self.code}: {self.text}")


class Unreadable(Exception):
    """The SDK could not have read this answer: no object, a field missing, a null, a letter beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One request ready to go. headers in order, names letter for letter; path as the SDK joins it."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    expect: bool


def short_hex(digest: bytes) -> str:
    """Each byte in hex without its leading zero."""
    return "".join(f"{byte:x}" for byte in digest)


def signed_text(values: Mapping[str, str]) -> str:
    """The JSON text that is signed: in order, no white space, only the backslash and the quote escaped."""
    pairs = (f'"{PREFIX}{name}":"{_escaped(value)}"' for name, value in values.items())
    return "{" + ",".join(pairs) + "}"


def sign(text: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def timestamp(moment: datetime) -> str:
    """`ddMMyyyy'T'HHmmss+SSSS` in local time, SSSS milliseconds with four digits."""
    return f"{moment:%d%m%YT%H%M%S}+{moment.microsecond // 1000:04}"


class VxpClient:
    """One service object per header list, as the SDK keeps them: documents and directory.

    url: the endpoint, joined to the operation as it stands. retry: requests in all when a connection closes without an answer.
    dotnet: whole hex and no bytes added, as other builders do. dial: makes the sockets it connects with. A service object takes
    its timestamp once: `renew` makes new ones.
    """

    def __init__(
        self,
        url: str,
        system_id: str,
        secret: str,
        ssl: tls.SSLContext | None = None,
        *,
        dotnet: bool = False,
        retry: int = 2,
        timeout_s: float = 90.0,
        now: datetime | None = None,
        dial: Callable[..., socket.socket] | None = None,
    ) -> None:
        self.url = url
        self.system_id = system_id
        self.secret = secret
        self._ssl: tls.SSLContext | bool = ssl if ssl is not None else True
        self._dotnet = dotnet
        self._retry = retry
        self._timeout_s = timeout_s
        self._dial = dial
        self._session: aiohttp.ClientSession | None = None
        self._fields: dict[List, dict[str, str]] = {}
        self._timestamp = ""
        self.renew(now)

    def renew(self, now: datetime | None = None) -> None:
        """New service objects: empty header lists and a fresh timestamp."""
        self._fields = {"documents": {}, "directory": {}}
        self._timestamp = timestamp(now if now is not None else datetime.now())

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        connector = aiohttp.TCPConnector(limit=10, ssl=self._ssl, socket_factory=self._dial)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, skip_auto_headers=("Accept",))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- documents ---------------------------------------------------------------------------------------------------

    async def send(self, package: bytes, sender: str = "", message_type: str = "edoc", service_type: str = "eDoc") -> Answer:
        """sendEdoc; the whole answer, OK or FAIL."""
        return _object(await self._exchange(self.prepare_send(package, sender, message_type, service_type)))

    def prepare_send(self, package: bytes, sender: str = "", message_type: str = "edoc", service_type: str = "eDoc") -> Prepared:
        digest = hashlib.sha256(package).digest()
        fields = {
            "servicetype": service_type,
            "messagetype": message_type,
            "hash-file": digest.hex() if self._dotnet else short_hex(digest),
            "from": sender,
        }
        body = package if self._dotnet else package + ADDED
        return self.prepare("sendEdoc", fields, body=body, content_type="application/octet-stream")

    async def received(self, message_type: str = "edoc") -> list[Answer]:
        """getReceivedEdocList: what waits for this system."""
        answer = await self.call("getReceivedEdocList", {"servicetype": "eDoc", "messagetype": message_type})
        return _items(answer)

    async def sent(self, doc_id: str = "", message_type: str = "edoc") -> list[Answer]:
        """getSentEdocList: a line for each receiver. Without doc_id whatever docId an earlier call left goes along."""
        fields = {"servicetype": "eDoc", "messagetype": message_type} | ({"docId": doc_id} if doc_id else {})
        return _items(await self.call("getSentEdocList", fields))

    async def get(self, doc_id: str, key: str = "docId") -> bytes:
        """getEdoc: the package's bytes."""
        answer = await self.call("getEdoc", {key: doc_id, "filePath": "den"}, body=EMPTY_OBJECT)
        data = _succeeded(answer)["data"]
        if not isinstance(data, str):
            raise Unreadable(f"data of getEdoc is {type(data).__name__}")
        return base64.b64decode(data, validate=True)

    async def download(self, doc_id: str) -> bytes:
        """downloadEdoc (2.0.1): like the SDK it takes any body for the package and only an empty one for a failure."""
        body = await self._exchange(self.prepare("downloadEdoc", {"docId": doc_id, "filePath": "den"}, method="GET"))
        if not body:
            raise VxpFailed({"status": "FAIL", "ErrorCode": "100", "ErrorDesc": "empty body"})
        return body

    async def update(self, doc_id: str, status: str, key: str = "docId") -> Answer:
        """updateStatus: processing, done or fail; the whole answer. key: connectors write docId or docid."""
        return await self.call("updateStatus", {"status": status, key: doc_id}, body=EMPTY_OBJECT)

    async def count(self, message_type: str = "edoc") -> int:
        """countReceiveEdoc, or countReceiveStatus for "status"."""
        operation = "countReceiveStatus" if message_type == "status" else "countReceiveEdoc"
        return int(_succeeded(await self.call(operation, {}, body=EMPTY_OBJECT))["count"])

    # -- the directory -----------------------------------------------------------------------------------------------

    async def agencies(self) -> list[Answer]:
        return _items(await self.call("getAgenciesList", {}, of="directory"))

    async def agencies_qd20(self, level: str = "1") -> list[Answer]:
        return _items(await self.call("getAgenciesListQD20", {"level": level}, of="directory"))

    async def units(self) -> list[Answer]:
        return _items(await self.call("getSynchronizeUnit", {}, of="directory"))

    async def register_agency(self, fields: Mapping[str, str]) -> Answer:
        body = json.dumps(fields, ensure_ascii=False).encode()
        return await self.call("registerAgency", {}, body=body, of="directory")

    async def delete_agency(self, code: str) -> Answer:
        return await self.call("deleteAgency", {"AgencyCode": code}, body=EMPTY_OBJECT, of="directory")

    # -- the wire ----------------------------------------------------------------------------------------------------

    async def call(
        self, operation: str, fields: Mapping[str, str], *, body: bytes = b"", of: List = "documents", method: str = "POST"
    ) -> Answer:
        """Any operation with any fields; the whole answer, checked for what the SDK needs of it."""
        return _object(await self._exchange(self.prepare(operation, fields, body=body, of=of, method=method)))

    def prepare(
        self,
        operation: str,
        fields: Mapping[str, str],
        *,
        body: bytes = b"",
        of: List = "documents",
        method: str = "POST",
        content_type: str = "application/json",
    ) -> Prepared:
        """Put the fields on the service object's list, where they stay, and sign all that stands there."""
        kept = self._fields[of]
        kept.update(fields)
        values = {"systemid": self.system_id} | kept | {"timestamp": self._timestamp, "Content-Type": content_type}
        text = signed_text(values)
        headers = [(PREFIX + name, value) for name, value in values.items()]
        headers += [
            (PREFIX + "sign-header-key", ";".join(values)),
            (PREFIX + "sign-header", text),
            (PREFIX + "hash-header", sign(text.encode(), self.secret)),
            (PREFIX + "version", VERSION),
            ("Content-Type", content_type),
            ("User-Agent", USER_AGENT),
        ]
        sends_file = operation == "sendEdoc"
        headers += [("Cache-Control", "no-cache"), ("Pragma", "no-cache")] if sends_file else []
        headers.append(("Accept-Encoding", "identity" if sends_file else "gzip,deflate"))
        return Prepared(method, f"{self.url}/{operation}", tuple(headers), body, bool(body) and not sends_file)

    async def _exchange(self, request: Prepared) -> bytes:
        """One answer's body. A connection closed without one is tried again at once, byte for byte the same request."""
        if self._session is None:
            raise RuntimeError("use `async with VxpClient(...)`")
        left = self._retry
        while True:
            left -= 1
            try:
                async with self._session.request(
                    request.method,
                    request.url,
                    headers=CIMultiDict(request.headers),
                    data=io.BytesIO(request.body) if request.body else None,
                    expect100=request.expect,
                    allow_redirects=False,
                ) as response:
                    return await response.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if left <= 0:
                    raise


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _object(body: bytes) -> Answer:
    try:
        answer = json.loads(body.decode("ascii"))
    except ValueError as error:
        raise Unreadable(f"no ASCII JSON: {body[:200]!r}") from error
    if not isinstance(answer, dict):
        raise Unreadable(f"no object: {body[:200]!r}")
    for name in ("status", "ErrorCode", "ErrorDesc", "DocId", "data"):
        if answer.get(name) is None:
            raise Unreadable(f"{name} is missing or null")
    if (answer["status"] == "OK") != (answer["ErrorCode"] == "0") or answer["status"] not in ("OK", "FAIL"):
        raise Unreadable(f"status {answer['status']!r} with ErrorCode {answer['ErrorCode']!r}")
    return answer


def _succeeded(answer: Answer) -> Answer:
    if answer["status"] != "OK":
        raise VxpFailed(answer)
    return answer


def _items(answer: Answer) -> list[Answer]:
    data = _succeeded(answer)["data"]
    if not isinstance(data, list) or any(value is None for item in data for value in item.values()):
        raise Unreadable("the SDK stops reading a list at a null")
    return data
