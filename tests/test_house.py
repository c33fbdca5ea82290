"""The house rules: who may import whom, sizes, and what stays out of the repository."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from synthetic import put, record

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "maskbench"
STRATEGIES = sorted((ROOT / "strategies").glob("*.py"))
SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL = [*SOURCES, *STRATEGIES, *sorted((ROOT / "tests").glob("*.py"))]

RANKS = [
    [
        *("mask", "seeds", "events", "errors", "shape", "results", "budget", "distributed"),
        *("clock", "machine", "files", "shown", "signals", "team", "checkpoint", "trust", "record"),
        *("statistics", "strict", "weights", "blocks", "linear"),
    ],
    ["model", "spec", "provenance", "pace", "metrics", "launch", "analysis", "trackers"],
    ["context", "tuning", "lock", "care"],
    ["strategy"],
    ["compose"],
    ["registry", "data", "optim", "probes", "figures"],
    ["priors", "inquiry"],
    ["job", "place", "rebuilding", "graphs"],
    ["guard"],
    ["train"],
    ["masks", "report", "plan", "contract", "ledger", "calibration", "reference", "findings"],
    ["midway", "forecast", "maps"],
    ["prepare", "logbook", "session"],
    ["moments", "studying"],
    ["runner", "question"],
    ["tune", "probing", "analysing", "reproduce"],
    ["benchmark"],
    ["cli"],
    ["__main__"],
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
ORDER_IN_RANK = {
    ("results", "errors"), ("results", "trust"), ("results", "record"), ("results", "files"),
    ("record", "trust"), ("trust", "errors"), ("files", "errors"), ("budget", "errors"),
    ("strict", "errors"), ("blocks", "linear"), ("linear", "machine"),
    ("distributed", "team"), ("team", "errors"), ("checkpoint", "errors"), ("checkpoint", "files"),
    ("checkpoint", "results"), ("probes", "data"), ("probes", "optim"),
    ("figures", "analysis"), ("report", "findings"),
}  # fmt: skip
ONLY = {
    "typer": {"cli"},
    "rich": {
        "cli/render.py",
        "cli/bars.py",
        "cli/accuracies.py",
        "cli/studied.py",
        "cli/reproduced.py",
        "cli/benched.py",
    },
    "matplotlib": {"figures/canvas.py"},
    "seaborn": {"figures"},
    "tensorboard": {"trackers.py"},
    "wandb": {"trackers.py"},
    "timm": {"model.py", "blocks.py", "probes/library.py", "probes/recipes.py"},
}
NO_TORCH = [
    "spec", "results", "registry", "errors", "events", "shape", "budget", "cli", "report",
    "machine", "care", "signals", "files", "trust", "record", "statistics",
    "analysis", "reproduce", "shown", "strict", "benchmark", "trackers",
]  # fmt: skip


def imports(file: Path, *, top: bool = False) -> set[str]:
    """Full names a file imports; with ``top`` only those outside functions and TYPE_CHECKING."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_a_file_imports_lower_ranks_only() -> None:
    offenders = []
    for file in SOURCES:
        if file.name == "__init__.py" and file.parent == PACKAGE:
            continue
        mine = room(file)
        for name in imports(file):
            parts = name.split(".")
            if parts[0] != "maskbench" or len(parts) < 2 or parts[1] == mine:
                continue
            theirs = parts[1]
            assert theirs in RANK, f"{theirs} has no rank"
            allowed = RANK[theirs] < RANK[mine] or (mine, theirs) in ORDER_IN_RANK
            if not allowed:
                offenders.append(f"{file.relative_to(ROOT)} imports {theirs}")
    assert not offenders


def test_strategies_know_only_their_interface() -> None:
    allowed = (
        *("maskbench.mask", "maskbench.seeds", "maskbench.strategy"),
        *("torch", "numpy.", "numpy", "sklearn."),
    )
    standard = sys.stdlib_module_names
    offenders = [
        f"{file.name} imports {name}"
        for file in STRATEGIES
        for name in imports(file)
        if not name.startswith((*allowed, "_")) and name.split(".")[0] not in standard
    ]
    assert not offenders


def test_libraries_stay_in_their_rooms() -> None:
    offenders = []
    for file in SOURCES:
        path = file.relative_to(PACKAGE).as_posix()
        for name in imports(file):
            places = ONLY.get(name.split(".")[0])
            if places and not any(
                path == place or path.startswith(place + "/") for place in places
            ):
                offenders.append(f"{path} imports {name}")
    assert not offenders


def test_no_torch_at_module_level_where_starting_must_be_fast() -> None:
    offenders = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in SOURCES
        if room(file) in NO_TORCH
        for name in imports(file, top=True)
        if name.split(".")[0] in ("torch", "timm")
    ]
    assert not offenders


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["ls", "strategies"], ["ls", "--json"]]
)
def test_starting_does_not_import_torch(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from maskbench.cli import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'pandas', 'matplotlib', 'sklearn', 'statsmodels'}\n"
        "heavy |= {'tensorboard', 'wandb'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_comparing_few_seeds_imports_nothing_heavy(tmp_path: Path) -> None:
    """A report for programs, of three seeds."""
    for seed in range(3):
        put(tmp_path, f"random-{seed}", record("random", seed, 0.5))
        put(tmp_path, f"clmae-{seed}", record("clmae", seed, 0.52))
    code = (
        "import sys; from maskbench.cli import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'matplotlib', 'sklearn', 'statsmodels', 'scipy.special'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", code, "compare", "--json", "--runs", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"strategy": "clmae"' in done.stdout


def test_sizes() -> None:
    """Files of at most 300 lines; functions of at most 60 lines and 5 positional arguments."""
    offenders, lengths = [], []
    for file in ALL:
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > 300:
            offenders.append(f"{file.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef):
                continue
            length = (node.end_lineno or 0) - node.lineno + 1
            lengths.append(length)
            where = f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
            verb = file.parent.name == "cli"  # a verb's options are its parameters
            if length > 60 and not verb:
                offenders.append(f"{where}: {length} lines")
            positional = [a for a in node.args.args if a.arg not in ("self", "cls")]
            if len(positional) > 5 and not verb and "tests" not in file.parts:
                offenders.append(f"{where}: {len(positional)} positional arguments")
    assert not offenders
    assert sorted(lengths)[int(0.9 * len(lengths))] <= 30


def test_every_public_object_has_a_docstring() -> None:
    offenders = []
    for file in (*SOURCES, *STRATEGIES):
        top = ast.parse(file.read_text(encoding="utf-8")).body
        members = [n for node in top if isinstance(node, ast.ClassDef) for n in node.body]
        offenders += [
            f"{file.relative_to(ROOT)} {node.name}"
            for node in (*top, *members)
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]
    assert not offenders


def test_packages_are_listed() -> None:
    """A folder that is not listed would be missing from an installed wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {PACKAGE, *(file.parent for file in SOURCES)}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(listed) == names | {"maskbench.strategies", "maskbench.benchmarks"}


def test_strategies_refuse_another_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import strategies"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "maskbench.strategies" in done.stderr


def test_nothing_private_is_tracked() -> None:
    """No lock file, no machine paths, no registry hosts."""
    git = ["git", "-C", str(ROOT)]
    tracked = subprocess.run([*git, "ls-files"], capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    assert "uv.lock" not in tracked.stdout.splitlines()
    words = ["-e", "/root" + "/", "-e", "/work" + "/", "-e", "pypi" + ".org"]
    found = subprocess.run(
        [*git, "grep", "-nIF", *words], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
