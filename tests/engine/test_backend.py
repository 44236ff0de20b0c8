"""What is refused before a runtime other than PyTorch is asked to run a network."""

import sys
from pathlib import Path

import pytest

from san_cli.engine.backend import OPENVINO, refuse_without_runtime
from san_cli.errors import SanError


def test_a_broken_openvino_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so: cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    with pytest.raises(SanError, match=r"OpenVINO can't be used here \(ImportError: libopenvino"):
        refuse_without_runtime(OPENVINO, bfloat16=True)
