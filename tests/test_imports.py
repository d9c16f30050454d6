"""Imports run one way, and what has to start at once loads no TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Top to bottom, the way a pixel takes: each module imports only from those before it. A line that
# begins with a name and a colon is a wing, a package of the modules that follow.
ORDER = {}
ORDER["captioner"] = """
    errors config caption terminal
    video: sampling pixels pyav straight pictures animation files frames segments reader
    vocabulary
    cnn: regions bundled efficientnet backbones
    layers: recurrence cells attention sequence
    model decoding reranker model_folder
    engines: keras_engine lite_engine drawing quantization conversion programs saved_model
    batch pipeline output sidecars journal
    moments: model folder segments output labeller
    cluster: stores part_files on_ray
    cli: arguments finding progress caption label info export main __main__
"""
ORDER["training"] = """
    options devices work rehearsal metrics captioning judgement objectives optimizer
    data: tables rows label_studio formats manifest reading check store views records
    trainer pace transfer teaching comparison evaluate
    cnn: folder teacher words distill probe
    moments: metrics labels windows timeline trainer evaluate
    report recipe moments.recipe
    arrays: pack features recipe bank validation learner averaging learn reranking rehearsing
    cli: arguments train evaluate labels distill moments arrays
"""
MAY_IMPORT = {"captioner": {"captioner"}, "training": {"captioner", "training"}}
MAY_IMPORT["web"] = {"captioner", "web"}


def _name_of(path):
    """The dotted name of a module; a package is called by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name_of(path): path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")
}


def _imports(module):
    """The modules of this project that one imports, also inside functions."""
    path = MODULES[module]
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        for name in names:
            ends = range(len(name), 0, -1)
            yield from [m for end in ends if (m := ".".join(name[:end])) in MODULES][:1]


def _in_order(package):
    """The modules of a package, a wing after what it holds."""
    for line in ORDER[package].strip().splitlines():
        wing, colon, names = line.strip().rpartition(":")
        prefix = f"{package}.{wing}." if colon else f"{package}."
        yield from (prefix + name for name in names.split())
        if colon:
            yield f"{package}.{wing}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_one_way(package):
    for module in MODULES:
        if module.partition(".")[0] == package:
            assert {name.partition(".")[0] for name in _imports(module)} <= MAY_IMPORT[package], (
                module
            )


@pytest.mark.parametrize("package", ORDER)
def test_modules_import_from_those_above(package):
    order = list(_in_order(package))
    assert sorted(order) == sorted(m for m in MODULES if m.startswith(f"{package}."))
    for place, module in enumerate(order):
        ours = {name for name in _imports(module) if name.startswith(package)}
        assert ours <= set(order[:place]), module


def test_command_lines_are_doors():
    """No module imports from a command line but those of the same one."""
    for module, path in MODULES.items():
        for name in _imports(module):
            door = name.split(".")[:2]
            assert "cli" not in door or path.parent == ROOT.joinpath(*door), module


def test_the_store_stands_alone():
    """The modules that keep and ask the page's database know nothing of what shows it; no other
    module of the page asks it anything."""
    for module, path in MODULES.items():
        if module.startswith("web") and not module.startswith("web.store"):
            assert ".execute" not in path.read_text(), f"{module}: SQL belongs in web/store"
        if module.startswith("web.store"):
            others = {m.split(".")[1] for m in _imports(module) if m.startswith("web.")}
            assert others <= {"store", "config", "errors", "media", "preview"}, module


@pytest.mark.parametrize(
    "code",
    [
        "import captioner, captioner.video, captioner.model_folder, captioner.output",
        "import captioner.video.reader, captioner.batch, captioner.journal",
        "import captioner.cli.main as cli; cli._parser().format_help()",
        "import training.cli.labels, training.metrics",
        "import captioner.cli.main as cli; cli.main(['info', FOLDER])",
    ],
)
def test_no_tensorflow_where_it_must_start_at_once(code, tiny_model):
    code = f"import sys; FOLDER = {str(tiny_model)!r}; {code}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'numpy'" in done.stdout
    assert "'tensorflow'" not in done.stdout
    assert "'keras'" not in done.stdout
