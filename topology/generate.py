"""A lawful tree of any size from a seed: the country of 2018 or of 2025, or any number of provinces, units and tiers.

Names and level-1 codes are those of `topology.level1`; every code below is made up for rehearsals, and its organ says so in its
name. One shape and one seed give one tree, in every process. Knows `node.core`, the model and the table of level-1 codes;
nothing of files, and it asks `topology.check` nothing: a tree is lawful by the way it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random

from node.core.directory import Connection, Entry
from node.core.identifier import HUB, OrgId
from topology.level1 import MINISTRIES, PROVINCES, SEEN, Organ, standing
from topology.load import LOOPBACK, SITES_MAX
from topology.model import OfficeSystem, Site, Tree
from topology.sim.record import stream

ZONE = "dientap.truc.internal"
AXIS_NAME = "Trục liên thông văn bản quốc gia"
AXIS_CODE = "TRUC"
PROBE_MAX_S = 5.0
"""As in configs/demo.toml: in a rehearsal a restored link is found soon."""

DAY_2018 = date(2018, 12, 31)
DAY_2025 = date(2025, 7, 1)
CODES_SINCE = date(2020, 9, 15)
"""The first day of codes in the form of QĐ 20/2020/QĐ-TTg."""
OFFICE = "G22"
"""Văn phòng Chính phủ keeps the axis: its office system hangs on the hub itself. # QĐ 28/2018 Điều 15"""

DEPTH_MAX = 8
"""Tiers below the hub: with groups of three digits a code then still has its 35 characters, that of an organ below too."""
SYSTEMS_MAX = 20
WITHOUT_MAX = 20
BELOW_MAX = 999
"""Codes below one site."""
UNEVEN = (0.5, 1.5)
"""How much more or less than its share a parent gets where units are not spread evenly."""


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} = {value}: {low}..{high}")


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier below the provinces. label: of its sites; kind: of its organs; office: what the organ is called before the unit.

    words: what a unit is called, with weights. total: units in the whole tree. even: every parent gets the same number.
    """

    label: str
    kind: str
    total: int
    words: tuple[tuple[str, int], ...] = (("đơn vị", 1),)
    office: str = ""
    even: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """What a tree should be like. day: whose provinces and ministries; provinces: how many of them, drawn if fewer than all.

    systems: office systems at each site. without: under each province so many organs of each sort that has no office system:
    closed with a successor, locked, not connected but received for by the province, not connected. Raises `ValueError`.
    """

    day: date
    provinces: int
    tiers: tuple[Tier, ...] = ()
    ministries: bool = False
    systems: int = 1
    without: int = 1

    def __post_init__(self) -> None:
        _within("provinces", self.provinces, 1, len(standing(PROVINCES, self.day)))
        _within("depth", 1 + len(self.tiers), 1, DEPTH_MAX)
        _within("systems", self.systems, 1, SYSTEMS_MAX)
        _within("without", self.without, 0, WITHOUT_MAX)
        _within("sites", 1 + self.provinces + sum(tier.total for tier in self.tiers), 2, SITES_MAX - len(MINISTRIES))


SHAPES: dict[str, Shape] = {
    "2018": Shape(DAY_2018, 63, (Tier("huyện", "ubnd_huyen", 700, (("huyện", 6), ("thị xã", 1)), "UBND "),)),
    "2025": Shape(DAY_2025, 34, (Tier("xã", "ubnd_xa", 3_321, (("xã", 4), ("phường", 1)), "UBND "),)),
    "nation": Shape(DAY_2025, 34, ministries=True, without=0),
}
"""hub + 63 provinces + 700 districts; hub + 34 provinces + 3,321 communes; the level-1 codes alone (configs/nation.toml)."""


def small(provinces: int = 2, units: int = 2, depth: int = 2) -> Shape:
    """A shape for rehearsals. depth: tiers below the hub, provinces being the first; units: sites right below every other site.

    `replace` sets the rest. Raises `ValueError` where a bound is passed.
    """
    _within("units", units, 1, BELOW_MAX)
    _within("depth", depth, 1, DEPTH_MAX)
    tiers = []
    for level in range(2, depth + 1):
        label = "đơn vị" if level == 2 else f"đơn vị cấp {level}"
        tiers.append(Tier(label, f"don_vi_cap_{level}", provinces * units ** (level - 1), even=True))
    day = DAY_2025 if provinces <= SHAPES["2025"].provinces else DAY_2018
    return Shape(day, provinces, tuple(tiers))


def generate(shape: Shape, seed: int) -> Tree:
    """The one tree of that shape and seed, parents first. Raises `ValueError` where `BELOW_MAX` codes below a site do not do."""
    provinces = [_province(organ, shape) for organ in _drawn(shape, stream(seed, "tree", "provinces"))]
    bodies = standing(MINISTRIES, shape.day) if shape.ministries else ()
    ministries = [_ministry(body, shape) for body in bodies if body.code != OFFICE]
    units = [_hub(shape), *provinces, *ministries]
    above = provinces
    for tier in shape.tiers:
        above = _below(above, tier, shape, stream(seed, "tree", tier.label))
        units += above
    systems = [_systems(unit, shape) for unit in units]
    past = _past(provinces, PROVINCES, shape) + (_past([units[0], *ministries], MINISTRIES, shape) if shape.ministries else [])
    silent = [entry for unit in provinces for entry in _silent(unit, units, shape, stream(seed, "tree", "silent", unit.code))]
    return Tree(
        zone=ZONE,
        axis_name=AXIS_NAME,
        axis_code=AXIS_CODE,
        version=1,
        sites=tuple(_site(unit, its) for unit, its in zip(units, systems, strict=True)),
        entries=(*(entry for unit in units for entry in unit.organs), *past, *silent),
        options={"link": {"probe_max_s": PROBE_MAX_S}},
    )


def heading(tree: Tree, command: str) -> str:
    """The comment for the top of a generated file: where it comes from and which of its codes are real."""
    unseen = sorted({str(entry.code) for entry in tree.entries} & _PROVINCE_CODES - SEEN)
    lines = [f"Cây do lệnh này tạo ra: {command}", "Cùng phiên bản, cùng tham số thì ra đúng cây này.", ""]
    lines += ["Mã cấp 1 và tên theo QĐ 20/2020/QĐ-TTg, QĐ 09/2025/QĐ-TTg; tỉnh sáp nhập theo Nghị quyết 202/2025/QH15."]
    lines += ["Mã K là của HĐND, cùng số với mã H của UBND. Chưa thay được danh mục chính thức: đối chiếu trước khi dùng thật."]
    lines += ["Mọi mã cấp 2 trở xuống, ở cơ quan có chữ “diễn tập” trong tên, là mã diễn tập, không phải mã thật."]
    if unseen:
        lines += ["", "Mã tỉnh suy theo thứ tự của danh mục, chưa thấy ở nguồn đã công bố nào:"]
        lines += [f"  {' '.join(unseen[first : first + _CODES_A_LINE])}" for first in range(0, len(unseen), _CODES_A_LINE)]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


_CODES_A_LINE = 25
_PROVINCE_CODES = frozenset(organ.code for organ in PROVINCES)


@dataclass(slots=True)
class _Unit:
    """A site in the making. area: what names below it end with. organs: its entries, the first is the site's own."""

    code: OrgId
    name: str
    tier: str
    parent: OrgId | None
    area: str
    organs: list[Entry]
    prefixes: list[OrgId]
    width: int = 2
    used: int = field(default=0)

    def fresh(self) -> OrgId:
        """The next code below this site."""
        self.used += 1
        if self.used > BELOW_MAX:
            raise ValueError(f"{self.name}: more than {BELOW_MAX} codes below one site")
        return OrgId((*self.organs[0].code.path, f"{self.used:0{self.width}}"))


def _drawn(shape: Shape, rng: Random) -> list[Organ]:
    every = standing(PROVINCES, shape.day)
    return sorted(rng.sample(every, shape.provinces), key=every.index)


def _entry(code: OrgId, name: str, kind: str, since: date | None = None) -> Entry:
    """An organ with an office system."""
    return Entry(code, name, code.old_form() or "", kind=kind, valid_from=since, connection=Connection.OFFICIAL)


def _since(organ: Organ, shape: Shape) -> date | None:
    return organ.since or (CODES_SINCE if shape.day >= CODES_SINCE else None)


def _level1(organ: Organ, shape: Shape) -> list[Entry]:
    """The entries of one row of the table: a province has its people's committee and its council."""
    since = _since(organ, shape)
    code = OrgId((organ.code,))
    if organ.code not in _PROVINCE_CODES:
        return [_entry(code, organ.name, "bo_nganh", since)]
    committee = _entry(code, f"UBND {organ.name}", "ubnd_tinh", since)
    return [committee, _entry(_council(organ.code), f"HĐND {organ.name}", "hdnd_tinh", since)]


def _council(code: str) -> OrgId:
    """# QĐ 09/2025/QĐ-TTg: the provincial council has the number of the people's committee (H54, K54)."""
    return OrgId((f"K{code[1:]}",))


def _hub(shape: Shape) -> _Unit:
    office = next(organ for organ in MINISTRIES if organ.code == OFFICE)
    organs = _level1(office, shape)
    return _Unit(HUB, AXIS_NAME, "trung ương", None, office.name, organs, [organs[0].code])


def _province(organ: Organ, shape: Shape) -> _Unit:
    organs = _level1(organ, shape)
    name = f"Trục liên thông {organ.name}"
    return _Unit(organs[0].code, name, "tỉnh", HUB, organ.name, organs, [entry.code for entry in organs])


def _ministry(organ: Organ, shape: Shape) -> _Unit:
    return replace(_province(organ, shape), tier="bộ, ngành")


def _below(parents: Sequence[_Unit], tier: Tier, shape: Shape, rng: Random) -> list[_Unit]:
    """A whole tier, parent after parent."""
    words, weights = zip(*tier.words, strict=True)
    units = []
    for parent, count in zip(parents, _spread(tier, len(parents), rng), strict=True):
        parent.width = 2 if count + shape.systems + len(_SILENT) * shape.without < 100 else 3
        for word in rng.choices(words, weights, k=count):
            code = parent.fresh()
            name = _rehearsed(word, code, parent.area)
            organ = _entry(code, _capital(tier.office + name), tier.kind)
            units.append(_Unit(code, _capital(name), tier.label, parent.code, parent.area, [organ], [code]))
    return units


def _spread(tier: Tier, parents: int, rng: Random) -> list[int]:
    """How many units each parent gets: in all exactly the tier's total."""
    weights = [1.0 if tier.even else rng.uniform(*UNEVEN) for _ in range(parents)]
    shares = [tier.total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    most_cut_off = sorted(range(parents), key=lambda which: counts[which] - shares[which])
    for which in most_cut_off[: tier.total - sum(counts)]:
        counts[which] += 1
    return counts


def _systems(unit: _Unit, shape: Shape) -> tuple[OfficeSystem, ...]:
    """The first one serves the site's own organs, each further one an organ below; that organ is entered too."""
    name = str(unit.code).lower().replace(".", "-") or "vpcp"
    systems = [OfficeSystem(name, tuple(organ.code for organ in unit.organs), LOOPBACK)]
    for number in range(2, shape.systems + 1):
        code = unit.fresh()
        unit.organs.append(_entry(code, _capital(_rehearsed("đơn vị", code, unit.area)), f"don_vi_cap_{len(code.path)}"))
        systems.append(OfficeSystem(f"{name}.{number}", (code,), LOOPBACK))
    return tuple(systems)


def _site(unit: _Unit, systems: tuple[OfficeSystem, ...]) -> Site:
    return Site(unit.name, unit.code, unit.tier, unit.parent, tuple(unit.prefixes), systems)


def _past(units: Sequence[_Unit], table: Sequence[Organ], shape: Shape) -> list[Entry]:
    """Who stood at level 1 before the shape's day. The site of the successor holds the closed code too.

    A row whose successor is not in this tree is left out; without any successor it is closed with none.
    """
    sites = {str(organ.code): unit for unit in units for organ in unit.organs}
    found = []
    for row in table:
        renamed, follower = sites.get(row.code), sites.get(row.successor)
        if not row.ended_before(shape.day) or (row.successor and follower is None):
            continue
        if not row.successor and renamed is None and row.code in _PROVINCE_CODES:
            continue  # the earlier name of a province that is not in this tree
        for entry in _level1(row, shape):
            state = Connection.CLOSED if renamed is None else Connection.OFFICIAL
            successor = OrgId((f"{entry.code}"[0] + row.successor[1:],)) if follower else None
            found.append(replace(entry, valid_to=row.until, successor=successor, connection=state))
            if follower is not None:
                follower.prefixes.append(entry.code)
    return found


_SILENT = (Connection.CLOSED, Connection.LOCKED, Connection.NONE, Connection.NONE)
"""Organs without an office system; for the first that is not connected the province receives. # QĐ 28/2018 Điều 21.2"""


def _silent(unit: _Unit, units: Sequence[_Unit], shape: Shape, rng: Random) -> list[Entry]:
    """The province's organs without an office system. A closed one is followed by a unit of the province, else the province."""
    children = [each.code for each in units if each.parent == unit.code] or [unit.code]
    found = []
    for _ in range(shape.without):
        for position, state in enumerate(_SILENT):
            code = unit.fresh()
            entry = replace(_entry(code, _capital(_rehearsed("đơn vị", code, unit.area)), "don_vi_cap_2"), connection=state)
            if state is Connection.CLOSED:
                entry = replace(entry, valid_to=shape.day - timedelta(days=1), successor=rng.choice(children))
            elif state is Connection.NONE and _SILENT.index(state) == position:
                unit.organs[0] = replace(unit.organs[0], receives_for=(*unit.organs[0].receives_for, code))
            found.append(entry)
    return found


def _rehearsed(word: str, code: OrgId, area: str) -> str:
    return f"{word} diễn tập {'.'.join(code.path[1:])}, {area}"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
