from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nightseg_ros.core import engine_command
from nightseg_ros.core.engine_command import main
from nightseg_ros.core.model import load_model
from nightseg_ros.core.self_check import Reference
from nightseg_ros.core.self_check import reference_path

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the command and returns exit code, output and errors."""
    monkeypatch.setattr(engine_command.signal, 'signal', lambda *_: None)

    def run(*arguments: Any) -> SimpleNamespace:
        code = main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return SimpleNamespace(code=code, out=output.out, err=output.err)

    return run


@pytest.fixture
def checked_model(channel_model: Path, frame: np.ndarray) -> Path:
    """Return a model with a reference beside it."""
    model = load_model(channel_model)
    images = frame[None]
    Reference(images, images[..., 0], images[..., 1], model.sha256).save(
        reference_path(channel_model)
    )
    return channel_model


def facts(output: str) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in output.splitlines() if line.strip())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_build_then_verify_then_inspect(
    install: Callable, run: Run, checked_model: Path, no_shared_cache: Path
) -> None:
    double = install()
    built = run('build', checked_model, '--precision', 'fp32')
    assert built.code == 0
    assert 'building the engine: 0 s' in built.err
    told = facts(built.out)
    engine = Path(told['engine'])
    assert engine.parent == no_shared_cache
    assert told['key'][:16] in engine.name
    assert told['size'].endswith('MB')
    assert told['self-check'].startswith('passed: 100.00%')

    verified = run('verify', checked_model, '--runs', 20)
    assert verified.code == 0
    assert facts(verified.out)['built'].startswith('from cache')
    assert facts(verified.out)['inference'].startswith('p50 ')
    assert 'passed: 100.00%' in verified.out

    listed = run('inspect')
    assert listed.code == 0
    assert f'1 engines in {no_shared_cache}' in listed.out
    assert engine.name in listed.out
    assert listed.out.rstrip().endswith('whole')
    assert '0 engines' in run('inspect', 'other.onnx').out
    assert '1 engines' in run('inspect', checked_model).out

    layers = run('inspect', engine)
    assert layers.code == 0
    assert 'image (1, 32, 48, 3) UINT8' in layers.out
    assert 'Gather' in layers.out
    assert '"onnx_sha256"' in layers.out
    assert len(double.builds) == 1


def test_force_builds_again(install: Callable, run: Run, channel_model: Path) -> None:
    double = install('11.1.0')  # without an FP16 file: auto takes FP32
    for _ in range(2):
        assert run('build', channel_model).code == 0
    assert len(double.builds) == 1
    assert run('build', channel_model, '--force').code == 0
    assert len(double.builds) == 2


def test_the_options_arrive(
    install: Callable, run: Run, channel_model: Path, tmp_path: Path
) -> None:
    double = install('8.5.3.1', dla_cores=1, gpus=('First', 'Second'))
    told = run(
        'build', channel_model, '--precision', 'fp16', '--dla-core', 0, '--device', 1,
        '--engine-cache-dir', tmp_path / 'here',
    )  # fmt: skip
    assert told.code == 0
    assert facts(told.out)['gpu'].startswith('Second')
    assert facts(told.out)['engine'].startswith(str(tmp_path / 'here'))
    assert double.builds[0]['flags'] == {'FP16', 'GPU_FALLBACK'}
    refused = run('build', channel_model, '--dla-core', 0, '--no-gpu-fallback')
    assert refused.code == 1
    assert 'fallback is off' in refused.err


def test_wrong_masks_are_exit_code_1(install: Callable, run: Run, checked_model: Path) -> None:
    install()
    model = load_model(checked_model)
    wrong = np.zeros((1, 32, 48), np.uint8)
    assert run('build', checked_model, '--precision', 'fp32').code == 0
    images = np.full((1, 32, 48, 3), 9, np.uint8)
    Reference(images, wrong, wrong, model.sha256).save(reference_path(checked_model))
    for command in ('build', 'verify'):
        refused = run(command, checked_model, '--precision', 'fp32')
        assert refused.code == 1
        assert 'fails the self-check' in refused.err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['verify', '{model}'], 'run build_engine build'),
        (['verify', '{model}', '--runs', '0'], '--runs must be above 0'),
        (['build', '{model}', '--device', '4'], 'there is no GPU 4'),
        (['build', 'nowhere.onnx'], 'cannot read the model nowhere.onnx'),
        (['inspect', 'nowhere.engine'], 'there is no engine'),
        (['build', '{model}', '--engine-cache-dir', '{open}'], 'others may write into'),
        (['inspect', '--engine-cache-dir', '{open}'], 'others may write into'),
    ],
)
def test_what_cannot_be_tried_is_exit_code_2(
    install: Callable, run: Run, channel_model: Path, tmp_path: Path, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    install()
    folder = tmp_path / 'open'
    folder.mkdir()
    folder.chmod(0o777)
    refused = run(*(a.format(model=channel_model, open=folder) for a in arguments))
    assert refused.code == 2
    assert message in refused.err


def test_without_reference_verify_times_but_does_not_pass(
    install: Callable, run: Run, channel_model: Path
) -> None:
    install()
    assert run('build', channel_model, '--precision', 'fp32').code == 0
    told = run('verify', channel_model, '--runs', 1)
    assert told.code == 2
    assert 'p99' in told.out
    assert 'there is no reference' in told.err


def test_no_gpu_and_no_tensorrt_are_exit_code_2(
    install: Callable, run: Run, channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(gpus=())
    assert 'is the driver loaded' in run('build', channel_model).err
    install()
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    for command in ('build', 'verify'):
        refused = run(command, channel_model)
        assert refused.code == 2
        assert 'pip install tensorrt cuda-bindings' in refused.err
    assert run('inspect').code == 0  # needs neither


def test_a_damaged_engine_is_shown_as_such(
    install: Callable, run: Run, channel_model: Path, no_shared_cache: Path
) -> None:
    install()
    run('build', channel_model, '--precision', 'fp32')
    (path,) = no_shared_cache.glob('*.engine')
    path.write_bytes(path.read_bytes()[:-1])
    assert 'truncated' in run('inspect').out
    damaged = run('inspect', path)
    assert damaged.code == 1
    assert 'truncated' in damaged.err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['--help'])
    told = capsys.readouterr().out
    assert 'build_engine build --dla-core 0' in told
    assert 'exit code' in told


def test_progress_is_drawn_on_a_terminal_that_rich_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('rich')
    monkeypatch.setenv('FORCE_COLOR', '1')
    with engine_command._progress() as report:
        report('building the engine: {ForeignNode[a...b]} 40 %')
    drawn = capsys.readouterr().err
    assert '\x1b[' in drawn
    assert '{ForeignNode[a...b]} 40 %' in drawn
    monkeypatch.setitem(sys.modules, 'rich.console', None)
    with engine_command._progress() as report:
        report('building the engine: 3 s')
    assert capsys.readouterr().err == 'building the engine: 3 s\n'


def test_plain_progress_says_each_activity_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = engine_command._plain_report()
    for text in ('building: 0 s', 'building: 1 s', 'warming up'):
        report(text)
    assert capsys.readouterr().err.splitlines() == ['building: 0 s', 'warming up']
