from __future__ import annotations

import json
from pathlib import Path

import pytest

from training import recipes as module
from training.check_night import CHECKS
from training.data.frames import DataError
from training.methods.method import TrainingError
from training.recipes import COLUMNS
from training.recipes import recipes

CONFIGS = Path(__file__).parents[2] / 'training/configs'


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    folder = tmp_path / 'variants'
    folder.mkdir()
    for name in ('plain', 'night'):
        (folder / f'{name}.yaml').write_text('seed: 1\n')
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Train nothing: a check's values tell variant and seed."""
    made: list[list[str]] = []

    def call(arguments: list[str], threads: int, log: Path) -> None:
        made.append(list(arguments))
        if arguments[0] == 'check_night':
            folder = Path(arguments[arguments.index('--output') + 1])
            folder.mkdir(parents=True)
            seed = int(folder.parent.name.rsplit('_', 1)[1])
            value = seed / 10 + 0.05 * ('night' in folder.parent.parent.name)
            (folder / CHECKS).write_text(json.dumps(dict.fromkeys(COLUMNS, value)))

    monkeypatch.setattr(module, '_call', call)
    return made


def test_every_variant_and_seed_is_trained_once_and_compared(
    variants: Path, calls: list[list[str]], tmp_path: Path
) -> None:
    output = tmp_path / 'out'
    for _ in range(2):
        recipes([Path('base.yaml')], variants, None, None, output, steps=7, seeds=2)
    fits = [arguments for arguments in calls if arguments[0] == 'fit']
    assert len(fits) == 4
    for arguments in fits:
        assert arguments[1:3] == ['--config', 'base.yaml']
        assert arguments[arguments.index('--steps') + 1] == '7'
    values = json.loads((output / 'recipes.json').read_text())
    assert values['plain']['miou/night_dev'] == pytest.approx([0.1, 0.2])
    assert values['night']['miou/night_dev'] == pytest.approx([0.15, 0.25])
    assert '| night | 2 | 0.200 ± 0.071 |' in (output / 'recipes.md').read_text()
    assert (output / 'recipes.png').stat().st_size > 5000


def test_unknown_variant_names_those_there_are(variants: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no variant \['day'\] .*'night', 'plain'"):
        recipes([Path('base.yaml')], variants, ['day'], tmp_path)


def test_a_training_that_fails_points_to_its_log(variants: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='fit ended with 2: see .*log.txt'):
        recipes([tmp_path / 'missing.yaml'], variants, ['plain'], output=tmp_path / 'out')
    [log] = (tmp_path / 'out').rglob('log.txt')
    assert 'missing.yaml' in log.read_text()


LATER_STAGES = ['night_student_own_vehicle', 'night_student_nights']


@pytest.mark.parametrize(
    ('stages', 'path'),
    [
        (stages, path)
        for folder, stages in (
            ('recipes', ['night_student']),
            ('recipes_nights', ['night_student', *LATER_STAGES]),
        )
        for path in sorted((CONFIGS / folder).glob('*.yaml'))
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else str(len(value)),
)
def test_variants_of_the_repository_are_options_of_fit(stages: list[str], path: Path) -> None:
    from training.__main__ import make_parser

    files = [*(CONFIGS / f'{stage}.yaml' for stage in stages), path]
    options = [part for file in files for part in ('--config', str(file))]
    config = make_parser().parse_args(['fit', *options])
    method = config.fit.method
    expected = path.stem.split('_')[0]
    known = {'dannet': 'DANNet', 'bimix': 'BiMix', 'distill': 'Distill'}
    assert method.class_path.rsplit('.', 1)[1] == known.get(expected, 'Supervised')
    assert method.init_args.net.class_path.endswith('LiteStudent')
