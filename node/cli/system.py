"""`truc system`: the office systems registered at a node, in its systems file; a running node sees a change at once."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from node.adapters import authority, client_certificates, directory_file, registry
from node.adapters.folders import BadFile
from node.cli.acts import record
from node.cli.config import load_config
from node.cli.desk import running
from node.cli.face import Group, config_option, json_option, option
from node.cli.talk import Code, Stop, bad_configuration, json_line, say, t, table
from node.config import NodeConfig
from node.core.directory import Directory
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.instant import day, iso
from node.core.office import ClientCertificate, System
from node.core.routing import table_for
from node.core.words import sentence

SECRET_BYTES = 32

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@click.group(
    cls=Group, texts=("Hệ thống quản lý văn bản và điều hành đã đăng ký tại nút.", "Office systems registered at the node.")
)
def command() -> None:
    pass


id_argument = click.argument("system_id", metavar="ID")


@command.command(
    "add",
    texts=(
        "Đăng ký một hệ thống và in khóa bí mật của nó, một lần duy nhất.",
        "Register a system and print its secret, once.",
    ),
)
@id_argument
@option(
    "--code",
    "codes",
    metavar="CODE",
    multiple=True,
    texts=("mã cơ quan được gửi và nhận thay; lặp lại được", "organ it sends and receives for; repeatable"),
)
@option(
    "--network",
    "networks",
    metavar="CIDR",
    multiple=True,
    texts=("chỉ được gọi từ mạng này; lặp lại được", "network it may call from; repeatable"),
)
@option(
    "--client-cert",
    "shown",
    metavar="FILE",
    type=click.Path(path_type=Path),
    texts=("phải trình chứng thư này (PEM hoặc DER) khi nối", "it must show this certificate (PEM or DER) when it connects"),
)
@option("--reporting", is_flag=True, texts=("chỉ đọc số liệu và giờ, không gửi, nhận", "it only reads figures and the time"))
@option("--all-or-nothing", is_flag=True, texts=("chỉ gửi khi gửi được đến tất cả Bên nhận", "send to all recipients or to none"))
@json_option
@config_option
def add(
    system_id: str,
    codes: Sequence[str],
    networks: Sequence[str],
    shown: Path | None,
    reporting: bool,
    all_or_nothing: bool,
    as_json: bool,
) -> None:
    config, _ = load_config()
    if not re.fullmatch(registry.ID_PATTERN, system_id):
        what = (f"“{system_id}” không dùng làm mã hệ thống được", f"“{system_id}” cannot be a system's id")
        raise Stop(
            Code.USAGE, what, ("dùng chữ ASCII, số, dấu . _ -, nhiều nhất 64 ký tự", "ASCII letters, digits, . _ -, at most 64")
        )
    if reporting == bool(codes):
        what = (
            "cần --code, hoặc --reporting cho hệ thống chỉ đọc số liệu",
            "--code is needed, or --reporting to read figures only",
        )
        raise Stop(Code.USAGE, what)
    directory = _directory(config)
    organs = tuple(dict.fromkeys(_organ(text, directory) for text in codes))
    certificates = () if shown is None else (_certificate(shown),)
    fresh = System(
        system_id, organs, (secrets.token_urlsafe(SECRET_BYTES),), _networks(networks), False, all_or_nothing, certificates
    )

    def change(systems: tuple[System, ...]) -> tuple[System, ...]:
        if any(system.id == system_id for system in systems):
            what = (f"đã có hệ thống {system_id}", f"system {system_id} is there already")
            raise Stop(Code.FAILED, what, ("xem truc system list", "see truc system list"))
        _refuse_taken(fresh, systems)
        return (*systems, fresh)

    warnings = _warnings(config, directory, organs)  # may refuse
    _update(config.node.systems, change)
    for warning in warnings:
        say(f"Lưu ý: {warning[0]}", f"Note: {warning[1]}")
    if not networks:
        say(
            "Lưu ý: hệ thống được gọi từ mọi địa chỉ; nên giới hạn bằng --network.",
            "Note: it may call from anywhere; --network limits that.",
        )
    _print_secret(fresh, as_json)  # first: it is shown this once
    record(config.node.data_dir, "system.add", system_id, None, _public(fresh))


@command.command("list", texts=("Liệt kê các hệ thống, không in khóa bí mật.", "List the systems, without their secrets."))
@json_option
@config_option
def list_(as_json: bool) -> None:
    config, _ = load_config()
    systems = _load(config.node.systems)
    clocks = _clocks()
    if as_json:
        for system in systems:
            clock = clocks.get(system.id, {})
            json_line(
                {**_public(system), "clock_ahead_s": clock.get("clock_ahead_s"), "clock_seen_ms": clock.get("clock_seen_ms")}
            )
        return
    if not systems:
        say("Chưa đăng ký hệ thống nào; thêm bằng truc system add.", "No system is registered; truc system add adds one.")
        return
    headings = t(
        "hệ thống|mã|mạng|khóa bí mật|chứng thư đến|trạng thái|giờ", "system|codes|networks|secrets|certificate until|state|clock"
    ).split("|")
    table(headings, ((*_cells(system), _ahead(clocks.get(system.id))) for system in systems))


@command.command(
    "rotate",
    texts=(
        "Thêm một khóa bí mật mới; khóa cũ còn dùng được cho đến khi chạy lại với --finish.",
        "Add a new secret; the old one works on until this is run with --finish.",
    ),
)
@id_argument
@option("--finish", is_flag=True, texts=("bỏ khóa cũ, chỉ giữ khóa mới", "drop the old secret, keep the new one"))
@json_option
@config_option
def rotate(system_id: str, finish: bool, as_json: bool) -> None:
    config, _ = load_config()
    fresh = secrets.token_urlsafe(SECRET_BYTES)

    def turn(system: System) -> System:
        overlap = len(system.secrets) > 1
        if finish and not overlap:
            what = (f"{system_id} chỉ có một khóa bí mật", f"{system_id} has one secret only")
            raise Stop(
                Code.FAILED,
                what,
                ("bắt đầu bằng truc system rotate, không có --finish", "begin with truc system rotate, without --finish"),
            )
        if not finish and overlap:
            what = (f"{system_id} đang có hai khóa bí mật", f"{system_id} has two secrets already")
            raise Stop(
                Code.FAILED,
                what,
                ("bỏ khóa cũ trước: truc system rotate --finish", "drop the old one first: truc system rotate --finish"),
            )
        return replace(system, secrets=system.secrets[:1] if finish else (fresh, *system.secrets))

    before, changed = _change_one(config, system_id, turn)
    if finish:
        say("Đã bỏ khóa cũ.", "The old secret is gone.")
    else:
        _print_secret(changed, as_json)
    record(config.node.data_dir, "system.rotate", system_id, _public(before), _public(changed))


@command.command(
    "certificate",
    texts=(
        "Chứng thư số mà một hệ thống phải trình khi nối: xem, thêm, tạo, thu hồi, thôi bắt buộc.",
        "The certificates a system must show when it connects: list, add, make, revoke, or ask for none.",
    ),
)
@id_argument
@option(
    "--add",
    "added",
    metavar="FILE",
    type=click.Path(path_type=Path),
    texts=("thêm chứng thư của hệ thống (PEM hoặc DER)", "add a certificate of the system's own (PEM or DER)"),
)
@option(
    "--make",
    "made",
    metavar="PATH",
    type=click.Path(path_type=Path),
    texts=(
        "tạo khóa và chứng thư PATH.key, PATH.pem để trao cho hệ thống",
        "make PATH.key and PATH.pem, to be given to the system",
    ),
)
@option("--revoke", "revoked", metavar="FINGERPRINT", texts=("thu hồi một chứng thư", "revoke one"))
@option("--none", "dropped", is_flag=True, texts=("thôi bắt buộc chứng thư", "ask for none any more"))
@json_option
@config_option
def certificate(system_id: str, added: Path | None, made: Path | None, revoked: str | None, dropped: bool, as_json: bool) -> None:
    config, _ = load_config()
    if sum((added is not None, made is not None, revoked is not None, dropped)) > 1:
        raise Stop(
            Code.USAGE,
            ("chỉ một trong --add, --make, --revoke, --none", "one of --add, --make, --revoke and --none only"),
        )
    if added is None and made is None and revoked is None and not dropped:
        found = next((system for system in _load(config.node.systems) if system.id == system_id), None)
        if found is None:
            raise _no_system(system_id)
        _print_certificates(found, as_json)
        return

    def turn(system: System) -> System:
        if dropped:
            return replace(system, certificates=())
        if revoked is not None:
            return replace(system, certificates=_without(system, revoked))
        fresh = _made(made, system_id) if made is not None else _certificate(added or Path())
        return replace(system, certificates=_with(system, fresh))

    before, after = _change_one(config, system_id, turn)
    record(config.node.data_dir, "system.certificate", system_id, _public(before), _public(after))
    _print_certificates(after, as_json)


@command.command(
    "disable",
    texts=(
        "Ngừng cho một hệ thống gửi và nhận; --undo cho dùng lại.",
        "Stop a system from sending and receiving; --undo restores it.",
    ),
)
@id_argument
@option("--undo", is_flag=True, texts=("cho dùng lại", "enable it again"))
@config_option
def disable(system_id: str, undo: bool) -> None:
    config, _ = load_config()
    before, after = _change_one(config, system_id, lambda system: replace(system, disabled=not undo))
    record(config.node.data_dir, "system.disable", system_id, _public(before), _public(after))
    if undo:
        say(f"{system_id} dùng lại được.", f"{system_id} is enabled.")
    else:
        say(f"{system_id} đã ngừng được sử dụng.", f"{system_id} is disabled.")


def _certificate(path: Path) -> ClientCertificate:
    try:
        return client_certificates.of_file(path.read_bytes())
    except OSError as error:
        what = (f"không đọc được {path}: {error.strerror}", f"{path} cannot be read: {error.strerror}")
        raise Stop(Code.USAGE, what) from None
    except client_certificates.NotUsable as error:
        raise Stop(Code.USAGE, (f"{path}: {error.vi}", f"{path}: {error.en}")) from None


def _made(files: Path, system_id: str) -> ClientCertificate:
    now = datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC)
    try:
        return client_certificates.of(authority.client_certificate(files, system_id, now))
    except BadFile as error:
        raise Stop(Code.FAILED, error.texts) from None
    except OSError as error:
        what = (f"không ghi được {files}: {error.strerror}", f"{files} cannot be written: {error.strerror}")
        raise Stop(Code.NOT_ALLOWED, what) from None


def _with(system: System, fresh: ClientCertificate) -> tuple[ClientCertificate, ...]:
    """Those that have ended on their own make room. Nothing twice; what was revoked stays so."""
    known = next((each for each in system.certificates if each.fingerprint == fresh.fingerprint), None)
    if known is not None and known.revoked:
        what = (f"chứng thư {fresh.fingerprint} đã bị thu hồi", f"certificate {fresh.fingerprint} has been revoked")
        raise Stop(Code.FAILED, what, ("dùng khóa và chứng thư mới", "take a new key and a new certificate"))
    now_ms = time.time_ns() // 1_000_000
    kept = tuple(each for each in system.certificates if each.not_after_ms >= now_ms and each.fingerprint != fresh.fingerprint)
    if len(kept) >= registry.CERTIFICATES_MAX:
        what = (f"{system.id} đã có {len(kept)} chứng thư", f"{system.id} has {len(kept)} certificates already")
        raise Stop(Code.FAILED, what)
    return (fresh, *kept)


def _without(system: System, fingerprint: str) -> tuple[ClientCertificate, ...]:
    wanted = fingerprint.replace(":", "").lower()
    found = [each for each in system.certificates if wanted and each.fingerprint.startswith(wanted)]
    if len(found) != 1:
        what = (f"{system.id} không có đúng một chứng thư {fingerprint}", f"{system.id} has not one certificate {fingerprint}")
        raise Stop(Code.FAILED, what, (f"xem truc system certificate {system.id}", f"see truc system certificate {system.id}"))
    return tuple(replace(each, revoked=True) if each is found[0] else each for each in system.certificates)


def _print_certificates(system: System, as_json: bool) -> None:
    if as_json:
        for each in system.certificates:
            json_line(_public_certificate(each))
    elif not system.certificates:
        say(f"{system.id} không phải trình chứng thư.", f"{system.id} need not show a certificate.")
    else:
        headings = t("dấu SHA-256|hiệu lực từ|đến|trạng thái", "SHA-256 fingerprint|valid from|until|state").split("|")
        in_use, gone = t("đang dùng", "in use"), t("đã thu hồi", "revoked")
        rows = ((each, gone if each.revoked else in_use) for each in system.certificates)
        table(headings, ((each.fingerprint, iso(each.not_before_ms), iso(each.not_after_ms), state) for each, state in rows))


def _public_certificate(certificate: ClientCertificate) -> dict[str, object]:
    return {
        "fingerprint": certificate.fingerprint,
        "not_before_ms": certificate.not_before_ms,
        "not_after_ms": certificate.not_after_ms,
        "revoked": certificate.revoked,
    }


def _no_system(system_id: str) -> Stop:
    what = (f"không có hệ thống {system_id}", f"there is no system {system_id}")
    return Stop(Code.FAILED, what, ("xem truc system list", "see truc system list"))


def _clocks() -> Mapping[str, Mapping[str, Any]]:
    """What the running node has measured of the systems' clocks; nothing where it does not run."""
    try:
        return {row["id"]: row for row in running().get("/api/systems")["items"]}
    except Stop:
        return {}


def _ahead(clock: Mapping[str, Any] | None) -> str:
    """# QĐ 28/2018 Điều 14.4"""
    if clock is None:
        return t("chưa đo", "not measured")
    seconds = clock["clock_ahead_s"]
    return t(f"{'nhanh' if seconds > 0 else 'chậm'} {abs(seconds):.3f} s", f"{seconds:+.3f} s")


def _organ(text: str, directory: Directory | None) -> OrgId:
    try:
        return directory.resolve(text) if directory else OrgId.parse(text)
    except Refused as refused:
        raise Stop(Code.USAGE, (sentence(refused), sentence(refused, "en"))) from None


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            what = (f"“{text}” không phải một mạng", f"“{text}” is no network")
            raise Stop(
                Code.USAGE, what, ("viết như 10.1.0.0/16 hoặc 10.1.2.3/32", "write it as 10.1.0.0/16 or 10.1.2.3/32")
            ) from None
    return tuple(networks)


def _directory(config: NodeConfig) -> Directory | None:
    try:
        return directory_file.load(config.node.directory)
    except directory_file.DirectoryFileError as error:
        say(
            f"Lưu ý: chưa kiểm tra được mã vì danh mục không dùng được\n  {error}",
            f"Note: codes were not checked, the directory cannot be used\n  {error}",
        )
        return None


def _warnings(config: NodeConfig, directory: Directory | None, organs: Iterable[OrgId]) -> list[tuple[str, str]]:
    if directory is None:
        return []
    today = day(time.time_ns() // 1_000_000)
    node = directory.node(OrgId.canonical(config.node.code))
    warnings = []
    for organ in organs:
        if directory.entry(organ, today) is None:
            warnings.append(
                (
                    f"hôm nay danh mục không có mã {organ}, nên chưa ai gửi đến được",
                    f"{organ} is not in today's directory: nobody can send to it",
                )
            )
        if node is not None and not table_for(directory, node.code, frozenset()).owns(organ):
            what = (f"mã {organ} không thuộc phạm vi của nút này", f"{organ} does not belong to this node")
            raise Stop(Code.FAILED, what, ("đăng ký tại nút phụ trách mã đó", "register it at the node that covers it"))
    return warnings


def _refuse_taken(fresh: System, systems: Iterable[System]) -> None:
    """One focal point per organ. # QĐ 28/2018 Điều 7.3"""
    for system in systems:
        shared = sorted(set(system.codes) & set(fresh.codes))
        if shared and not system.disabled:
            what = (f"mã {shared[0]} đã thuộc hệ thống {system.id}", f"{shared[0]} already belongs to {system.id}")
            raise Stop(
                Code.FAILED,
                what,
                (f"ngừng hệ thống cũ trước: truc system disable {system.id}", f"first: truc system disable {system.id}"),
            )


def _change_one(config: NodeConfig, system_id: str, turn: Callable[[System], System]) -> tuple[System, System]:
    """The system as it was and as it is."""
    before: list[System] = []

    def change(systems: tuple[System, ...]) -> tuple[System, ...]:
        if all(system.id != system_id for system in systems):
            raise _no_system(system_id)
        before[:] = [system for system in systems if system.id == system_id]
        return tuple(turn(system) if system.id == system_id else system for system in systems)

    after = next(system for system in _update(config.node.systems, change) if system.id == system_id)
    return before[0], after


def _load(path: Path) -> tuple[System, ...]:
    try:
        return registry.load(path)
    except registry.RegistryError as error:
        raise bad_configuration(error.problems) from None


def _update(path: Path, change: Callable[[tuple[System, ...]], tuple[System, ...]]) -> tuple[System, ...]:
    try:
        return registry.update(path, change)
    except registry.RegistryError as error:
        raise bad_configuration(error.problems) from None
    except PermissionError as error:
        what = (f"không được ghi {error.filename or path}", f"{error.filename or path} may not be written")
        todo = ("chạy lệnh bằng người dùng của nút, hoặc sudo", "run the command as the node's user, or with sudo")
        raise Stop(Code.NOT_ALLOWED, what, todo) from None


def _print_secret(system: System, as_json: bool) -> None:
    if as_json:
        json_line({**_public(system), "secret": system.secrets[0]})
        return
    say(f"Khóa bí mật của {system.id} (chỉ in một lần, hãy cất kỹ):", f"Secret of {system.id} (printed once, keep it safe):")
    click.echo(system.secrets[0])


def _public(system: System) -> dict[str, object]:
    return {
        "id": system.id,
        "codes": [str(code) for code in system.codes],
        "networks": [str(network) for network in system.networks],
        "secrets": len(system.secrets),
        "disabled": system.disabled,
        "all_or_nothing": system.all_or_nothing,
        "certificates": [_public_certificate(each) for each in system.certificates],
    }


def _cells(system: System) -> tuple[object, ...]:
    state = t("đã ngừng", "disabled") if system.disabled else t("đang dùng", "enabled")
    return (
        system.id,
        " ".join(map(str, system.codes)),
        " ".join(map(str, system.networks)) or t("mọi nơi", "anywhere"),
        len(system.secrets),
        _until(system),
        state + (t(", gửi tất cả hoặc không", ", all or nothing") if system.all_or_nothing else ""),
    )


def _until(system: System) -> str:
    if not system.certificates:
        return "-"
    ends_ms = system.certificates_end_ms()
    return t("đã thu hồi", "revoked") if ends_ms is None else iso(ends_ms)[:10]
