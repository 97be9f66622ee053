"""Face swapping: what moves, what stays, colours, alignment, cases that cannot be done."""

import cv2
import numpy as np
import pytest

from svfap.datasets.faces.geometry import transform
from svfap.datasets.faces.swap import INNER, alignment, swap_face, swapped_points
from tests.face_drawings import drawn_landmarks

SIZE = 112


def drawn(x=56, y=45, unit=24, roll=0.0, skin=(200, 150, 120), back=(20, 60, 90)):
    """A head with dark pupils, and its landmarks."""
    points = drawn_landmarks(x, y, unit, roll)
    image = np.full((SIZE, SIZE, 3), back, np.uint8)
    chin = points[:17].mean(0) - (0, 0.3 * unit)
    cv2.ellipse(image, (tuple(chin), (3 * unit, 4.2 * unit), np.degrees(roll)), skin, -1)
    for part in (slice(36, 42), slice(42, 48)):
        cv2.circle(image, np.round(points[part].mean(0)).astype(int).tolist(), 3, (10, 10, 10), -1)
    return image, points


def test_alignment_is_the_similarity_between_the_faces():
    _, points = drawn()
    expected = np.array([[0.0, -1.5, 70.0], [1.5, 0.0, 8.0]])
    np.testing.assert_allclose(alignment(points, transform(expected, points)), expected, atol=1e-9)


def test_alignment_minimises_the_distance():
    rng = np.random.default_rng(0)
    _, points = drawn()
    other = drawn(60, 50, 28, 0.2)[1] + rng.normal(0, 1, (68, 2))
    matrix = alignment(points, other)

    def misfit(change):
        return np.square(transform(matrix + change, points)[INNER] - other[INNER]).sum()

    best = misfit(0)
    for turn in (-0.02, 0.02):
        middle = points[INNER].mean(0)
        rotation = np.array([[0, -turn], [turn, 0]])
        change = np.concatenate([rotation, -(rotation @ middle)[:, None]], 1)
        assert misfit(change) > best
    assert misfit(np.array([[0, 0, 0.3], [0, 0, 0]])) > best


def test_inner_face_moves_and_the_rest_stays():
    image, points = drawn(skin=(200, 150, 120))
    cv2.circle(image, (56, 60), 3, (255, 255, 255), -1)  # on the nose
    donor, donor_points = drawn(52, 47, 22, skin=(110, 80, 70), back=(0, 120, 0))
    result = swap_face(image, points, donor, donor_points)
    assert result.shape == donor.shape
    assert result.dtype == np.uint8
    x, y = (
        transform(alignment(points, donor_points), np.array([[56.0, 60.0]]))[0].round().astype(int)
    )
    assert result[y, x].min() > 130  # the spot came along, in the donor's colours
    assert abs(donor[y, x].astype(int) - (110, 80, 70)).max() == 0  # the donor had none
    outside = np.ones((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(outside, cv2.convexHull(np.float32(donor_points[:27])).astype(np.int32), 0)
    outside = cv2.erode(outside, np.ones((15, 15), np.uint8)).astype(bool)
    assert outside.mean() > 0.3
    np.testing.assert_array_equal(result[outside], donor[outside])


def test_colours_are_the_donors():
    image, points = drawn(skin=(230, 190, 170))
    donor, donor_points = drawn(skin=(90, 60, 50))
    result = swap_face(image, points, donor, donor_points)
    between = points[27:36].mean(0).round().astype(int)
    assert np.abs(result[between[1], between[0]].astype(int) - (90, 60, 50)).max() <= 8


def test_no_seam():
    image, points = drawn(skin=(230, 190, 170))
    donor, donor_points = drawn(skin=(90, 60, 50))
    result = swap_face(image, points, donor, donor_points).astype(int)
    skin = (np.abs(donor.astype(int) - (90, 60, 50)).max(-1) == 0).astype(np.uint8)
    skin = cv2.erode(skin, np.ones((9, 9), np.uint8)).astype(bool)
    step = np.abs(np.diff(result, axis=1)).max(-1)
    assert step[skin[:, 1:]].max() <= 12


def test_the_same_face_stays_as_it_is():
    image, points = drawn()
    result = swap_face(image, points, image, points)
    assert np.abs(result.astype(int) - image).max() <= 2
    np.testing.assert_allclose(swapped_points(points, points), points, atol=1e-9)


def test_swapped_points_are_inner_ones_moved_and_the_donors_jaw():
    _, points = drawn()
    _, donor = drawn(50, 40, 20, 0.3)
    found = swapped_points(points, donor)
    np.testing.assert_allclose(found[:17], donor[:17])
    np.testing.assert_allclose(found[17:], donor[17:], atol=1e-6)  # same shape, other place


def nothing(points):
    return np.full_like(points, np.nan)


@pytest.mark.parametrize(
    "spoil",
    [
        nothing,
        lambda points: points * 0.02,  # tiny
        lambda points: points * 0 + 50,  # collapsed
        lambda points: points + 500,  # outside
        lambda points: points * (0.3, 1.0),  # in profile: does not fit
    ],
)
@pytest.mark.parametrize("who", ["image", "donor"])
def test_cases_that_cannot_be_done(spoil, who):
    (image, points), (donor, donor_points) = drawn(), drawn(54, 44, 23)
    if who == "image":
        points = spoil(points)
    else:
        donor_points = spoil(donor_points)
    assert swap_face(image, points, donor, donor_points) is None


def test_inputs_are_left_alone_and_sizes_may_differ():
    (image, points), (donor, donor_points) = drawn(), drawn(54, 44, 23)
    large = cv2.resize(donor, (2 * SIZE, 2 * SIZE))
    before = image.copy(), large.copy()
    result = swap_face(image, points, large, 2 * donor_points)
    assert result.shape == large.shape
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(large, before[1])
