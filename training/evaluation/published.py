"""Published results, as data, to put beside ours. Every row names where it was read.

Numbers of one data set only: versions of a data set (NightCity, NightCity+, NightCity-fine) have
different labels, and splits (Dark Zurich val and test) different frames; they do not compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PublishedSet = Literal[
    'dark_zurich_test',
    'dark_zurich_val',
    'nighttime_driving',
    'nightcity',
    'nightcity_plus',
    'nightcity_fine',
]

DATASETS: dict[PublishedSet, str] = {
    'dark_zurich_test': 'Dark Zurich test (151 night frames, 1920x1080, scored by the server)',
    'dark_zurich_val': 'Dark Zurich val (50 night frames, 1920x1080)',
    'nighttime_driving': 'Nighttime Driving test (50 frames, 1920x1080, coarse labels)',
    'nightcity': 'NightCity test, first release of the labels (1,299 frames, 1024x512)',
    'nightcity_plus': 'NightCity+ val (re-annotated frames of NightCity)',
    'nightcity_fine': 'NightCity-fine val (re-annotated train and val of NightCity)',
}
"""The data sets, and versions of them, that results refer to."""


@dataclass(frozen=True)
class PublishedResult:
    """One row of a table of a paper.

    Attributes:
        method: name in the paper, with the backbone where a paper reports several.
        dataset: key of `DATASETS`.
        miou: percent, as printed.
        source: paper and table.
        trained_on: labelled and unlabelled data ("A -> B": labels of A, pictures of B).
        class_iou: percent of each trainId 0..18, or None.
        mean_ef1: mEF1 (0..1), or None.
        ef1: EF1 of the ten exposure bins (0..1), or None.
    """

    method: str
    dataset: PublishedSet
    miou: float
    source: str
    trained_on: str
    class_iou: tuple[float, ...] | None = None
    mean_ef1: float | None = None
    ef1: tuple[float, ...] | None = None


def published(dataset: PublishedSet) -> tuple[PublishedResult, ...]:
    """Return the rows that were measured on one data set, best mIoU first; may be empty."""
    rows = [row for row in RESULTS if row.dataset == dataset]
    return tuple(sorted(rows, key=lambda row: -row.miou))


DANNET = 'DANNet (Wu et al., CVPR 2021)'
BIMIX = 'Bi-Mix (Yang et al., 2021)'
EGNET = 'NightCity (Tan et al., TIP 2021)'
CITYSCAPES = 'Cityscapes'
PAIRS = 'Cityscapes -> Dark Zurich'
NIGHT = 'Cityscapes -> Dark Zurich night'
TWILIGHT = 'Cityscapes -> day, twilight and night'

# fmt: off
# DANNet, table 2; rows shared with Bi-Mix, table 1, are the same there.
_DARK_ZURICH_TEST = (
    ('RefineNet, source only', CITYSCAPES, f'{DANNET}, table 2', 28.5, (
        68.8, 23.2, 46.8, 20.8, 12.6, 29.8, 30.4, 26.9, 43.1, 14.3, 0.3, 36.9, 49.7, 63.6, 6.8,
        0.2, 24.0, 33.6, 9.3)),
    ('DeepLab-v2, source only', CITYSCAPES, f'{DANNET}, table 2', 28.8, (
        79.0, 21.8, 53.0, 13.3, 11.2, 22.5, 20.2, 22.1, 43.5, 10.4, 18.0, 37.4, 33.8, 64.1, 6.4,
        0.0, 52.3, 30.4, 7.4)),
    ('PSPNet, source only', CITYSCAPES, f'{DANNET}, table 2', 28.8, (
        78.2, 19.0, 51.2, 15.5, 10.6, 30.3, 28.9, 22.0, 56.7, 13.3, 20.8, 38.2, 21.8, 52.1, 1.6,
        0.0, 53.2, 23.2, 10.7)),
    ('AdaptSegNet', NIGHT, f'{DANNET}, table 2', 30.4, (
        86.1, 44.2, 55.1, 22.2, 4.8, 21.1, 5.6, 16.7, 37.2, 8.4, 1.2, 35.9, 26.7, 68.2, 45.1,
        0.0, 50.1, 33.9, 15.6)),
    ('ADVENT', NIGHT, f'{DANNET}, table 2', 29.7, (
        85.8, 37.9, 55.5, 27.7, 14.5, 23.1, 14.0, 21.1, 32.1, 8.7, 2.0, 39.9, 16.6, 64.0, 13.8,
        0.0, 58.8, 28.5, 20.7)),
    ('BDL', NIGHT, f'{DANNET}, table 2', 30.8, (
        85.3, 41.1, 61.9, 32.7, 17.4, 20.6, 11.4, 21.3, 29.4, 8.9, 1.1, 37.4, 22.1, 63.2, 28.2,
        0.0, 47.7, 39.4, 15.7)),
    ('DMAda', TWILIGHT, f'{DANNET}, table 2', 32.1, (
        75.5, 29.1, 48.6, 21.3, 14.3, 34.3, 36.8, 29.9, 49.4, 13.8, 0.4, 43.3, 50.2, 69.4, 18.4,
        0.0, 27.6, 34.9, 11.9)),
    ('GCMA', TWILIGHT, f'{DANNET}, table 2', 42.0, (
        81.7, 46.9, 58.8, 22.0, 20.0, 41.2, 40.5, 41.6, 64.8, 31.0, 32.1, 53.5, 47.5, 75.5, 39.2,
        0.0, 49.6, 30.7, 21.0)),
    ('MGCDA', TWILIGHT, f'{DANNET}, table 2', 42.5, (
        80.3, 49.3, 66.2, 7.8, 11.0, 41.4, 38.9, 39.0, 64.1, 18.0, 55.8, 52.1, 53.5, 74.7, 66.0,
        0.0, 37.5, 29.1, 22.7)),
    ('DANNet (DeepLab-v2)', PAIRS, f'{DANNET}, table 2', 42.5, (
        88.6, 53.4, 69.8, 34.0, 20.0, 25.0, 31.5, 35.9, 69.5, 32.2, 82.3, 44.2, 43.7, 54.1, 22.0,
        0.1, 40.9, 36.0, 24.1)),
    ('DANNet (RefineNet)', PAIRS, f'{DANNET}, table 2', 44.3, (
        90.0, 54.0, 74.8, 41.0, 21.1, 25.0, 26.8, 30.2, 72.0, 26.2, 84.0, 47.0, 33.9, 68.2, 19.0,
        0.3, 66.4, 38.3, 23.6)),
    ('DANNet (PSPNet)', PAIRS, f'{DANNET}, table 2', 45.2, (
        90.4, 60.1, 71.0, 33.6, 22.9, 30.6, 34.3, 33.7, 70.5, 31.8, 80.2, 45.7, 41.6, 67.4, 16.8,
        0.0, 73.0, 31.6, 22.9)),
    ('CDAda (RefineNet)', PAIRS, f'{BIMIX}, table 1', 45.0, (
        90.5, 60.6, 67.9, 37.0, 19.3, 42.9, 36.4, 35.3, 66.9, 24.4, 79.8, 45.4, 42.9, 70.8, 51.7,
        0.0, 29.7, 27.7, 26.2)),
    ('Bi-Mix (RefineNet)', PAIRS, f'{BIMIX}, table 1', 46.5, (
        89.2, 59.4, 75.8, 41.7, 19.2, 39.0, 31.9, 31.5, 70.9, 30.1, 81.9, 44.9, 41.8, 66.3, 34.2,
        1.0, 61.1, 47.4, 14.6)),
    ('DAFormer', NIGHT, 'HRDA (Hoyer et al., ECCV 2022), README of its code', 53.8, None),
    ('HRDA', NIGHT, 'HRDA (Hoyer et al., ECCV 2022), README of its code', 55.9, None),
    ('Refign-DAFormer', PAIRS, 'Refign (Brueggemann et al., WACV 2023), README of its code', 56.2,
     None),
    ('Refign-HRDA*', PAIRS, 'Refign (Brueggemann et al., WACV 2023), README of its code', 63.9,
     None),
)

# DANNet, tables 1 and 4; Bi-Mix, table 2.
_DARK_ZURICH_VAL = (
    ('RefineNet, source only', CITYSCAPES, f'{DANNET}, table 1', 15.16),
    ('DeepLab-v2, source only', CITYSCAPES, f'{DANNET}, table 1', 12.14),
    ('PSPNet, source only', CITYSCAPES, f'{DANNET}, table 1', 12.28),
    ('AdaptSegNet', NIGHT, f'{DANNET}, table 4', 20.19),
    ('GCMA', TWILIGHT, f'{DANNET}, table 4', 26.65),
    ('MGCDA', TWILIGHT, f'{DANNET}, table 4', 26.10),
    ('DANNet (PSPNet)', PAIRS, f'{DANNET}, table 4', 36.76),
    ('DANNet (RefineNet)', PAIRS, f'{BIMIX}, table 2', 30.0),
    ('CDAda (RefineNet)', PAIRS, f'{BIMIX}, table 2', 36.0),
    ('Bi-Mix (RefineNet)', PAIRS, f'{BIMIX}, table 2', 33.4),
    ('Bi-Mix* (RefineNet, other checkpoint)', PAIRS, f'{BIMIX}, table 2', 35.2),
)

# DANNet, table 3; Bi-Mix, table 2.
_NIGHTTIME_DRIVING = (
    ('RefineNet, source only', CITYSCAPES, f'{DANNET}, table 3', 32.75),
    ('DeepLab-v2, source only', CITYSCAPES, f'{DANNET}, table 3', 25.44),
    ('PSPNet, source only', CITYSCAPES, f'{DANNET}, table 3', 27.65),
    ('AdaptSegNet', NIGHT, f'{DANNET}, table 3', 34.5),
    ('ADVENT', NIGHT, f'{DANNET}, table 3', 34.7),
    ('BDL', NIGHT, f'{DANNET}, table 3', 34.7),
    ('DMAda', TWILIGHT, f'{DANNET}, table 3', 36.1),
    ('GCMA', TWILIGHT, f'{DANNET}, table 3', 45.6),
    ('MGCDA', TWILIGHT, f'{DANNET}, table 3', 49.4),
    ('DANNet (RefineNet)', PAIRS, f'{DANNET}, table 3', 42.36),
    ('DANNet (DeepLab-v2)', PAIRS, f'{DANNET}, table 3', 44.98),
    ('DANNet (PSPNet)', PAIRS, f'{DANNET}, table 3', 47.70),
    ('CDAda (RefineNet)', PAIRS, f'{BIMIX}, table 2', 50.9),
    ('Bi-Mix (RefineNet)', PAIRS, f'{BIMIX}, table 2', 47.3),
    ('Bi-Mix* (RefineNet, other checkpoint)', PAIRS, f'{BIMIX}, table 2', 51.6),
)

# EGNet's paper, table 2: EF1 from [0, 0.1) to [0.9, 1], trained on NightCity.
_EF1 = {
    'SegNet': (.6335, .6281, .6945, .7171, .7132, .6877, .6625, .6566, .6507, .6665),
    'FCN-8s': (.7717, .7863, .8069, .8189, .8209, .8154, .8027, .8016, .7952, .8085),
    'PSPNet': (.8447, .8634, .8739, .8750, .8754, .8739, .8649, .8624, .8583, .8882),
    'BiSeNet': (.8609, .8674, .8735, .8735, .8740, .8736, .8658, .8637, .8571, .9073),
    'PSANet': (.7067, .7087, .7252, .7228, .7128, .6964, .6778, .6744, .6647, .7252),
    'ESPNet': (.7860, .8085, .8325, .8374, .8399, .8352, .8257, .8245, .8178, .8249),
    'DFN': (.8665, .8697, .8773, .8763, .8762, .8762, .8684, .8671, .8623, .9119),
    # The mean of this row is .873, the .85 of table 1 is the paper's.
    'CCNet': (.8681, .8623, .8745, .8737, .8778, .8765, .8625, .8678, .8595, .9109),
    'EGNet': (.8690, .8751, .8819, .8819, .8828, .8814, .8739, .8738, .8689, .9155),
}

# EGNet's paper, table 1: mIoU and mEF1 when trained on Cityscapes, NightCity, and both.
_NIGHTCITY = {
    'SegNet': ((5.7, .38), (17.3, .67), (18.1, .68)),
    'FCN-8s': ((8.1, .58), (28.2, .80), (28.1, .79)),
    'PSPNet': ((12.6, .61), (46.3, .87), (46.5, .86)),
    'BiSeNet': ((6.1, .42), (50.0, .87), (46.2, .85)),
    'PSANet': ((7.8, .53), (28.8, .70), (28.5, .70)),
    'ESPNet': ((9.1, .28), (34.2, .82), (34.5, .83)),
    'DFN': ((9.6, .33), (50.1, .87), (52.3, .88)),
    'CCNet': ((11.1, .42), (49.2, .85), (49.8, .86)),
    'EGNet': (None, (51.8, .88), (53.9, .88)),
}
# fmt: on


def _nightcity() -> list[PublishedResult]:
    trainings = (CITYSCAPES, 'NightCity', 'Cityscapes and NightCity')
    return [
        PublishedResult(
            method,
            'nightcity',
            scores[0],
            f'{EGNET}, table 1' + (' and 2' if trained_on == 'NightCity' else ''),
            trained_on,
            mean_ef1=scores[1],
            ef1=_EF1[method] if trained_on == 'NightCity' else None,
        )
        for method, columns in _NIGHTCITY.items()
        for trained_on, scores in zip(trainings, columns, strict=True)
        if scores is not None
    ]


RESULTS: tuple[PublishedResult, ...] = (
    *(
        PublishedResult(method, 'dark_zurich_test', miou, source, trained_on, class_iou)
        for method, trained_on, source, miou, class_iou in _DARK_ZURICH_TEST
    ),
    *(
        PublishedResult(method, dataset, miou, source, trained_on)
        for dataset, rows in (
            ('dark_zurich_val', _DARK_ZURICH_VAL),
            ('nighttime_driving', _NIGHTTIME_DRIVING),
        )
        for method, trained_on, source, miou in rows
    ),
    *_nightcity(),
    PublishedResult('FDLNet', 'nightcity', 54.6, 'FDLNet (Xie et al., TIP 2024)', 'NightCity'),
    PublishedResult('DTP', 'nightcity_fine', 64.2, 'DTP (Wei et al., ICCV 2023)', 'NightCity-fine'),
)
