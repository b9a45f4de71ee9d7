"""The tables of docs/methods.md name options that exist and code that exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from training.__main__ import main

ROOT = Path(__file__).parents[2]
METHODS = (ROOT / 'docs' / 'methods.md').read_text()


def rows() -> list[tuple[str, str]]:
    """Return (preset, options) of every row below a ``<!-- fit: presets -->`` comment."""
    found, presets = [], []
    for line in METHODS.splitlines():
        comment = re.fullmatch(r'<!-- fit: (.*) -->', line)
        if comment:
            presets = comment[1].split()
        elif line.startswith('#') or line.startswith('**'):
            presets = []
        for options in re.findall(r'`(--[^`]*)`', line) if line.startswith('|') else []:
            found += [(preset, options) for preset in presets if options != '--initial']
    return found


def test_every_table_of_ablations_is_found() -> None:
    assert len(rows()) > 35


@pytest.mark.parametrize(('preset', 'options'), rows())
def test_options_of_the_tables_load(
    preset: str, options: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = f'training/configs/{preset}.yaml'
    with pytest.raises(SystemExit) as end:
        main(['fit', '--config', config, *shlex.split(options), '--print_config'])
    assert end.value.code == 0
    changed = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(['fit', '--config', config, '--print_config'])
    assert changed != capsys.readouterr().out


def code_names() -> set[str]:
    """Return the dotted names in code tables, whole: ``losses`` is training.losses."""
    names = set()
    for name in re.findall(r'`((?:models|losses|methods|data|training)\.[A-Za-z_.0-9]+)`', METHODS):
        if name.endswith('.yaml'):
            continue
        names.add(name if name.startswith(('models', 'training')) else f'training.{name}')
    return names


@pytest.mark.parametrize('name', sorted(code_names()))
def test_named_code_exists(name: str) -> None:
    parts = name.split('.')
    for length in range(len(parts), 0, -1):
        try:
            target = importlib.import_module('.'.join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            target = getattr(target, attribute)
        return
    pytest.fail(f'{name} is nowhere')
