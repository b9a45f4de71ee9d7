from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from training.data.frames import Sample
from training.evaluation.night_checks import confidence_by_exposure
from training.evaluation.night_checks import exposed
from training.evaluation.night_checks import exposure_consistency
from training.evaluation.night_checks import layout
from training.evaluation.night_checks import relit_agreement


class Stub:
    """A segmenter that is a function of the frame: returns labels and confidence."""

    def __init__(self, labels, confidence=lambda image: np.full(image.shape[:2], 200)) -> None:
        self.labels, self.confidence = labels, confidence

    def segment_rgb(self, image: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(
            labels=self.labels(image).astype(np.uint8),
            confidence=self.confidence(image).astype(np.uint8),
        )


def brightness(image: np.ndarray) -> np.ndarray:
    """Road where it is dark, sky where it is bright: a network that knows the day alone."""
    return np.where(image.max(axis=2) > 90, 10, 0)


def top_is_sky(image: np.ndarray) -> np.ndarray:
    labels = np.zeros(image.shape[:2])
    labels[: len(labels) // 2] = 10
    return labels


@pytest.fixture
def day() -> list[Sample]:
    image = np.full((64, 96, 3), 120, np.uint8)
    image[:32] = 220
    labels = np.zeros((64, 96), np.uint8)
    labels[:32] = 10
    return [Sample(image, labels)] * 3


def test_who_goes_by_brightness_does_not_agree_with_itself_at_night(day: list[Sample]) -> None:
    blind, sees = relit_agreement(Stub(brightness), day), relit_agreement(Stub(top_is_sky), day)
    assert (sees.accuracy, sees.miou) == (1.0, 1.0)
    assert blind.accuracy < 0.7
    assert relit_agreement(Stub(brightness), day) == blind  # the same nights again


def test_unsure_day_predictions_are_no_truth(day: list[Sample]) -> None:
    unsure = Stub(top_is_sky, lambda image: np.zeros(image.shape[:2]))
    assert np.isnan(relit_agreement(unsure, day).accuracy)


def test_exposure_changes_what_goes_by_brightness() -> None:
    frames = [np.full((8, 8, 3), 100, np.uint8)]
    assert exposure_consistency(Stub(top_is_sky), frames) == 1.0
    assert exposure_consistency(Stub(brightness), frames) == 0.5  # one stop down is below 90


def test_a_stop_doubles_linear_light() -> None:
    ramp = np.arange(0, 180, 10, dtype=np.uint8).reshape(1, -1, 1).repeat(3, axis=2)
    linear = (ramp / 255.0) ** 2.2
    doubled = (exposed(ramp, 1.0) / 255.0) ** 2.2
    np.testing.assert_allclose(doubled, 2 * linear, atol=0.01)
    assert (exposed(ramp, 0.0) == ramp).all()


def test_layout_tells_where_classes_lie() -> None:
    mask = np.full((10, 10), 2, np.uint8)
    mask[:4] = 10  # sky
    mask[6:] = 0  # road
    mask[2] = 0  # road in the sky
    mask[9] = 3  # a wall on the road
    found = layout([mask, np.full((10, 10), 4, np.uint8)])
    assert found.road == pytest.approx(40 / 200)
    assert found.wall == pytest.approx((10 + 100) / 200)
    assert found.frames_with_road == 0.5
    assert found.road_low == pytest.approx(30 / 40)
    assert found.sky_high == 1.0
    assert np.isnan(layout([np.full((4, 4), 2, np.uint8)]).sky_high)


def test_confidence_is_told_by_exposure() -> None:
    image = np.full((3, 4, 3), 128, np.uint8)
    image[0], image[2] = 0, 255
    rows = lambda image: np.repeat([[51], [204], [102]], image.shape[1], axis=1)  # noqa: E731
    found = confidence_by_exposure(Stub(top_is_sky, rows), [image])
    assert (found.under, found.normal, found.over) == pytest.approx((0.2, 0.8, 0.4))
