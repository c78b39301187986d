"""The house keeps its own rules: who may know whom, where time, chance, threads and sockets live, sizes, words, tests by name.

Each rule is a function from a source tree to its findings. It must find nothing in the program, and it must find what is planted:
a rule that no program checks leaks, and so does a check that cannot fail.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("node", "topology")
EVERYTHING = ("node", "topology", "tests", "configs", "docs", "scripts")
LINES_MAX = 600
FUNCTION_LINES_MAX = 70
SELF_EVIDENT_LINES = 18
"""A public name whose whole definition is no longer than this may speak for itself."""

# --- the rules as tables -----------------------------------------------------------------------------------------------

DUTIES = ("node.intake", "node.parts", "node.mailbox", "node.housekeeper", "node.forwarder", "node.registrar", "node.reporter")

KNOWS: Mapping[str, tuple[str, ...]] = {
    "node.core": ("node.core",),
    "node.ports": ("node.core",),
    "node.config": ("node.core",),
    "node.documents": ("node.core", "node.documents"),
    "node.origin": ("node.core", "node.ports"),
    **dict.fromkeys(DUTIES, ("node.core", "node.ports", "node.origin")),
    "node.forwarder": ("node.core", "node.ports", "node.origin", "node.receipts"),
    "node.receipts": ("node.core", "node.ports"),
    "node.surroundings": ("node.core", "node.ports", "node.adapters.directory_file"),
    "node.desk": (
        *("node.core", "node.ports", "node.origin", "node.forwarder"),
        *("node.proving", "node.auditor", "node.reports"),
    ),
    "node.auditor": ("node.core", "node.ports", "node.questions"),
    "node.adapters.acts": ("node.core", "node.adapters.folders"),
    "node.proving": ("node.core", "node.ports", "node.origin", "node.questions"),
    **dict.fromkeys(("node.uplink", "node.questions"), ("node.core", "node.ports", "node.forwarder")),
    "node.office_door": ("node.core", "node.ports", "node.intake", "node.mailbox", "node.surroundings", "node.reports"),
    **dict.fromkeys(("node.reports", "node.deliverer"), ("node.core", "node.ports")),
    "node.reporting": ("node.core", "node.ports", "node.config", "node.adapters", "node.reports", "node.deliverer"),
    "node.reconciler": ("node.core", "node.ports", "node.questions"),
    "node.gateway": (),
    "node.children": ("node.core", "node.ports", "node.config", "node.adapters"),
    "node.keys": (
        "node.core",
        "node.ports",
        "node.config",
        "node.adapters",
        "node.warden",
        "node.renewal",
        "node.seeker",
        "node.forwarder",
    ),
    "node.seeker": ("node.core",),
    "node.renewal": ("node.core", "node.ports", "node.adapters.folders", "node.adapters.issuing", "node.adapters.own_keys"),
    "node.warden": ("node.core", "node.ports", "node.adapters.folders", "node.adapters.issuing", "node.adapters.lists"),
    "node.timekeeper": ("node.core", "node.ports"),
    "node.process": ("node.config", "node.adapters", "node.gateway"),
    "node.adapters": ("node.core", "node.ports", "node.config"),
    "node.adapters.authority": ("node.core.standing", "node.adapters.folders"),
    "node.adapters.issuing": ("node.core", "node.adapters.authority", "node.adapters.folders"),
    "node.adapters.lists": (
        *("node.core", "node.adapters.authority", "node.adapters.folders"),
        "node.adapters.http.tls",  # reads the same chains
    ),
    "node.adapters.directory_file": ("node.core", "node.adapters.folders"),
    "node.adapters.directory_sheets": ("node.core",),
    "node.adapters.http.admin_directory": ("node.core", "node.adapters.directory_file"),
    "node.adapters.own_keys": ("node.core", "node.adapters.authority", "node.adapters.folders"),
    "node.adapters.peers": ("node.core", "node.adapters.folders"),
    "node.adapters.registry": ("node.core", "node.adapters.client_certificates"),
    "node.adapters.enrolment": (
        *("node.core", "node.adapters.folders", "node.adapters.authority", "node.adapters.issuing"),
        *("node.adapters.peers", "node.adapters.directory_file"),
    ),
    "node.adapters.reports": ("node.core", "node.adapters.folders"),
    "node.adapters.bodies": ("node.core", "node.adapters.folders"),
    "node.adapters.http.admin": (
        "node.core",
        "node.adapters.metrics",
        "node.adapters.http.admin_directory",
    ),  # the gauges' type and the content type
    "node.adapters.signing": ("node.core", "node.adapters.http.tls"),  # reads the same certificate files
    "node.app": (
        *("node.core", "node.ports", "node.config", "node.documents", "node.adapters"),
        *(
            "node.children",
            "node.keys",
            "node.process",
            "node.origin",
            *("node.office_door", "node.reporting", "node.reports"),
            "node.desk",
            "node.uplink",
            "node.gateway",
            "node.auditor",
            "node.reconciler",
            "node.proving",
            "node.questions",
            "node.receipts",
            "node.surroundings",
            "node.timekeeper",
            *DUTIES,
        ),
    ),
    "node.cli": (
        "node.cli",
        "node.core",
        "node.config",
        *("node.adapters.registry", "node.adapters.client_certificates"),
        "node.adapters.directory_file",
        *("node.adapters.calendar_files", "node.adapters.reports", "node.adapters.directory_sheets"),
        "node.adapters.folders",
        *("node.adapters.authority", "node.adapters.issuing", "node.adapters.clock"),
        *("node.adapters.peers", "node.adapters.enrolment", "node.adapters.chance"),
        *("node.adapters.http.enrol_client", "node.adapters.http.tls", "node.adapters.signing", "node.adapters.acts"),
        "node.adapters.http.time_stamps",
        "node.adapters.discovery",
        *("node.adapters.http.enrol_client", "node.adapters.http.tls", "node.adapters.signing"),
    ),
    "node.__main__": ("node.cli",),
    "topology": ("topology", "node.core", "node.config", "node.documents", "node.adapters.folders"),
    "topology.certificates": ("topology", "node.core", "node.adapters.authority", "node.adapters.folders"),
    "topology.bench.seed": ("topology", "node.core", "node.adapters.sqlite"),  # a node's past is written by its own store
    "topology.sim": ("topology", "node.core", "node.config", "node.documents", "node.ports", "node.adapters"),
    "topology.sim.world": (
        *("topology", "node.core", "node.config", "node.ports", "node.adapters"),
        *("node.app", "node.desk", "node.gateway", "node.process", "node.surroundings", "node.timekeeper"),
    ),
    "topology.sim.papers": ("topology", "node.core", "node.ports", "node.adapters", "node.warden"),
    "topology.sim.shared": ("node.registrar", "node.core", "topology.sim.link"),
    "topology.sim.run": (
        "topology",
        "node.core",
        "node.uplink",
        "node.registrar",
        "node.reporter",
    ),  # days of it wait longer between two idle looks
    "topology.sim.mutants": (
        "topology",
        "node.core",
        "node.adapters",
        "node.origin",
        "node.uplink",
        *DUTIES,
    ),  # the code it spoils
}
"""Longest match decides. A technology of `node.adapters` (a file or a folder) may also know itself."""

ONLY_INSIDE_FUNCTIONS: Mapping[str, tuple[str, ...]] = {"node.cli": ("node.app", "topology")}
"""Heavy or lower than the command: imported when a command is called, so that the others answer at once."""

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "aiohttp": ("node.adapters.http", "node.app", "topology"),
    "multidict": ("node.adapters.http",),
    "aiosqlite": ("node.adapters.sqlite.connection",),
    "apsw": ("topology.sim.database",),
    "sqlite3": (
        "node.adapters.sqlite",
        "node.cli.version",
        "topology.bench.seed",
        "topology.sim.database",
        "topology.sim.mutants",
        "topology.sim.world",
    ),
    "click": ("node.cli",),
    "cryptography": ("node.adapters", "node.keys", "node.cli.ca", "topology.sim.keys"),
    "prometheus_client": ("node.adapters.metrics",),
    "pydantic_core": ("node.config",),
    "pydantic": ("node.config", "node.adapters", "node.cli.init", "topology.load"),
    "rich": ("node.cli", "topology.chronicle"),
    **dict.fromkeys(("jinja2", "xlsxwriter"), ("node.adapters.reports",)),
    "structlog": (
        "node.adapters",
        "node.app",
        "node.gateway",
        "node.questions",
        "node.process",
        "node.receipts",
        "node.auditor",
        "node.uplink",
        "node.deliverer",
        "node.surroundings",
        "node.timekeeper",
        "node.keys",
        "node.seeker",
        "node.warden",
        "node.renewal",
        "topology.sim.run",
        *DUTIES,
    ),
}
"""Where each library may be imported: docs/dependencies.md says why it is there at all. Others have no home here."""

NOT_IN_CORE = frozenset(
    {
        "asyncio",
        "concurrent",
        "ctypes",
        "fcntl",
        "glob",
        "http",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
    }
)
"""Of the standard library core uses values, nothing that reads, waits or remembers."""

TIME = ("time", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today")
CHANCE = ("secrets", "uuid.uuid1", "uuid.uuid4", "os.urandom", "random.")
HANDED_IN = ("random.Random",)
THREADS = ("threading", "concurrent.futures", "multiprocessing", "_thread", "asyncio.to_thread", "asyncio.Runner")
SOCKETS = ("socket", "socketserver", "selectors", "select")
PROCESSES = ("subprocess", "os.fork", "os.system", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell")

HOMES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        TIME,
        (
            *("node.adapters.clock", "node.cli.system", "topology.local", "topology.office", "topology.demo"),
            *("topology.sim.worker", "topology.bench.run"),
        ),
    ),
    (CHANCE, ("node.adapters.chance", "node.cli.system", "topology.render", "topology.ports", "topology.demo")),
    (THREADS, ("node.adapters.bodies.files",)),
    (
        SOCKETS,
        (
            "node.adapters.http.keepalive",
            "node.adapters.http.sockets",
            "topology.ports",
        ),
    ),
    (PROCESSES, ("topology.local", "topology.joining", "topology.demo", "topology.sim.campaign")),
)
"""What is banned everywhere but in its home, under any name it may be imported by."""

TASK_MAKERS = frozenset({"create_task", "ensure_future", "TaskGroup", "run_in_executor"})
TASK_HOMES = (
    "node.gateway",
    "node.adapters.http.listener",  # accepting, and a TLS handshake, bounded in time and number, before there is a request
    "node.adapters.bodies.files",  # the one thread for files
    "topology.sim",  # the lives of a rehearsal, and its worker processes
    "topology.bench",  # the offices of a bench
)

TESTED_ELSEWHERE: Mapping[str, str] = {
    "node.core.custody": "",  # values without behaviour
    "node.core.errors": "",
    "node.core.health": "",
    "node.core.package": "tests/documents/test_edxml.py",
    "node.ports": "",  # protocols
    **dict.fromkeys(("node.surroundings", "node.office_door"), "tests/test_app.py"),  # tried where it is put together
    **dict.fromkeys(("node.children", "node.keys"), "tests/processes/test_enrolment.py"),
    "node.reporting": "tests/test_app.py",
    "node.__main__": "tests/test_cli.py",
    "node.cli": "tests/test_cli.py",  # one command, tried as its users do
    **dict.fromkeys(("node.adapters.chance", "node.adapters.clock"), "tests/adapters/test_chance_and_clock.py"),
    "node.adapters.sqlite": "tests/contracts/test_store.py",  # one store, tried as what it owes its caller
    "topology.bench.children": "tests/topology/bench/test_workloads.py",  # callers that only a running node answers
    "node.adapters.http.office_face": "tests/adapters/test_office_vxp.py",  # what the faces share, tried in the first of them
    "node.adapters.http.link_client": "tests/adapters/test_link_http.py",  # two ends of one wire
    "node.adapters.http.link_server": "tests/adapters/test_link_http.py",
    "node.adapters.http.enrol_client": "tests/adapters/test_link_enrol.py",
}
"""Files without a test file of their own name: the test that covers them, or "" where there is nothing to try."""

FORBIDDEN_TEXT = re.compile(
    r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b|(?<![\w.])/(?:wor[k]|roo[t]|hom[e]|tm[p])/[\w.]|share[d]/(?:des|ref|data)"
)
"""Work left undone, and places that exist on one machine only."""

# --- reading the sources -----------------------------------------------------------------------------------------------


def modules(root: Path) -> list[tuple[str, Path, ast.Module]]:
    """Every source file of the program: dotted name, path, tree."""
    return _program(root) if root == ROOT else list(_parsed(root))


@cache
def _program(root: Path) -> list[tuple[str, Path, ast.Module]]:
    return list(_parsed(root))


def _parsed(root: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path, ast.parse(path.read_text(encoding="utf-8"), str(path))


def within(name: str, place: str) -> bool:
    """Whether a dotted name is the place or lies in it. A place that ends in a dot means its members only."""
    return name.startswith(place) if place.endswith(".") else name == place or name.startswith(place + ".")


def imports(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, bool]]:
    """What is imported: dotted name (`from a import b` is a.b), the statement, whether it stands inside a function (or is there
    for the reader of types alone)."""
    inner = {
        id(node)
        for place in ast.walk(tree)
        if isinstance(place, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(place, ast.If) and ast.unparse(place.test) == "TYPE_CHECKING")
        for node in ast.walk(place)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node, id(node) in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((f"{base}.{alias.name}", node, id(node) in inner) for alias in node.names)


def mentions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every dotted name a module uses, with its line, whatever alias it was imported under."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, *rest = dotted(node)
            if head in known:
                yield ".".join((known[head], *rest)), node.lineno


def dotted(node: ast.expr) -> tuple[str, ...]:
    """The parts of a.b.c; ("",) first where it hangs on anything but a name."""
    if isinstance(node, ast.Attribute):
        return (*dotted(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ("",)


def longest(table: Mapping[str, tuple[str, ...]], name: str) -> str | None:
    """The most special entry of a table that a name falls under."""
    return max((place for place in table if within(name, place)), key=len, default=None)


# --- the rules ---------------------------------------------------------------------------------------------------------


def arrows(root: Path) -> list[str]:
    """Imports within the program that the table does not allow."""
    found = []
    for name, path, tree in modules(root):
        place = longest(KNOWS, name)
        allowed = KNOWS[place] if place is not None else ()
        if within(name, "node.adapters"):
            allowed = (*allowed, ".".join(name.split(".")[:3]))
        late = tuple(each for owner, known in ONLY_INSIDE_FUNCTIONS.items() if within(name, owner) for each in known)
        for target, statement, inside in imports(tree):
            own = target.startswith(".") or target.split(".")[0] in (*PACKAGES, "tests")
            if not own or target in PACKAGES or any(within(target, each) for each in allowed):
                continue
            if inside and any(within(target, each) for each in late):
                continue
            found.append(f"{path.relative_to(root)}:{statement.lineno}: {name} must not know {target}")
    return found


def libraries(root: Path) -> list[str]:
    """Libraries outside their homes, and in core whatever of the standard library is no plain value."""
    found = []
    for name, path, tree in modules(root):
        for target, statement, _ in imports(tree):
            top = target.split(".")[0]
            if top in PACKAGES or top in ("tests", "", "__future__"):
                continue
            homes = LIBRARIES.get(top)
            at_home = homes is not None and any(within(name, home) for home in homes)
            foreign = top in LIBRARIES or top not in sys.stdlib_module_names
            if (foreign and not at_home) or (within(name, "node.core") and top in NOT_IN_CORE):
                found.append(f"{path.relative_to(root)}:{statement.lineno}: {top} has no home in {name}")
    return found


def banned(root: Path) -> list[str]:
    """Time, chance, threads, sockets, processes and new tasks outside their one home."""
    found = []
    for name, path, tree in modules(root):
        for mention, line in mentions(tree):
            for names, homes in HOMES:
                if any(within(name, home) for home in homes) or any(within(mention, each) for each in HANDED_IN):
                    continue
                if any(within(mention, each) for each in names):
                    found.append(f"{path.relative_to(root)}:{line}: {mention} is not at home in {name}")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute | ast.alias):
                continue
            used = node.attr if isinstance(node, ast.Attribute) else node.name
            if used in TASK_MAKERS and not any(within(name, home) for home in TASK_HOMES):
                found.append(f"{path.relative_to(root)}:{node.lineno}: {used}: only the gateway makes tasks")
    return found


def sizes(root: Path) -> list[str]:
    """Files and functions that no longer fit the eye. The table of words is one table."""
    found = []
    for name, path, tree in modules(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LINES_MAX and name != "node.core.words":
            found.append(f"{path.relative_to(root)}: {lines} lines: which noun wants to leave?")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    found.append(f"{path.relative_to(root)}:{node.lineno}: {node.name} has {length} lines")
    return found


def silence(root: Path) -> list[str]:
    """Modules that do not say what they are for, and public names that need more than their name. A command says it in its
    texts, an option's section in configs/node.toml, a row of SQL in the store that calls it."""
    found = []
    for name, path, tree in modules(root):
        if tree.body and not ast.get_docstring(tree):
            found.append(f"{path.relative_to(root)}: the module says nothing")
        if within(name, "node.cli") or within(name, "node.config") or within(name, "node.adapters.sqlite"):
            continue
        for node in tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            names = isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Enum") for base in node.bases)
            short = (node.end_lineno or node.lineno) - node.lineno < SELF_EVIDENT_LINES
            if not (ast.get_docstring(node) or short or names):
                found.append(f"{path.relative_to(root)}:{node.lineno}: {node.name} says nothing")
    return found


def swallowed(root: Path) -> list[str]:
    """Handlers that take any exception and say nothing: an error nobody classified is logged, counted or raised."""
    found = []
    for _, path, tree in modules(root):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "" if node.type is None else ast.unparse(node.type)
            empty = all(isinstance(step, ast.Pass | ast.Continue) for step in node.body)
            if node.type is None or (caught in ("Exception", "BaseException") and empty):
                found.append(f"{path.relative_to(root)}:{node.lineno}: except {caught} swallows")
    return found


def untested(root: Path) -> list[str]:
    """Source files without a test file of their name in the folder that mirrors theirs."""
    found = []
    for name, path, tree in modules(root):
        if path.stem == "__init__" or not tree.body or has_its_test(root, name):
            continue
        place = max((each for each in TESTED_ELSEWHERE if within(name, each)), key=len, default=None)
        if place is None:
            found.append(f"{path.relative_to(root)}: no test_{path.stem}.py")
        elif TESTED_ELSEWHERE[place] and not (root / TESTED_ELSEWHERE[place]).is_file():
            found.append(f"{path.relative_to(root)}: {TESTED_ELSEWHERE[place]} is not there")
    return found


def has_its_test(root: Path, name: str) -> bool:
    """node.core.wire: tests/core/test_wire.py; node.intake: tests/test_intake.py; node.adapters.sqlite.writer:
    tests/adapters/test_sqlite_writer.py or test_writer.py; topology.load: tests/topology/test_load.py; topology.sim.loop:
    tests/topology/sim/test_loop.py."""
    package, *folders, stem = name.split(".")
    folder = root / "tests" / ("/".join((package, *folders)) if package == "topology" else folders[0] if folders else "")
    names = (stem, "_".join((*folders[1:], stem)))
    return any((folder / f"test_{each}.py").is_file() for each in names)


def texts(root: Path) -> list[str]:
    """Work left undone and places of one machine, in anything that is read or run."""
    found = []
    files = [root / "README.md", root / "CHANGELOG.md", root / "pyproject.toml"]
    for folder in EVERYTHING:
        files += sorted(
            path for path in (root / folder).rglob("*") if "data" not in path.parts and "__pycache__" not in path.parts
        )
    for path in files:
        if not path.is_file() or path.suffix in (".pyc", ".lock"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = FORBIDDEN_TEXT.search(line)
            if match is not None:
                found.append(f"{path.relative_to(root)}:{number}: {match.group()}")
    return found


Rule = Callable[[Path], list[str]]
RULES: tuple[Rule, ...] = (arrows, libraries, banned, sizes, silence, swallowed, untested, texts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    assert modules(ROOT), "the sources are not where this test looks"
    assert rule(ROOT) == []


# --- each rule can fail ------------------------------------------------------------------------------------------------

HOME, LATER = "home", "FIX" + "ME"
DOC = '"""What it is for."""\n'

PLANTED: tuple[tuple[Rule, str, str, str], ...] = (
    (arrows, "node/core/routing.py", "from node.ports import Store", "node.core.routing must not know node.ports.Store"),
    (arrows, "node/core/routing.py", "def f():\n    from node import config", "must not know node.config"),
    (arrows, "node/core/routing.py", "import node.adapters.sqlite.store as s", "must not know node.adapters.sqlite.store"),
    (arrows, "node/core/routing.py", "from ..ports import Store", "must not know ..ports.Store"),
    (arrows, "node/ports.py", "from node.config import Link", "must not know node.config.Link"),
    (arrows, "node/origin.py", "from node.intake import Intake", "must not know node.intake.Intake"),
    (arrows, "node/intake.py", "from node.documents.edxml import Reader", "must not know node.documents.edxml.Reader"),
    (arrows, "node/intake.py", "from node.forwarder import Forwarder", "must not know node.forwarder.Forwarder"),
    (arrows, "node/mailbox.py", "from node.adapters.clock import HostClock", "must not know node.adapters.clock"),
    (arrows, "node/uplink.py", "from node.mailbox import Mailbox", "must not know node.mailbox.Mailbox"),
    (arrows, "node/gateway.py", "from node.core.tally import Tally", "must not know node.core.tally.Tally"),
    (arrows, "node/adapters/http/office_vxp.py", "from node.intake import Intake", "must not know node.intake.Intake"),
    (arrows, "node/adapters/http/admin.py", "from node.adapters.sqlite.store import S", "must not know node.adapters.sqlite"),
    (arrows, "node/adapters/sqlite/store.py", "from node.app import main", "must not know node.app.main"),
    (arrows, "node/documents/edxml.py", "from node.config import Office", "must not know node.config.Office"),
    (arrows, "node/app.py", "from topology.local import Sandbox", "must not know topology.local.Sandbox"),
    (arrows, "node/app.py", "from node.cli.root import truc", "must not know node.cli.root.truc"),
    (arrows, "node/cli/run.py", "from node.app import main", "must not know node.app.main"),
    (arrows, "node/cli/sandbox.py", "from topology.local import Sandbox", "must not know topology.local.Sandbox"),
    (arrows, "node/cli/status.py", "from node.intake import Intake", "must not know node.intake.Intake"),
    (arrows, "topology/render.py", "from node.app import main", "must not know node.app.main"),
    (arrows, "topology/demo.py", "from tests.vxp_client import VxpClient", "must not know tests.vxp_client.VxpClient"),
    (libraries, "node/core/wire.py", "import structlog", "structlog has no home in node.core.wire"),
    (libraries, "node/core/wire.py", "import asyncio", "asyncio has no home in node.core.wire"),
    (libraries, "node/intake.py", "from aiohttp import web", "aiohttp has no home in node.intake"),
    (libraries, "node/desk.py", "import sqlite3", "sqlite3 has no home in node.desk"),
    (libraries, "node/documents/edxml.py", "import lxml.etree", "lxml has no home in node.documents.edxml"),
    (banned, "node/intake.py", "import time\nnow = time.time()", "time.time is not at home in node.intake"),
    (banned, "node/intake.py", "from time import monotonic as m", "time.monotonic is not at home"),
    (banned, "node/core/instant.py", "from datetime import datetime as d\nd.now()", "datetime.datetime.now is not at home"),
    (banned, "node/core/instant.py", "import datetime\nclock = datetime.date.today", "datetime.date.today is not at home"),
    (banned, "node/uplink.py", "import random\nrandom.uniform(0, 1)", "random.uniform is not at home"),
    (banned, "node/uplink.py", "from random import SystemRandom", "random.SystemRandom is not at home"),
    (banned, "node/origin.py", "def f():\n    import uuid as u\n    return u.uuid4()", "uuid.uuid4 is not at home"),
    (banned, "node/app.py", "import secrets", "secrets is not at home in node.app"),
    (banned, "node/mailbox.py", "import asyncio\nf = asyncio.to_thread", "asyncio.to_thread is not at home"),
    (banned, "node/adapters/sqlite/store.py", "from concurrent.futures import ThreadPoolExecutor", "concurrent.futures"),
    (banned, "node/adapters/http/tls.py", "import socket", "socket is not at home in node.adapters.http.tls"),
    (banned, "node/cli/run.py", "import subprocess", "subprocess is not at home in node.cli.run"),
    (banned, "node/uplink.py", "import asyncio\nasyncio.create_task(f())", "create_task: only the gateway makes tasks"),
    (banned, "node/desk.py", "from asyncio import TaskGroup as T", "TaskGroup: only the gateway makes tasks"),
    (sizes, "node/desk.py", "\n" * LINES_MAX, f"{LINES_MAX + 1} lines"),
    (sizes, "node/desk.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX, f"f has {FUNCTION_LINES_MAX + 1} lines"),
    (silence, "node/desk.py", "def f():\n" + "    x = 1\n" * SELF_EVIDENT_LINES, "f says nothing"),
    (silence, "node/desk.py", "class C:\n" + "    x = 1\n" * SELF_EVIDENT_LINES, "C says nothing"),
    (swallowed, "node/desk.py", "try:\n    f()\nexcept:\n    log()", "except  swallows"),
    (swallowed, "node/desk.py", "try:\n    f()\nexcept Exception:\n    pass", "except Exception swallows"),
    (untested, "node/invented.py", "x = 1", "no test_invented.py"),
    (untested, "topology/sim/invented.py", "x = 1", "no test_invented.py"),
    (
        arrows,
        "node/cli/sandbox.py",
        "if CHECKING:\n    from topology.local import Sandbox",
        "must not know topology.local.Sandbox",
    ),
    (untested, "node/cli/invented.py", "x = 1", "tests/test_cli.py is not there"),
    (texts, "docs/walk.md", f"see /{HOME}/me/notes", f"/{HOME}/m"),
    (texts, "node/desk.py", f"# {LATER}: think", LATER),
    (texts, "scripts/demo", f"cd /{HOME}/x", f"/{HOME}/x"),
)


@pytest.mark.parametrize(("rule", "place", "text", "finding"), PLANTED)
def test_a_rule_finds_what_breaks_it(tmp_path: Path, rule: Rule, place: str, text: str, finding: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(DOC + text, encoding="utf-8")
    assert finding in "\n".join(rule(tmp_path))


def test_a_module_that_says_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "desk.py").write_text("x = 1")
    assert silence(tmp_path) == ["node/desk.py: the module says nothing"]


LAWFUL = (
    ("node/core/envelope.py", "import random\ndef f(rng: random.Random): return rng.random()"),
    ("node/cli/sandbox.py", "def f():\n    from topology.local import Sandbox"),
    ("node/cli/run.py", "def f():\n    from node.app import main"),
    ("node/cli/simulate.py", "if TYPE_CHECKING:\n    from topology.sim.campaign import Plan"),
    ("node/adapters/sqlite/store.py", "from node.adapters.sqlite.writer import Writer\nfrom node.ports import Clock"),
    ("node/adapters/clock.py", "import time\ntime.time_ns()"),
    ("node/gateway.py", "import asyncio\nasyncio.TaskGroup()"),
    ("topology/local.py", "import subprocess, time\nfrom node.config import Link"),
    ("node/intake.py", "import asyncio\nloop = asyncio.get_running_loop()\nloop.time()"),
)


@pytest.mark.parametrize(("place", "text"), LAWFUL)
def test_what_the_rules_allow_is_not_found(tmp_path: Path, place: str, text: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(DOC + text, encoding="utf-8")
    assert [finding for rule in RULES if rule is not untested for finding in rule(tmp_path)] == []


def test_every_table_speaks_of_files_that_are_there() -> None:
    names = {name for name, _, _ in modules(ROOT)}
    places = {*KNOWS, *TESTED_ELSEWHERE, *TASK_HOMES, *(home for _, homes in HOMES for home in homes)}
    places |= {home for homes in LIBRARIES.values() for home in homes}
    assert sorted(place for place in places if not any(within(name, place) for name in names)) == []
    files = {name for name, path, _ in modules(ROOT) if path.stem != "__init__"}
    assert [name for name in TESTED_ELSEWHERE if name in files and has_its_test(ROOT, name)] == []


def test_every_exception_is_still_needed() -> None:
    """A home that no longer holds what it is the home of would hide the next one who moves in."""
    used: set[tuple[str, str]] = set()
    for name, _, tree in modules(ROOT):
        for mention, _ in mentions(tree):
            for names, homes in HOMES:
                if any(within(mention, each) for each in names) and not any(within(mention, each) for each in HANDED_IN):
                    used |= {(names[0], home) for home in homes if within(name, home)}
    assert sorted((names[0], home) for names, homes in HOMES for home in homes if (names[0], home) not in used) == []
