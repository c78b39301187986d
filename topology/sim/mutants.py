"""Planted bugs: the rehearsal must find each of them, or its silence about the real code means nothing.

Each is a small change of production code, made in this process while it is planted, as a careless hand might make it. Knows the
code it spoils; nothing of how a run finds out.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from node import forwarder, intake, origin, uplink
from node.adapters.http import tls
from node.adapters.sqlite import admission, boxes, numbers, store, writer
from node.adapters.sqlite import road as road_sql
from node.adapters.sqlite.connection import settings
from node.core import changes, clock_filter, custody, envelope, instant, pace, standing, timekeeping
from node.core import forwarding as road
from node.core.statement import Kept
from node.core.wire import EnvelopeVerdicts, Outcome, Verdict
from topology.sim import database, files

LATE_S = 0.2


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug. what: one line for people. profile: the one under which it must be found."""

    what: str
    plant: Callable[[ExitStack], None]
    profile: str = "small"


def _put(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    before = getattr(owner, name)
    setattr(owner, name, value)
    stack.callback(setattr, owner, name, before)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one bug while the block runs; "" plants nothing. KeyError for a name that is none."""
    with ExitStack() as stack:
        if name:
            MUTANTS[name].plant(stack)
        yield


# --- durability -------------------------------------------------------------------------------------------------------------


def _synchronous_normal(stack: ExitStack) -> None:
    def weaker(wal_pages_max: int) -> Callable[[sqlite3.Connection], None]:
        apply = settings(wal_pages_max)

        def both(db: sqlite3.Connection) -> None:
            apply(db)
            db.execute("PRAGMA synchronous=NORMAL")

        return both

    _put(stack, database, "settings", weaker)


def _reply_before_commit(stack: ExitStack) -> None:
    """Everybody hears of the group before it is committed, a moment later."""

    commit = writer.Writer._commit

    class Hasty:
        """The connection, but that its commit comes after the answer."""

        def __init__(self, connection: Any) -> None:
            self.connection = connection

        async def run(self, work: Callable[[Any], Any]) -> Any:
            def begun(db: sqlite3.Connection) -> Any:
                return work(_Uncommitted(db))

            return await self.connection.run(begun)

    async def early(self: writer.Writer, members: list[Any]) -> None:
        really = self._connection
        self._connection = Hasty(really)  # type: ignore[assignment]
        try:
            await commit(self, members)
        finally:
            self._connection = really
        await asyncio.sleep(LATE_S)
        await really.run(lambda db: db.execute("COMMIT") if db.in_transaction else None)

    _put(stack, writer.Writer, "_commit", early)


class _Uncommitted:
    """A database that passes over every COMMIT, and over the BEGIN behind it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "COMMIT" or (statement == "BEGIN IMMEDIATE" and self._db.in_transaction):
            return self._db.execute("SELECT 1")
        return self._db.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def _body_before_its_sync(stack: ExitStack) -> None:
    _put(stack, files._SimFile, "sync", lambda self: None)


def _folder_not_synced(stack: ExitStack) -> None:
    _put(stack, files.SimFiles, "sync_folder", lambda self, name: None)


# --- once, and only once ----------------------------------------------------------------------------------------------------


def _dedup_off(stack: ExitStack) -> None:
    _put(stack, admission, "_known", lambda tx, header, code, neighbour: (False, False))


def _new_id_on_retry(stack: ExitStack) -> None:
    """An office that asks again gets a new document."""
    submit = admission.submit

    def anew(tx: writer.Transaction, submission: custody.Submission, stamp: writer.Stamp) -> custody.Stored:
        return submit(tx, replace(submission, repeat_since_ms=stamp.at_ms), stamp)

    _put(stack, admission, "submit", anew)


def _failure_is_success(stack: ExitStack) -> None:
    """No answer came, and the document is forgotten as if the neighbour had taken it."""

    def settled(offered: Sequence[custody.Offered], failure: Exception, *, now_ms: int) -> list[custody.Settlement]:
        return [custody.Settlement(row.item, custody.Settled.TAKEN) for row in offered]

    _put(stack, forwarder, "settle_failure", settled)


def _one_verdict_for_all(stack: ExitStack) -> None:
    """The first receiver's verdict counts for the whole envelope."""
    settle = road.settle

    def first(offered: Sequence[custody.Offered], verdicts: Sequence[EnvelopeVerdicts], **more: Any) -> list[custody.Settlement]:
        same = []
        for spoken in verdicts:
            one: Verdict | None = next(iter(spoken.verdicts.values()), None)
            alike = dict.fromkeys(spoken.verdicts, one) if one is not None else {}
            same.append(EnvelopeVerdicts(spoken.origin, spoken.id, alike))
        return settle(offered, same, **more)

    _put(stack, forwarder, "settle", first)


def _come_back_is_taken(stack: ExitStack) -> None:
    """What comes back from the neighbour it was handed to is answered "taken" like any repeat, and nobody has it any more."""
    known = admission._known
    _put(stack, admission, "_known", lambda *asked: (known(*asked)[0], False))


def _expiry_in_doubt(stack: ExitStack) -> None:
    """A copy that the neighbour may have expires all the same: it arrives, and the sender hears that it did not."""
    expired = road_sql.expired

    class Blind:
        def __init__(self, db: Any) -> None:
            self._db = db

        def execute(self, statement: str, *values: Any) -> Any:
            return self._db.execute(statement.replace("o.in_doubt=0 AND ", ""), *values)

    _put(stack, road_sql, "expired", lambda db, before_ms, limit: expired(Blind(db), before_ms, limit))  # type: ignore[arg-type]
    _put(stack, road_sql, "still_expired", lambda tx, item: True)


# --- the office's side ------------------------------------------------------------------------------------------------------


def _confirmed_before_commit(stack: ExitStack) -> None:
    """The office hears that its "done" is recorded before it is."""
    collect = store.SqliteStore.collect

    async def later(self: store.SqliteStore, item: int, home: custody.Homeward) -> None:
        async def then() -> None:
            await asyncio.sleep(LATE_S * 10)
            await collect(self, item, home)

        self._late = asyncio.get_running_loop().create_task(then())  # type: ignore[attr-defined]

    _put(stack, store.SqliteStore, "collect", later)


def _handed_over_at_fetch(stack: ExitStack) -> None:
    """An item ends when its office has fetched it, not when it has said "done": a crash in between loses it."""
    fetched = boxes.fetched

    def ended(tx: writer.Transaction, items: Sequence[int], stamp: writer.Stamp) -> frozenset[int]:
        early = fetched(tx, items, stamp)
        tx.db.executemany("UPDATE mailbox SET state='done' WHERE item=?", [(item,) for item in items])
        return early

    _put(stack, boxes, "fetched", ended)


# --- the road ---------------------------------------------------------------------------------------------------------------


def _lowest_lane_starves(stack: ExitStack) -> None:
    """Strict priority: ordinary documents go only when nothing else waits."""
    cut = road.cut_batch

    def strict(lanes: Mapping[Any, Sequence[custody.Candidate]], *more: Any, **options: Any) -> Any:
        urgent = {lane: rows for lane, rows in lanes.items() if lane is not envelope.Lane.NORMAL and rows}
        return cut(urgent or lanes, *more, **options)

    _put(stack, road, "cut_batch", strict)


def _long_pieces(stack: ExitStack) -> None:
    """Batches and chunks as long as on the fastest link, whatever this one carries."""
    _put(stack, pace.Rate, "piece_bytes", lambda self, most, **told: most)


def _bodies_cost_nothing(stack: ExitStack) -> None:
    """What crosses by itself is not counted: while the body of a hỏa tốc crosses, it is always its turn."""
    for user in (forwarder, uplink):
        _put(stack, user, "charge", lambda turn, *body: turn)


def _urgent_behind_bulk(stack: ExitStack) -> None:
    """A body that has begun to cross crosses to its end, whoever waits."""
    _put(stack, uplink.Crossings, "gives_way", lambda self, crossing: False)


def _notice_answers_notice(stack: ExitStack) -> None:
    """The end of a status or of a notice is told home like that of a document."""
    _put(stack, origin, "tells_home", lambda kind: True)
    _put(stack, forwarder, "tells_home", lambda kind: True)


def _taken_but_not_kept(stack: ExitStack) -> None:
    """A neighbour's "later" is answered as "taken": it forgets what nobody has."""
    accept = intake.Intake.accept

    async def polite(self: intake.Intake, *asked: Any) -> tuple[EnvelopeVerdicts, ...]:
        found = await accept(self, *asked)
        taken = Verdict(Outcome.TAKEN)
        return tuple(
            replace(
                each,
                verdicts={code: taken if said.outcome is Outcome.LATER else said for code, said in each.verdicts.items()},
            )
            for each in found
        )

    _put(stack, intake.Intake, "accept", polite)


# --- the time ---------------------------------------------------------------------------------------------------------------


def _slow_exchange_trusted(stack: ExitStack) -> None:
    """The middle of an exchange counts as exact, however long it took."""
    measure = clock_filter.measure

    def exact(exchange: clock_filter.Exchange, drift_ppm: int) -> clock_filter.Sample | None:
        found = measure(exchange, drift_ppm)
        return replace(found, radius_ns=0) if found is not None else None

    _put(stack, timekeeping, "measure", exact)


def _drift_forgotten(stack: ExitStack) -> None:
    """A sample says as much after an hour as when it was taken."""
    _put(stack, clock_filter, "allowance_ns", lambda passed_ns, drift_ppm: 1)


def _host_clock_trusted(stack: ExitStack) -> None:
    """The host's clock is used without correction."""
    _put(stack, timekeeping.Timekeeping, "_own", property(lambda self: True))


def _time_set_back(stack: ExitStack) -> None:
    """Time that turns out to be ahead is set back at once."""
    utc_ns = timekeeping.Timekeeping.utc_ns

    def sudden(self: timekeeping.Timekeeping, wall_ns: int, mono_ns: int) -> int:
        self._given_ns = 0
        return utc_ns(self, wall_ns, mono_ns)

    _put(stack, timekeeping.Timekeeping, "utc_ns", sudden)


# --- numbers ----------------------------------------------------------------------------------------------------------------


def _counted_twice(stack: ExitStack) -> None:
    """The cursor is kept by the process: what was folded before a restart is folded again."""
    cursors: dict[int, int] = {}

    def remembered(db: sqlite3.Connection) -> tuple[int]:
        return (cursors.get(id(db), 0),)

    fold = numbers.fold

    def folded(tx: writer.Transaction, counted: Any) -> bool:
        done = fold(tx, counted)
        if done:
            cursors[id(tx.db)] = counted.after
        return done

    _put(stack, numbers, "_cursor", remembered)
    _put(stack, numbers, "fold", folded)


def _day_in_utc(stack: ExitStack) -> None:
    _put(stack, instant, "day", lambda ms: datetime.fromtimestamp(ms // 1000, UTC).date())


def _older_replaces(stack: ExitStack) -> None:
    _put(stack, numbers, "_judge", lambda db, signed, via: Kept.NEW)


# --- the directory ----------------------------------------------------------------------------------------------------------


def _claims_believed(stack: ExitStack) -> None:
    """Whoever signs well is believed of every code."""
    _put(stack, changes, "may", lambda grants, code, at_ms=None: True)


# --- certificates -----------------------------------------------------------------------------------------------------------


def _revoked_served(stack: ExitStack) -> None:
    """Who is on a list is served all the same."""
    _put(stack, standing, "judge", lambda chain, lists, old_ms: None)


def _expired_served(stack: ExitStack) -> None:
    """No date of a certificate counts."""
    judge = tls.judge_peer
    _put(stack, tls, "judge_peer", lambda der, **told: judge(der, **{**told, "now_ms": None}))


MUTANTS: Mapping[str, Mutant] = {
    "revoked-served": Mutant("vẫn phục vụ nút có chứng thư đã bị thu hồi", _revoked_served),
    "expired-served": Mutant("vẫn phục vụ nút có chứng thư hết hiệu lực", _expired_served),
    "slow-exchange-trusted": Mutant("tin một lần hỏi giờ đi quá lâu", _slow_exchange_trusted, "clocks"),
    "drift-forgotten": Mutant("quên rằng đồng hồ máy chạy lệch dần", _drift_forgotten, "clocks"),
    "host-clock-trusted": Mutant("dùng đồng hồ máy mà không hiệu chỉnh", _host_clock_trusted, "clocks"),
    "time-set-back": Mutant("giờ của nút chạy lùi", _time_set_back, "clocks"),
    "claims-believed": Mutant("tin một nút về mã của nút khác", _claims_believed, "change"),
    "synchronous-normal": Mutant("SQLite không ghi chắc xuống đĩa ở mỗi lần commit", _synchronous_normal),
    "reply-before-commit": Mutant("trả lời trước khi commit", _reply_before_commit),
    "body-before-sync": Mutant("báo đã nhận nội dung trước khi fsync tệp", _body_before_its_sync),
    "folder-not-synced": Mutant("không fsync thư mục sau khi đặt tên tệp", _folder_not_synced),
    "dedup-off": Mutant("không nhận ra bì đã nhận", _dedup_off),
    "new-id-on-retry": Mutant("gửi lại cùng tệp thành văn bản mới", _new_id_on_retry),
    "failure-is-success": Mutant("coi việc không có trả lời là đã chuyển", _failure_is_success),
    "one-verdict-for-all": Mutant("một kết quả cho mọi Bên nhận của một bì", _one_verdict_for_all, "change"),
    "come-back-taken": Mutant("bì quay về được trả lời là đã nhận", _come_back_is_taken, "change"),
    "expiry-in-doubt": Mutant("hết hạn cả bản chưa rõ kết quả", _expiry_in_doubt, "expiry"),
    "confirmed-before-commit": Mutant("báo hệ thống đã ghi nhận trước khi commit", _confirmed_before_commit),
    "handed-over-at-fetch": Mutant("coi như đã giao khi mới tải về", _handed_over_at_fetch),
    "lane-starves": Mutant("luồng thường chỉ đi khi không còn gì khác", _lowest_lane_starves, "flood"),
    "long-pieces": Mutant("lô và đoạn dài như trên đường nhanh dù đường chậm", _long_pieces, "slow"),
    "bodies-cost-nothing": Mutant("nội dung hỏa tốc đang đi thì văn bản thường đứng hẳn", _bodies_cost_nothing, "slow"),
    "urgent-behind-bulk": Mutant("nội dung đã bắt đầu đi thì đi hết mới đến văn bản khẩn", _urgent_behind_bulk, "slow"),
    "notice-answers-notice": Mutant("thông báo trả lời thông báo", _notice_answers_notice),
    "taken-but-not-kept": Mutant("trả lời đã nhận cho bì chưa nhận được", _taken_but_not_kept),
    "counted-twice": Mutant("đếm lại sổ cái từ đầu sau mỗi lần khởi động", _counted_twice),
    "day-in-utc": Mutant("ngày của số liệu bắt đầu lúc nửa đêm giờ UTC", _day_in_utc, "days"),
    "older-replaces-newer": Mutant("bảng kê cũ thay bảng kê mới", _older_replaces, "days"),
}
