"""Clips for prediction: windows that slide over every face of every video (see `timeline`)."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from svfap.datasets.augment.transforms import resize_square
from svfap.datasets.checks import at_least
from svfap.datasets.clips.source import cut_window
from svfap.datasets.clips.timeline import DEFAULT_FPS, even_frames, frame_times, window_indices
from svfap.datasets.faces import (
    INTERPOLATED,
    CropPlan,
    CropStyle,
    FaceDetector,
    FaceVideo,
    Track,
    TrackingOptions,
    create_detector,
    find_faces,
    plan_crops,
)
from svfap.datasets.faces.crops import cut_crop
from svfap.datasets.faces.geometry import invert, transform
from svfap.datasets.video.open_video import (
    FrameCountChangedError,
    FrameReader,
    UnreadableVideoError,
    open_video,
)

CLIPS_PER_MESSAGE = 8
CROP_PX = 224  # of crops that a face window is cut out of


@dataclass(frozen=True, kw_only=True)
class SlidingOptions:
    """How clips are made.

    Attributes:
        window_stride: frames at `fps` between the starts of neighbouring windows; 0: only the two
            windows of the test protocol, at the start and the end.
        fps: frame rate of the training data; None takes the frames as they come.
        face_window: (top, left, height, width) of the part of 224 px crops, or of whole frames
            without `crop`, that the model was trained on; None: all.
    """

    clip_frames: int  # T, frames of a clip
    sampling_rate: int  # distance of neighbouring frames of a clip, at `fps`
    size: int  # side of the clips in pixels
    window_stride: int
    fps: float | None = DEFAULT_FPS
    crop: bool = True  # find faces and cut them out; False uses whole frames
    faces: str = "all"  # "all" or "largest"
    style: CropStyle = field(default_factory=lambda: CropStyle(side=3.2, eye_height=0.37))
    align: str = "none"  # "none" or "similarity"
    smooth_seconds: float = 0.2  # smoothing of the crops in time
    min_face: float = 1 / 6  # smallest face, as a share of the frame's shorter side
    face_window: tuple[int, int, int, int] | None = None
    backend: str = "auto"  # video reader, see `open_video`

    def __post_init__(self):
        at_least(1, clip_frames=self.clip_frames, sampling_rate=self.sampling_rate)
        at_least(8, size=self.size)
        at_least(0, window_stride=self.window_stride)
        if self.fps is not None and not 1 <= self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}: give 1 to 1000, or None for frames as they come")
        if self.faces not in ("all", "largest"):
            raise ValueError(f"faces is {self.faces!r}: choose all or largest")


@dataclass(frozen=True)
class Span:
    """A face (or, without cropping, the whole picture) over consecutive frames of a video."""

    first_frame: int  # number of its first frame
    num_frames: int  # number of frames
    interpolated: int  # frames in which the face was not seen and its place was interpolated
    frames: np.ndarray  # (n, T) frame numbers of each clip
    # (num_frames, 4, 2) corners of the crop in pixels of the frame, clockwise from the upper left;
    # None for whole frames
    corners: np.ndarray | None

    @property
    def windows(self) -> np.ndarray:
        """(n, 2) first and last frame number of each clip."""
        return self.frames[:, [0, -1]]


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before its clips come."""

    path: str
    status: str  # "ok", "no_face", "unreadable" or "failed" (an error of the program)
    note: str = ""  # why, or what is wrong with a usable video (truncated)
    num_frames: int = 0  # frames that decode
    fps: float | None = None  # average frames per second, None where there is no time
    height: int = 0  # of the frames, pixels
    width: int = 0  # of the frames, pixels
    frames_without_face: int = 0  # frames that belong to no face; 0 without cropping
    # (num_frames,) seconds from the first frame
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class ClipMessage:
    """Some clips of one span, in the order of its windows."""

    video: int  # number of the video in the list
    span: int
    clips: np.ndarray  # (n, T, size, size, 3) uint8 RGB
    windows: np.ndarray  # (n,) numbers of the windows


@dataclass(frozen=True)
class VideoMessage:
    """Comes before a video's clips (`done` False) and after them (True).

    `facts` may differ at the end: a video that breaks on the way is unreadable after all. A second
    one with `done` False makes what came before void: the video turned out to be shorter.
    """

    video: int
    facts: VideoFacts
    done: bool


class SlidingClips(IterableDataset):
    """Messages about videos: facts, then clips, then the end of each.

    Each loader worker does its own share of the videos, so messages of different videos mix.

    Args:
        options: how clips are made.
        detector: finds faces; None makes one where it is needed.
    """

    def __init__(
        self,
        videos: Sequence[str | FrameReader],
        options: SlidingOptions,
        detector: FaceDetector | None = None,
    ):
        super().__init__()
        self.videos, self.options, self._detector = list(videos), options, detector

    def __iter__(self) -> Iterator[VideoMessage | ClipMessage]:
        info = get_worker_info()
        if info is not None and cv2.getNumThreads() > 1:
            cv2.setNumThreads(1)
        mine = range(info.id if info else 0, len(self.videos), info.num_workers if info else 1)
        if self.options.crop and self._detector is None and len(mine):
            self._detector = create_detector()
        for number in mine:
            yield from self._messages(number)

    def _messages(self, number: int) -> Iterator[VideoMessage | ClipMessage]:
        """Everything about one video; bad videos and unforeseen errors are messages, too."""
        source = self.videos[number]
        ready = isinstance(source, FrameReader)
        path = source.path if ready else source
        try:
            with source if ready else open_video(path, backend=self.options.backend) as video:
                try:
                    facts = yield from self._planned(video, number)
                except FrameCountChangedError:  # damaged; what decodes is known now
                    facts = yield from self._planned(video, number)
        except UnreadableVideoError as error:
            facts = VideoFacts(path, "unreadable", " ".join(error.reason.split()))
        except Exception as error:  # thousands of other videos wait
            said = " ".join(str(error).split())
            facts = VideoFacts(path, "failed", f"{type(error).__name__}: {said}")
        yield VideoMessage(number, facts, True)

    def _planned(
        self, video: FrameReader, number: int
    ) -> Generator[VideoMessage | ClipMessage, None, VideoFacts]:
        """The facts, then the clips; returns the facts."""
        facts, sources = self._plan(video)
        yield VideoMessage(number, facts, False)
        for span, source in enumerate(sources):
            yield from source.messages(video, number, span)
        note = "; ".join(filter(None, (self._unfollowed, _note(video), self._shortness(facts))))
        return replace(facts, note=note)  # decoding may have met damage

    def _shortness(self, facts: VideoFacts) -> str:
        """What to say of fewer frames than one step of a clip (`sampling.bearable_rate`)."""
        number, rate = facts.num_frames, self.options.sampling_rate
        short = self.options.clip_frames > 1 and 1 < number < rate
        return f"{number} frames, fewer than the sampling rate {rate}: all are shown" * short

    def _plan(self, video: FrameReader) -> tuple[VideoFacts, list["_SpanSource"]]:
        self._unfollowed = ""
        if not self.options.crop:
            frame = video.read([0])[0]
            times = frame_times(video, self.options.fps)
            whole = _SpanSource(self.options, times, None, None)
            return _facts(video, frame.shape, times, [whole], 0), [whole]
        found = find_faces(video, self._detector, self._tracking())
        self._unfollowed = found.unfollowed
        times = frame_times(video, self.options.fps)
        tracks = found.by_size()[: 1 if self.options.faces == "largest" else None]
        sources = [
            _SpanSource(self.options, times, track, self._crops(track, found)) for track in tracks
        ]
        missing = found.frames_without_face()
        return _facts(video, (found.height, found.width), times, sources, missing), sources

    def _tracking(self) -> TrackingOptions:
        shares = dict.fromkeys((max(0.25, self.options.min_face), self.options.min_face))
        return TrackingOptions(min_face=tuple(shares), all_faces=self.options.faces == "all")

    def _crops(self, track: Track, found: FaceVideo) -> CropPlan:
        options = self.options
        return plan_crops(
            track,
            style=options.style,
            size=CROP_PX if options.face_window else options.size,
            align=options.align,
            border="inside" if options.align == "none" else "black",
            smooth_frames=options.smooth_seconds * (found.fps or DEFAULT_FPS),
            ticks=found.ticks(track),
            frame_size=(found.height, found.width),
        )


def _facts(
    video: FrameReader, shape: Iterable, times: np.ndarray, sources: list, missing: int
) -> VideoFacts:
    height, width = tuple(shape)[:2]
    return VideoFacts(
        path=video.path,
        status="ok" if sources else "no_face",
        note=_note(video),
        num_frames=video.num_frames,
        fps=video.fps,
        height=height,
        width=width,
        frames_without_face=missing,
        times=times,
        spans=tuple(source.span for source in sources),
    )


def _note(video: FrameReader) -> str:
    return "; ".join(filter(None, (video.problem, video.remark)))


class _SpanSource:
    """Clips of one span of a video, made while its frames pass by once."""

    def __init__(
        self,
        options: SlidingOptions,
        times: np.ndarray,
        track: Track | None,
        plan: CropPlan | None,
    ):
        self._options, self._plan = options, plan
        first = track.first if track else 0
        count = len(track) if track else len(times)
        self._num_frames = len(times)
        shown = even_frames(times[first : first + count], options.fps)
        chosen = window_indices(
            len(shown), options.clip_frames, options.sampling_rate, options.window_stride
        )
        self._frames = first + shown[chosen]  # (n, T) frame numbers of the video
        self.span = Span(
            first_frame=first,
            num_frames=count,
            interpolated=int((track.how == INTERPOLATED).sum()) if track else 0,
            frames=self._frames,
            corners=_corners(plan) if plan else None,
        )

    def messages(self, video: FrameReader, number: int, span: int) -> Iterator[ClipMessage]:
        """Clips in the order of the windows, some at a time."""
        clips, windows = [], []
        for window, clip in self._clips(video):
            clips.append(clip)
            windows.append(window)
            if len(clips) == CLIPS_PER_MESSAGE:
                yield ClipMessage(number, span, np.stack(clips), np.array(windows))
                clips, windows = [], []
        if clips:
            yield ClipMessage(number, span, np.stack(clips), np.array(windows))

    def _clips(self, video: FrameReader) -> Iterator[tuple[int, np.ndarray]]:
        """Number and frames (T, size, size, 3) of each window, as soon as it is complete."""
        held: dict[int, np.ndarray] = {}
        window = 0
        for number, picture in self._pictures(video):
            held[number] = picture
            while window < len(self._frames) and self._frames[window, -1] <= number:
                yield window, np.stack([held[frame] for frame in self._frames[window]])
                window += 1
                if window < len(self._frames):
                    start = self._frames[window, 0]
                    held = {frame: seen for frame, seen in held.items() if frame >= start}
        if window < len(self._frames) or video.num_frames != self._num_frames:
            raise FrameCountChangedError(video.path, f"only {video.num_frames} frames decode")

    def _pictures(self, video: FrameReader) -> Iterator[tuple[int, np.ndarray]]:
        """Number and picture (size, size, 3) of every frame that some window needs, in order."""
        needed = set(self._frames.ravel().tolist())
        number = first = self.span.first_frame
        for block in video.blocks(first=first):
            wanted = [place for place in range(len(block)) if number + place in needed]
            if wanted:
                pictures = self._prepare(block[wanted], [number + p - first for p in wanted], video)
                yield from zip((number + place for place in wanted), pictures)
            number += len(block)
            if max(needed) < number < self._num_frames - self._options.sampling_rate:
                return  # else to the end, where damage shows

    def _prepare(self, frames: np.ndarray, places: list[int], video: FrameReader) -> np.ndarray:
        """(n, size, size, 3) from whole frames; `places` count from the span's first frame."""
        options = self._options
        if self._plan is not None:
            matrices = self._plan.matrices[places]
            frames = np.stack(
                [
                    cut_crop(frame, matrix, self._plan.size, self._plan.border)
                    for frame, matrix in zip(frames, matrices)
                ]
            )
        frames = cut_window(frames, options.face_window, video.path)
        return resize_square(frames, options.size)


def _corners(plan: CropPlan) -> np.ndarray:
    edge = plan.size - 0.5
    corners = np.array([(-0.5, -0.5), (edge, -0.5), (edge, edge), (-0.5, edge)])
    return transform(invert(plan.matrices), corners[None]).astype(np.float32)
