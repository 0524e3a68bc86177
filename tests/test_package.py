"""The package: what it ships, and what importing it costs."""

import subprocess
import sys
from importlib.resources import files

import orchestrator


def test_types_and_schema_are_shipped() -> None:
    """Type checkers and report readers find what they need beside the code."""
    root = files("orchestrator")
    assert root.joinpath("py.typed").is_file()
    assert root.joinpath("report.schema.json").is_file()


def test_every_public_name_can_be_had() -> None:
    """Whatever `orchestrator` promises by name is there."""
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name) is not None


def test_importing_the_package_is_free() -> None:
    """`import orchestrator` loads nothing but itself until something is asked of it."""
    code = "import sys, orchestrator; print(sorted(m for m in sys.modules if 'aiohttp' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
