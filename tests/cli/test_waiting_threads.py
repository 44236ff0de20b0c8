"""How PyTorch's threads wait for one another: asleep in the program, unless somebody says otherwise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from program import subprocess_environment

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def variables(code: str, san_home: Path, **given: str) -> dict[str, str]:
    """Run code in a process of its own; what it and the processes that it starts find of the choices."""
    environment = {
        name: value for name, value in subprocess_environment(san_home).items() if name not in CHOICES
    }
    shown = (
        f"\nimport json, os\nprint(json.dumps({{n: os.environ[n] for n in {CHOICES} if n in os.environ}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + shown],
        env=environment | given,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


RUN = (
    "import sys\n"
    "from san_cli.cli.main import main\n"
    "sys.argv = ['san', '--version']\n"
    "try:\n"
    "    main()\n"
    "except SystemExit:\n"
    "    pass"
)  # fmt: skip


def test_threads_of_the_program_sleep_while_they_wait(san_home: Path) -> None:
    assert variables(RUN, san_home) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    "given", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}, {"KMP_BLOCKTIME": "200"}], ids=list
)
def test_a_choice_that_was_made_stays(given: dict[str, str], san_home: Path) -> None:
    assert variables(RUN, san_home, **given) == given


def test_whoever_imports_san_is_left_alone(san_home: Path) -> None:
    assert variables("import san_cli.cli.main\nfrom san_cli import MapOptions", san_home) == {}


def test_torch_is_not_loaded_before_the_choice(san_home: Path) -> None:
    """Its OpenMP reads the variables once, when it is loaded."""
    code = "import sys\nimport san_cli.cli.main\nassert 'torch' not in sys.modules"
    assert variables(code, san_home) == {}
