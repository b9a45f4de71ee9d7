"""Machines with TensorRT, all in memory."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGE = 'nightseg_ros.core.backends.tensorrt'
OF_NO_VERSION = {f'{PACKAGE}.{name}' for name in ('engine_cache', 'onnx_adaptation')}
DOUBLE = Path(__file__).parents[2] / 'tensorrt_double.py'


@pytest.fixture(scope='session')
def tensorrt_double() -> ModuleType:
    """Return the module of the double."""
    spec = importlib.util.spec_from_file_location('tensorrt_double', DOUBLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forget_imports() -> None:
    """Let the next import see the TensorRT that is there then."""
    package = importlib.import_module(PACKAGE)
    for name in list(sys.modules):
        if name.startswith(f'{PACKAGE}.') and name not in OF_NO_VERSION:
            del sys.modules[name]
            vars(package).pop(name.rpartition('.')[2], None)


@pytest.fixture
def install(
    monkeypatch: pytest.MonkeyPatch, tensorrt_double: ModuleType
) -> Iterator[Callable[..., Any]]:
    """Yield a function that puts a double, made from its arguments, where imports look."""

    def install(*arguments: Any, **options: Any) -> Any:
        double = tensorrt_double.Double(*arguments, **options)
        for name, module in double.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        forget_imports()
        return double

    yield install
    forget_imports()


@pytest.fixture(autouse=True)
def no_shared_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the user's own engines out of the tests."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'nightseg_ros' / 'engines'
