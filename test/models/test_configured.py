from __future__ import annotations

import copy
import importlib
import io
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.configured import ConfigError
from models.configured import Configured
from models.configured import build
from models.discriminator import Discriminator
from models.student import Student

STUDENT = 'models.student.Student'


class Part(Configured):
    def __init__(self, size: int = 3) -> None:
        self.size = size


class Whole(Configured, nn.Module):
    def __init__(self, part: Part, parts: list[Part], where: Path, **rest: object) -> None:
        super().__init__()
        self.part = part
        self.parts = parts
        self.where = where
        self.rest = rest


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this file's own classes be built."""
    monkeypatch.setattr('models.configured.PACKAGES', (f'{__name__}.',))


def test_the_record_has_defaults_and_positional_arguments_by_name() -> None:
    assert Student(8, num_classes=5).config == {
        'class_path': STUDENT,
        'init_args': {'width': 8, 'exposure_width': 16, 'num_classes': 5},
    }


def test_the_record_is_plain_data() -> None:
    whole = Whole(Part(), [Part(1), Part(2)], Path('a/b'))
    assert whole.config == json.loads(json.dumps(whole.config))
    assert whole.config['init_args']['where'] == 'a/b'
    assert whole.config['init_args']['part'] == Part(3).config


def test_nested_objects_come_back(trusted: None) -> None:
    whole = build(Whole(Part(), [Part(1), Part(2)], Path('a/b'), extra=4).config)
    assert type(whole) is Whole
    assert whole.part.size == 3
    assert [part.size for part in whole.parts] == [1, 2]
    assert whole.where == 'a/b'
    assert whole.rest == {'extra': 4}


def test_a_network_comes_back_with_the_same_weights_to_fill() -> None:
    net = Student(width=8, exposure_width=0)
    again = build(net.config)
    assert again.config == net.config
    again.load_state_dict(net.state_dict())


def test_tuples_come_back_as_lists_that_do() -> None:
    net = Discriminator(channels=(4, 8), strides=(2, 2, 1))
    assert net.config['init_args']['channels'] == [4, 8]
    assert build(net.config)(torch.zeros(1, 19, 16, 16)).shape == (1, 1, 3, 3)


@pytest.mark.parametrize(
    'path',
    [
        'os.system',
        'subprocess.Popen',
        'builtins.eval',
        'torch.nn.Linear',
        'modelsx.student.Student',
        'Student',
        'models',
        '',
    ],
)
def test_foreign_class_paths_are_refused_without_import(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_import(name: str) -> None:
        raise AssertionError(f'imported {name}')

    monkeypatch.setattr(importlib, 'import_module', must_not_import)
    with pytest.raises(ConfigError, match='is no class of models'):
        build({'class_path': path, 'init_args': {}})


@pytest.mark.parametrize('config', [None, 'models.student.Student', ['models'], 3, {}])
def test_other_than_a_configuration_is_refused(config: object) -> None:
    with pytest.raises(ConfigError, match='is no class of models'):
        build(config)


@pytest.mark.parametrize(
    'path', ['models.student.Teacher', 'models.absent.Net', 'models.student.os.system', 'models.']
)
def test_unknown_classes_are_named(path: str) -> None:
    with pytest.raises(ConfigError, match=f'{path} does not exist in this version'):
        build({'class_path': path, 'init_args': {}})


@pytest.mark.parametrize(
    'path',
    [
        'models.configured.build',  # a function
        'models.student.Tensor',  # a class, but foreign
        'models.student.BasicBlock',
        'models.configured.importlib',
    ],
)
def test_names_that_are_no_configured_class_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=f'{path} is not a configured class'):
        build({'class_path': path, 'init_args': {}})


def test_foreign_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match=f'{STUDENT} does not take these.*depth'):
        build({'class_path': STUDENT, 'init_args': {'depth': 3}})


def test_a_foreign_path_deep_inside_is_refused(trusted: None) -> None:
    config = Whole(Part(), [Part()], Path('a')).config
    config['init_args']['parts'][0]['class_path'] = 'os.system'
    with pytest.raises(ConfigError, match='os.system.* is no class'):
        build(config)


def test_missing_arguments_are_pythons_own_error() -> None:
    with pytest.raises(TypeError):
        Whole()


def test_copies_keep_a_record_of_their_own() -> None:
    net = Student(width=8, exposure_width=0)
    twin = copy.deepcopy(net)
    assert twin.config == net.config
    twin.config['init_args']['width'] = 16
    assert net.config['init_args']['width'] == 8


def test_a_record_can_be_read_without_trusting_the_file() -> None:
    file = io.BytesIO()
    torch.save({'config': Discriminator().config}, file)
    file.seek(0)
    config = torch.load(file, weights_only=True)['config']
    assert type(build(config)) is Discriminator
