"""Imports run one way, and what has to start at once loads no TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Top to bottom, the way a pixel takes: each module imports only from those before it.
ORDER = (
    "errors config caption sampling stream straight video segments reading vocabulary cnn "
    "backbones recurrence cells attention layers model labelling decoding checkpoint label_folder "
    "engines export saved_model batch pipeline output stores on_ray labelled labeller journal "
    "parts arguments finding progress cli label_cli demo"
).split()

MAY_IMPORT = {"captioner": {"captioner"}, "training": {"captioner", "training"}}
MAY_IMPORT["web"] = {"captioner", "web"}


def _imports(path):
    """Dotted names of this project that a module imports, also inside functions."""
    package = path.parent.name
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = [package] if node.level else []
            base += node.module.split(".") if node.module else []
            if len(base) == 1:
                yield from ([*base, alias.name] for alias in node.names)
            else:
                yield base
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        ours = {name[0] for name in _imports(path)} & set(MAY_IMPORT)
        assert ours <= MAY_IMPORT[package], path


def test_modules_import_from_those_above():
    modules = {path.stem for path in (ROOT / "captioner").glob("*.py")} - {"__init__"}
    assert modules == set(ORDER)
    for place, module in enumerate(ORDER):
        names = list(_imports(ROOT / "captioner" / f"{module}.py"))
        ours = {name[1] for name in names if name[0] == "captioner" and len(name) > 1}
        assert ours <= set(ORDER[:place]), module


@pytest.mark.parametrize(
    "code",
    [
        "import captioner, captioner.video, captioner.checkpoint, captioner.output",
        "import captioner.reading, captioner.batch, captioner.journal",
        "import captioner.cli; captioner.cli._parser().format_help()",
        "import training.labels, training.metrics",
        "import captioner.cli; captioner.cli.main(['info', FOLDER])",
    ],
)
def test_no_tensorflow_where_it_must_start_at_once(code, tiny_model):
    code = f"import sys; FOLDER = {str(tiny_model)!r}; {code}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'numpy'" in done.stdout
    assert "'tensorflow'" not in done.stdout
    assert "'keras'" not in done.stdout
