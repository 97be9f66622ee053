"""Tracks: which faces of neighbouring frames are the same one.

Frames are given one after the other. Faces are searched for in whole frames now and then, looked
for again where they should be more often, and followed by optical flow in between. Frames that
were followed count only if the face is seen again where following led; a new face is followed
back to where it first appeared.
"""

from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from svfap.datasets.checks import at_least
from svfap.datasets.faces.detector import FaceDetector, search_picture
from svfap.datasets.faces.follow import CutDetector, confirm, follow, settle
from svfap.datasets.faces.geometry import box_centres, overlap, place_of_box, places

# How a frame's landmarks were found.
DETECTED, FOLLOWED, INTERPOLATED = 0, 1, 2

SAME_FACE = 0.25  # overlap of boxes
DOUBLE = 0.5
DEFAULT_FPS = 25  # of frames that have no time
TILTS = np.radians((-35.0, 35.0))


@dataclass(frozen=True)
class TrackingOptions:
    """How faces are searched for."""

    search_every: int = 16  # frames between searches of whole frames
    confirm_every: int = 8  # frames between looks at a followed face
    # frames for which a face may be out of sight and still be the same track; None: those of one
    # second
    max_gap: int | None = None
    # smallest face searched for, as a share of the frame's shorter side; first value first, the
    # next only if nothing was found (or if all faces are wanted)
    min_face: tuple[float, ...] = (0.25, 1 / 6)
    all_faces: bool = False  # search for small faces although a large one was found
    threshold: float = 0.0  # score that a detection needs
    track_score: float = 0.4  # best score that a track needs to be believed
    min_frames: int = 5  # shorter tracks are left out, unless the video itself is shorter

    def __post_init__(self):
        at_least(1, search_every=self.search_every, confirm_every=self.confirm_every)
        at_least(1, min_frames=self.min_frames)
        at_least(0, max_gap=self.max_gap)
        if not self.min_face or not all(0 < share <= 1 for share in self.min_face):
            raise ValueError(f"min_face is {self.min_face}: shares must be in (0, 1]")


@dataclass
class Track:
    """One face over consecutive frames."""

    first: int  # number of its first frame
    landmarks: np.ndarray  # (T, 68, 2) pixels; NaN in frames where the face was not seen
    how: np.ndarray  # (T,) DETECTED, FOLLOWED or INTERPOLATED
    score: float  # best detection score

    def __len__(self) -> int:
        return len(self.how)

    @property
    def last(self) -> int:
        """Number of its last frame."""
        return self.first + len(self) - 1

    def places(self) -> np.ndarray:
        """(T, 4) places (see `geometry`), NaN where the face was not seen."""
        return places(self.landmarks)

    def size(self) -> float:
        """How prominent the face is: the sum over its frames of its squared unit."""
        return float(np.nansum(self.places()[:, 2] ** 2))


@dataclass
class _Live:
    """A track under construction; `seen` maps frame numbers to (landmarks, how)."""

    seen: dict[int, tuple[np.ndarray, int]]
    sure: int  # last frame in which a detector saw the face
    score: float
    last: int  # last frame in which it was found by any means
    followed: bool = True  # False: out of sight since `last`
    number: int = 0

    @property
    def place(self) -> np.ndarray:
        return places(self.seen[self.last][0])

    def see(self, index: int, landmarks: np.ndarray, score: float) -> None:
        self.seen[index] = (landmarks, DETECTED)
        self.sure, self.last = max(self.sure, index), max(self.last, index)
        self.score, self.followed = max(self.score, score), True

    def finish(self) -> Track:
        """Keep what a detector vouches for."""
        frames = [index for index in sorted(self.seen) if index <= self.sure]
        first = frames[0]
        landmarks = np.full((self.sure - first + 1, 68, 2), np.nan)
        how = np.full(len(landmarks), INTERPOLATED, np.int8)
        for index in frames:
            landmarks[index - first], how[index - first] = self.seen[index]
        return Track(first, landmarks, how, self.score)


@dataclass
class FaceTracker:
    """Builds tracks from frames given in order.

    Args:
        fps: frames per second, if known.
    """

    detector: FaceDetector
    options: TrackingOptions = field(default_factory=TrackingOptions)
    fps: float | None = None

    def __post_init__(self):
        given = self.options.max_gap
        self._max_gap = round(self.fps or DEFAULT_FPS) if given is None else given
        self._live: list[_Live] = []
        self._done: list[_Live] = []
        self._index = -1
        self._recent: deque = deque(maxlen=self.options.search_every + 1)
        self._is_cut = CutDetector()
        self._born = 0
        self._search_at = 0

    def feed(self, grey: np.ndarray) -> None:
        """Take the next frame, (H, W) uint8; all frames have one size."""
        if self._is_cut(grey):
            self._end_shot()
        self._index += 1
        self._recent.append(grey)
        for live in self._live:
            if live.followed:
                self._follow(live, grey)
        if self._index >= self._search_at:
            self._search(grey)
        elif self._index % self.options.confirm_every == 0:
            for live in self._live:
                self._confirm(live, grey)
        self._close([x for x in self._live if self._index - x.sure > self._max_gap])

    def num_seen(self) -> int:
        """Frames in which a face was seen, whether it could be followed or not; after `finish`."""
        sure = (live for live in self._done if live.score >= self.options.track_score)
        return len({index for live in sure for index in live.seen})

    def finish(self) -> list[Track]:
        """All tracks worth believing, by first frame."""
        self._end_shot()
        shortest = min(self.options.min_frames, self._index + 1)
        tracks = [live.finish() for live in self._done if live.score >= self.options.track_score]
        return sorted(
            (track for track in tracks if len(track) >= shortest), key=lambda track: track.first
        )

    def _end_shot(self) -> None:
        """After the last frame of a shot: no track goes on."""
        for live in self._live:
            if live.followed:
                self._check_back(live)
        self._close(self._live)
        self._recent.clear()
        self._search_at = self._index + 1

    def _follow(self, live: _Live, grey: np.ndarray) -> None:
        landmarks = follow(self._recent[-2], grey, live.seen[live.last][0], self.detector)
        if landmarks is not None:
            live.seen[self._index] = (landmarks, FOLLOWED)
            live.last = self._index
        elif not self._look_again(live, grey, widen=1.5):
            self._check_back(live)
            live.followed = False
            self._search_at = min(self._search_at, self._index + 2)

    def _look_again(self, live: _Live, grey: np.ndarray, widen: float) -> bool:
        """Detect near the last place; takes the landmarks anew."""
        found = confirm(
            grey, live.place, self.detector, threshold=self.options.threshold, widen=widen
        )
        if found is None:
            return False
        live.see(self._index, settle(grey, found[0], self.detector), found[1])
        return True

    def _confirm(self, live: _Live, grey: np.ndarray) -> None:
        """Check that what is followed is still a face; else find out since when it is not."""
        if not live.followed:
            self._look_again(live, grey, widen=1.5)
        elif self._index - live.sure <= self.options.confirm_every:
            self._check_back(live)
        else:  # earlier frames have been checked
            self._sees(live, self._index, grey)

    def _check_back(self, live: _Live) -> None:
        """Look for the face where following led, from the last frame back to one that shows it."""
        for index in range(live.last, live.sure, -1):
            back = self._index - index
            if back >= len(self._recent) or self._sees(live, index, self._recent[-1 - back]):
                return

    def _sees(self, live: _Live, index: int, grey: np.ndarray) -> bool:
        landmarks, how = live.seen[index]
        if how == DETECTED:
            return True
        found = confirm(
            grey, places(landmarks), self.detector, threshold=self.options.threshold - 0.3
        )
        if found is None:
            return False
        live.see(index, landmarks, found[1])
        return True

    def _search(self, grey: np.ndarray) -> None:
        """Search the whole frame: known faces are matched, new ones become tracks."""
        self._search_at = self._index + self.options.search_every
        found = self._detect(grey)
        pairs = self._match([place for place, _ in found])
        for live, number in pairs:
            self._meet(live, *found[number], grey)
        matched = {id(live) for live, _ in pairs}
        for live in self._live:
            if id(live) not in matched:
                self._confirm(live, grey)
        self._remove_doubles()
        taken = {number for _, number in pairs}
        for number, (place, score) in enumerate(found):
            if number not in taken and not any(
                live.followed and overlap(live.place, place) > SAME_FACE for live in self._live
            ):
                self._begin(place, score, grey)

    def _detect(self, grey: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Places (4,) and scores of faces in a whole frame, tilted ones if there is no other."""
        options = self.options
        shares = options.min_face[-1:] if options.all_faces else options.min_face
        for share in shares:
            found = search_picture(grey, self.detector, min_face=share, threshold=options.threshold)
            if found:
                return [(place_of_box(x, y, side), score) for x, y, side, score in found]
        if any(live.followed for live in self._live):
            return []
        tilted = [face for tilt in TILTS for face in self._detect_tilted(grey, tilt)]
        return [max(tilted, key=lambda face: face[1])] if tilted else []

    def _detect_tilted(self, grey: np.ndarray, roll: float) -> list[tuple[np.ndarray, float]]:
        middle = ((grey.shape[1] - 1) / 2, (grey.shape[0] - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, np.degrees(roll), 1.0)
        turned = cv2.warpAffine(grey, matrix, grey.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        found = search_picture(
            turned, self.detector, min_face=self.options.min_face[0],
            threshold=self.options.threshold,
        )  # fmt: skip
        back = cv2.invertAffineTransform(matrix)
        return [
            (place_of_box(*(back @ (x, y, 1.0)), side, roll), score) for x, y, side, score in found
        ]

    def _match(self, found: list[np.ndarray]) -> list[tuple[_Live, int]]:
        """Pairs of a live track and the number of the detection that shows it."""
        if not found or not self._live:
            return []
        shared = np.array([[overlap(live.place, place) for place in found] for live in self._live])
        rows, columns = linear_sum_assignment(-shared)
        return [
            (self._live[row], int(column))
            for row, column in zip(rows, columns)
            if shared[row, column] > SAME_FACE
        ]

    def _meet(self, live: _Live, place: np.ndarray, score: float, grey: np.ndarray) -> None:
        """A detection shows a live track: keep the landmarks if they are where it is."""
        if live.followed and live.last == self._index:
            known = live.place
            shift = np.hypot(*(box_centres(known) - box_centres(place))) / place[2]
            if shift < 0.6 and 0.6 < known[2] / place[2] < 1.6:
                live.see(self._index, live.seen[self._index][0], score)
                return
        live.see(self._index, settle(grey, place, self.detector), score)

    def _begin(self, place: np.ndarray, score: float, grey: np.ndarray) -> None:
        """Start a track and follow the face back to where it appeared."""
        landmarks = settle(grey, place, self.detector)
        self._born += 1
        now = self._index
        live = _Live({now: (landmarks, DETECTED)}, now, score, now, number=self._born)
        others = [other for other in self._live + self._done if other.seen]
        for back in range(1, len(self._recent)):
            index = self._index - back
            frames = self._recent[-back], self._recent[-1 - back]
            landmarks = follow(*frames, landmarks, self.detector)
            if landmarks is None or self._taken(places(landmarks), index, others):
                break
            threshold = self.options.threshold - 0.3
            if confirm(frames[1], places(landmarks), self.detector, threshold=threshold) is None:
                break
            live.seen[index] = (landmarks, FOLLOWED)
        self._live.append(live)

    def _taken(self, place: np.ndarray, index: int, others: list[_Live]) -> bool:
        """Whether another track has this face in this frame already."""
        return any(
            index in other.seen and overlap(places(other.seen[index][0]), place) > SAME_FACE
            for other in others
        )

    def _remove_doubles(self) -> None:
        """Of two tracks on one face keep the older."""
        live = sorted((x for x in self._live if x.followed), key=lambda x: x.number)
        for place, younger in enumerate(live):
            if any(overlap(older.place, younger.place) > DOUBLE for older in live[:place]):
                younger.followed = False
                self._close([younger])

    def _close(self, some: list[_Live]) -> None:
        gone = list(some)
        self._done += gone
        self._live = [live for live in self._live if all(live is not x for x in gone)]
