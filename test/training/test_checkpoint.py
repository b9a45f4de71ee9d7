from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.pspnet import PSPNet
from models.student import Student
from training.checkpoint import CheckpointError
from training.checkpoint import load_generator
from training.checkpoint import load_method
from training.checkpoint import read_checkpoint
from training.methods.source_only import SourceOnly


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a small checkpoint, as fit writes it."""
    method = SourceOnly(Student(8, 0))
    path = tmp_path / 'last.ckpt'
    torch.save({'method': method.config, 'state_dict': method.state_dict()}, path)
    return path


def change(path: Path, **changes) -> Path:
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, **changes}, path)
    return path


def test_what_was_saved_comes_back(saved: Path) -> None:
    method = load_method(saved)
    assert isinstance(method, SourceOnly)
    assert not method.training
    state = torch.load(saved, weights_only=True)['state_dict']
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path('/tmp/nightseg_was_here'),))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / 'last.ckpt'
    torch.save({'method': Malicious(), 'state_dict': {}}, path)
    with pytest.raises(CheckpointError, match='cannot be read safely|can be read safely'):
        load_method(path)
    assert not Path('/tmp/nightseg_was_here').exists()


@pytest.mark.parametrize('damage', ['cut', 'text', 'empty'])
def test_damaged_files_are_named(saved: Path, damage: str) -> None:
    if damage == 'cut':
        saved.write_bytes(saved.read_bytes()[:1000])
    else:
        saved.write_text('no checkpoint' if damage == 'text' else '')
    with pytest.raises(CheckpointError, match='last.ckpt is not a checkpoint.*is it complete'):
        load_method(saved)


@pytest.mark.parametrize('content', [{'state_dict': {}}, [1, 2], {'method': {}}])
def test_something_else_is_no_checkpoint(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / 'x.ckpt')
    with pytest.raises(CheckpointError, match='does not say which method made it'):
        read_checkpoint(tmp_path / 'x.ckpt')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'class_path': 'os.system', 'init_args': {}}, '.os.system. is no class of'),
        ({'class_path': 'training.methods.gone.Gone', 'init_args': {}}, 'does not exist in this'),
        (
            {'class_path': 'training.methods.source_only.SourceOnly', 'init_args': {'colour': 1}},
            'does not take these arguments',
        ),
    ],
)
def test_foreign_configurations_are_refused(saved: Path, config: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_method(change(saved, method=config))


def test_other_architecture_names_the_keys(saved: Path) -> None:
    other = SourceOnly(Student(16, 4))
    with pytest.raises(CheckpointError) as error:
        load_method(change(saved, state_dict=other.state_dict()))
    text = str(error.value)
    assert 'another architecture' in text
    assert 'generator.net.exposure2' in text or '(16, 3, 3, 3), not (8, 3, 3, 3)' in text
    assert 'more' in text


def test_start_from_another_network_names_the_keys(saved: Path) -> None:
    method = SourceOnly(PSPNet(blocks=(1, 1, 1, 1)))
    with pytest.raises(CheckpointError, match='another architecture: backbone.*is missing'):
        load_generator(method.generator, saved)


def test_weights_are_not_fetched_again(saved: Path, tmp_path: Path) -> None:
    method = SourceOnly(PSPNet(blocks=(1, 1, 1, 1)))
    config = method.config
    config['init_args']['net']['init_args']['weights'] = str(tmp_path / 'gone.pth')
    torch.save({'method': config, 'state_dict': method.state_dict()}, saved)
    assert isinstance(load_method(saved).generator.net, PSPNet)
