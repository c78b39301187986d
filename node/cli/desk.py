"""Asking the running node: finds its admin listener through the data folder and speaks HTTP to it on loopback.

Reads the configuration with tomllib alone, so that `truc status` answers at once and while the rest of the file is being edited.
"""

from __future__ import annotations

import http.client
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from node.cli.talk import Code, Stop, config_path
from node.core.words import visible

ANSWER_WITHIN_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
PAGE = 200

_START = ("chạy nút: truc run --config {config}", "start the node: truc run --config {config}")


@dataclass(frozen=True, slots=True)
class Desk:
    """The admin listener of one running node."""

    config: Path
    host: str
    port: int
    token: str

    def get(self, path: str, **query: str | int | Sequence[str] | None) -> Any:
        """A question. None-valued parts of the query are left out. `Stop` for whatever is not an answer."""
        text = urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
        return self._ask("GET", f"{path}?{text}" if text else path, None)

    def lines(self, path: str, **query: str | int | None) -> bytes:
        """A question whose answer is JSON lines, as they are."""
        text = urlencode({"lines": 1, **{name: value for name, value in query.items() if value is not None}})
        return self._bytes("GET", f"{path}?{text}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._ask("POST", path, json.dumps(body).encode())

    def pages(self, path: str, limit: int, **query: str | None) -> Iterator[dict[str, Any]]:
        """Items of a list, page by page, at most `limit`."""
        seen, after = 0, None
        while seen < limit:
            page = self.get(path, after=after, limit=min(PAGE, limit - seen), **query)
            yield from page["items"]
            seen += len(page["items"])
            after = page["next"]
            if after is None:
                return

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        return json.loads(self._bytes(method, path, body))

    def _bytes(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_WITHIN_S)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, {name: value.encode() for name, value in headers.items()})
            answer = connection.getresponse()
            status, data = answer.status, answer.read(ANSWER_BYTES_MAX)
        except ConnectionRefusedError:
            raise _not_running(self.config) from None
        except (OSError, http.client.HTTPException) as error:
            what = (
                f"cổng quản trị {self.host}:{self.port} không trả lời ({error})",
                f"{self.host}:{self.port} does not answer ({error})",
            )
            raise Stop(Code.NOT_RUNNING, what, _start(self.config)) from None
        finally:
            connection.close()
        if status == http.client.OK:
            return data
        try:
            value = json.loads(data)
        except ValueError:
            value = {}
        raise _failure(status, value if isinstance(value, dict) else {})


def running() -> Desk:
    """The node that `--config` names. `Stop` (69, 77, 78) where it does not run, may not be asked, or has no readable file."""
    config = config_path()
    data_dir, host = _locate(config)
    try:
        port = int(json.loads((data_dir / "run.json").read_text())["admin_port"])
        token = (data_dir / "admin.token").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise _not_running(config) from None
    except PermissionError as error:
        what = (f"không được đọc {error.filename}", f"{error.filename} may not be read")
        todo = ("chạy lệnh bằng người dùng của nút, hoặc sudo", "run the command as the node's user, or with sudo")
        raise Stop(Code.NOT_ALLOWED, what, todo) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = (f"tệp run.json trong {data_dir} không đọc được ({error})", f"run.json in {data_dir} cannot be read ({error})")
        raise Stop(Code.NOT_RUNNING, what, _start(config)) from None
    return Desk(config, host, port, token)


def _locate(config: Path) -> tuple[Path, str]:
    """The data folder and the admin host, from the file and its two environment variables."""
    try:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = (f"không có tệp cấu hình {config}", f"there is no configuration file {config}")
        todo = (
            "chỉ tệp của nút bằng --config PATH hoặc biến TRUC_CONFIG",
            "name the node's file with --config PATH or TRUC_CONFIG",
        )
        raise Stop(Code.CONFIG, what, todo) from None
    except PermissionError:
        raise Stop(Code.NOT_ALLOWED, (f"không được đọc {config}", f"{config} may not be read")) from None
    except (OSError, ValueError) as error:
        what = (f"{config}: không đọc được ({error})", f"{config}: cannot be read ({error})")
        raise Stop(Code.CONFIG, what, _check(config)) from None
    data_dir = os.environ.get("TRUC_NODE__DATA_DIR") or _text(tables, "node", "data_dir")
    host = os.environ.get("TRUC_ADMIN__LISTEN_HOST") or _text(tables, "admin", "listen_host") or "127.0.0.1"
    if not data_dir:
        raise Stop(Code.CONFIG, (f"{config}: thiếu node.data_dir", f"{config}: node.data_dir is missing"), _check(config))
    return config.absolute().parent / data_dir, host


def _text(tables: Mapping[str, Any], section: str, key: str) -> str:
    table = tables.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _start(config: Path) -> tuple[str, str]:
    return (_START[0].format(config=config), _START[1].format(config=config))


def _check(config: Path) -> tuple[str, str]:
    return (f"xem truc config check --config {config}", f"see truc config check --config {config}")


def _not_running(config: Path) -> Stop:
    return Stop(Code.NOT_RUNNING, (f"nút của {config} chưa chạy", f"the node of {config} is not running"), _start(config))


def _failure(status: int, problem: Mapping[str, Any]) -> Stop:
    """The node's own words (Vietnamese) and its stable code; in English the code alone."""
    code = visible(str(problem.get("code", status)))
    what = (f"{visible(str(problem.get('title', '')))} [{code}]".strip(), f"the node answered [{code}]")
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        todo = (
            "khởi động lại nút hoặc xóa tệp run.json cũ trong thư mục dữ liệu",
            "restart the node, or remove an old run.json in its data folder",
        )
        return Stop(Code.NOT_ALLOWED, what, todo)
    if status == http.client.SERVICE_UNAVAILABLE:
        return Stop(Code.LATER, what, ("thử lại sau ít giây", "try again in a few seconds"))
    return Stop(Code.FAILED, what)
