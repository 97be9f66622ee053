"""Reading video files with PyAV: exact frame counts and only the decoding that is needed.

All packets are read first (demuxing is cheap), which gives the number of frames, their order and
the keyframes whatever the container declares. A wanted frame is then decoded from the last
keyframe before it, leaving out packets that no other frame refers to and that nobody asked for.
Each packet carries its own number through the decoder as its time stamp, so frames are
recognised, not counted. Wherever packets and frames are not known to correspond one to one
(damaged or truncated files, codecs with hidden frames, containers that do not store when a frame
is shown, packed bitstreams), every frame is decoded from the start and counted instead. Both ways
give the same pixels.
"""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from svfap.datasets.files import utf8_path
from svfap.datasets.video.base import (
    FrameCountChangedError,
    FrameReader,
    UnreadableVideoError,
    stack_frames,
)
from svfap.datasets.video.frame_index import KnownFrames
from svfap.datasets.video.packets import (
    IN_ORDER,
    PacketScan,
    frame_rate,
    has_display_times,
    is_disposable,
    nal_length_bytes,
)
from svfap.datasets.video.promised import MISSING_FRAMES, declared_seconds, expected_frames
from svfap.datasets.video.upright import frame_turn

# Packets of files up to this size stay in memory between scanning and decoding.
HELD_BYTES = 64 * 2**20
# Titles in Latin-1 and the like must not make a file unreadable; from PyAV 19 on they do not.
TOLERANT = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class PyAVReader(FrameReader):
    """Frames of a video file.

    Pixels are those of the decoder converted to RGB by libswscale, by the colour matrix and range
    the file states. Quarter turns and mirrors written in the file (phones do so) are applied.
    Of several video streams the first that is no cover picture is read.

    Args:
        known: result of an earlier count, see `FrameReader.counted`.

    Raises:
        UnreadableVideoError: not a video, no video stream, or no frame decodes.
    """

    def __init__(self, path: str, known: KnownFrames | None = None):
        self.path = str(path)
        self._known = known
        self._container = None
        self._stream_index: int | None = None
        try:
            self._open()
            self._survey()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file and the decoder."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self._scan = None

    def _open(self) -> None:
        self._reformatter = VideoReformatter()
        if self._container is not None:
            self._container.close()
        self._container = self._open_container()
        if self._stream_index is None:
            self._stream_index = self._choose_stream()
        self._stream = self._container.streams[self._stream_index]
        self._stream.thread_type = "NONE"
        self._stream.thread_count = 1
        self._codec = self._stream.codec_context
        self._used = False

    def _open_container(self) -> av.container.InputContainer:
        with utf8_path(self.path) as name:
            return av.open(name, **TOLERANT)

    def _choose_stream(self) -> int:
        """The first stream of moving pictures; the first of all where none moves."""
        streams = self._container.streams.video
        if not streams:
            raise UnreadableVideoError(self.path, "the file has no video stream")
        streams = [stream for stream in streams if stream.codec_context is not None]
        if not streams:
            raise UnreadableVideoError(
                self.path,
                "its kind of video is unknown: the file is cut off, or has no decoder here",
            )
        if len(streams) == 1:
            return streams[0].index
        counts = dict.fromkeys((stream.index for stream in streams), 0)
        with suppress(av.error.FFmpegError):  # the survey meets it again
            for packet in self._container.demux(streams):
                counts[packet.stream.index] += packet.size > 0
                if counts[packet.stream.index] > 1 and not _is_cover(packet.stream):
                    break
        chosen = max(streams, key=lambda s: (counts[s.index] > 1, not _is_cover(s), -s.index)).index
        self._container.close()
        self._container = self._open_container()
        return chosen

    def _survey(self) -> None:
        self._codec_name = self._codec.codec.canonical_name
        self._nal_length_bytes = nal_length_bytes(self._codec)
        self._scan = self._scan_packets()
        self._shown: list[int | None] | None = None  # packets of the frames, once counted
        declared = (self._stream.average_rate, self._stream.guessed_rate)
        self.fps, self.remark = frame_rate(
            [float(rate) for rate in declared if rate],
            self._scan.stamps_of(self._scan.shown()),
            float(self._stream.time_base or 0),
        )
        expected = expected_frames(self._container, self._stream, self._scan)
        self._order = None
        pixels = self._codec.format
        palette = pixels is not None and pixels.has_palette  # comes with some packets only
        if expected is None and not palette:
            reordered = bool(self._codec.has_b_frames)
            self._order = self._scan.shown_order(self._codec_name, reordered=reordered)
        if self._order is not None:
            self.num_frames = len(self._order)
        elif self._known is not None and self._known.size_bytes == self._container.size:
            self.num_frames, self.problem = self._known.num_frames, self._known.problem
        else:
            self._count_by_decoding(expected)
        if self.num_frames == 0:
            raise UnreadableVideoError(self.path, "no frame decodes")

    def _count_by_decoding(self, expected: int | None) -> None:
        """Set the exact frame count, and the problem if frames are missing or damaged."""
        for _ in self._decode_all(expected):
            pass

    def _scan_packets(self) -> PacketScan:
        format_name, tag = self._container.format.name, self._codec.codec_tag
        scan = PacketScan(display_times=has_display_times(format_name, tag))
        if (self._container.size or 0) > HELD_BYTES:
            scan.held = None
        # Without a duration of its own the video is compared with the longest stream's end.
        own = declared_seconds(self._container, self._stream, own=True)
        streams = [self._stream] if own is not None else self._container.streams
        try:
            for packet in self._container.demux(list(streams)):
                if packet.size == 0:
                    ours = packet.stream.index == self._stream_index
                    scan.empty += ours and packet.dts is not None
                    continue
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    scan.end = end if scan.end is None else max(scan.end, end)
                if packet.stream.index == self._stream_index:
                    scan.note(packet, self._codec_name)
        except av.error.FFmpegError:
            scan.damaged = True
        return scan

    def times(self) -> np.ndarray | None:
        """Seconds of each frame from the first one, by the file's time stamps."""
        if self.fps is None:
            return None
        numbers = self._order if self._order is not None else self._packets_of_frames()
        stamps = self._scan.stamps_of(numbers)
        if stamps is None or len(stamps) != self.num_frames:
            return super().times()
        return (stamps - stamps[0]) * float(self._stream.time_base)

    def _packets_of_frames(self) -> list[int | None]:
        """Number of the packet each frame came with."""
        if self._shown is None:
            shown = self._scan.shown()
            if len(shown) == self.num_frames:
                return shown
            self._count_by_decoding(self.num_frames)
        return self._shown

    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        frames = self._read_by_packet(wanted) if self._order is not None else None
        if frames is None:
            frames = self._read_by_count(wanted)
        return stack_frames(self.path, frames)

    def _in_order(self, wanted: range) -> Iterator[np.ndarray]:
        for number, frame in enumerate(self._decode_all(self.num_frames)):
            if number >= wanted.start and (number - wanted.start) % wanted.step == 0:
                yield self._to_rgb(frame)

    def _read_by_packet(self, wanted: list[int]) -> list[np.ndarray] | None:
        """Decode from keyframes; None if the file turns out to be less regular than it seemed."""
        found: dict[int, np.ndarray] = {}
        try:
            for start, numbers in self._segments(wanted):
                found |= self._decode_segment(start, numbers)
        except (av.error.FFmpegError, _IrregularError):
            found.clear()
        if len(found) == len(wanted):
            return [found[self._order[index]] for index in wanted]
        promised = self.num_frames
        self._count_by_decoding(promised)
        if wanted[-1] >= self.num_frames:
            raise FrameCountChangedError(
                self.path, f"{self.num_frames} of {promised} promised frames decode"
            )
        return None

    def _segments(self, wanted: list[int]) -> list[tuple[int, set[int]]]:
        """Keyframes to start at, and the packets wanted from there; what adjoins is one segment."""
        by_start: dict[int, set[int]] = {}
        for index in wanted:
            by_start.setdefault(self._start_packet(index), set()).add(self._order[index])
        segments: list[tuple[int, set[int]]] = []
        for start, numbers in sorted(by_start.items()):
            if segments and start == max(segments[-1][1]) + 1:
                segments[-1][1].update(numbers)
            else:
                segments.append((start, numbers))
        return segments

    def _start_packet(self, index: int) -> int:
        """The last keyframe that is both decoded and shown no later than the frame."""
        number = self._order[index]
        keyframes = self._scan.keyframes
        position = bisect_right(keyframes, number) - 1
        if self._codec_name in IN_ORDER:
            return keyframes[position]
        while position > 0 and self._scan.pts[keyframes[position]] > self._scan.pts[number]:
            position -= 1
        return keyframes[position]

    def _decode_segment(self, start: int, wanted: set[int]) -> dict[int, np.ndarray]:
        """RGB pictures of wanted packets, decoded from a keyframe on."""
        place = {number: place for place, number in enumerate(self._order)}
        found, last_place = {}, -1
        expected = set()
        for number, frame in self._fed_from(start, wanted, expected):
            if frame.is_corrupt or place.get(number, -1) <= last_place:
                raise _IrregularError
            if number == start and frame.pict_type in (PictureType.P, PictureType.B):
                raise _IrregularError  # the container calls every frame a keyframe
            last_place = place[number]
            expected.discard(number)
            if number in wanted:
                found[number] = self._to_rgb(frame)
        if any(place[number] >= place.get(start, 0) for number in expected):
            raise _IrregularError  # a frame is made of several packets, or of none
        return found

    def _fed_from(self, start: int, wanted: set[int], expected: set[int]) -> Iterator[tuple]:
        """(packet number, frame) as they come; `expected` gets what was fed and is to be shown."""
        last = max(wanted)
        self._codec.flush_buffers()
        self._used = True
        for number, packet in self._packets(start):
            if number > last:
                break
            if number in wanted or not is_disposable(packet, self._nal_length_bytes):
                if number not in self._scan.hidden:
                    expected.add(number)
                for frame in self._codec.decode(packet):
                    yield frame.pts, frame
        for frame in self._codec.decode(None):
            yield frame.pts, frame

    def _packets(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """Packets in decoding order from number `start`, with their number as time stamp."""
        if self._scan.held is not None:
            for number in range(start, len(self._scan.held)):
                yield number, self._scan.held[number]
            return
        stamp = self._scan.pts[start] if start and self._scan.stamps_are_places() else None
        if stamp is None:
            self._open()
        else:
            self._container.seek(stamp, stream=self._stream)
        number = 0 if stamp is None else None  # None until seeking has led to the start packet
        for packet in self._container.demux(self._stream):
            if packet.size == 0:
                continue
            if number is None and packet.pts == stamp:
                number = start
            if number is not None:
                if number >= start:
                    packet.pts = number
                    yield number, packet
                number += 1

    def _decode_all(self, expected: int | None) -> Iterator[av.VideoFrame]:
        """Every frame that decodes, from the start; damaged packets are passed over.

        After the last one `num_frames`, `problem` and `times` are exact.
        """
        self._saw_damage, shown = self._scan.damaged, []
        if self._used and self._scan.held is not None:
            self._open()  # flushed decoders remember some of what they saw before damage
        self._used = True
        for _, packet in self._packets(0):
            for frame in self._decode_tolerantly(packet):
                shown.append(frame.pts)
                yield frame
        for frame in self._decode_tolerantly(None):
            shown.append(frame.pts)
            yield frame
        self._settle(shown, expected)

    def _decode_tolerantly(self, packet: av.Packet | None) -> Iterator[av.VideoFrame]:
        try:
            for frame in self._codec.decode(packet):
                self._saw_damage |= frame.is_corrupt
                yield frame
        except av.error.FFmpegError:
            self._saw_damage = True

    def _settle(self, shown: list[int | None], expected: int | None) -> None:
        """Note what decoding everything has shown."""
        if not shown:
            raise UnreadableVideoError(self.path, "no frame decodes")
        if expected is not None and expected - len(shown) >= MISSING_FRAMES:
            self.problem = f"truncated: {len(shown)} of about {expected} frames decode"
        elif self._saw_damage and self.problem is None:
            self.problem = f"damaged: {len(shown)} frames decode, some with errors"
        self.num_frames, self._shown = len(shown), shown
        if self._saw_damage or shown != self._order:
            self._order = None
            self.counted = KnownFrames(self._container.size or 0, self.num_frames, self.problem)

    def _read_by_count(self, wanted: list[int]) -> list[np.ndarray]:
        numbers, frames, promised = set(wanted), [], self.num_frames
        for index, frame in enumerate(self._decode_all(promised)):
            if index in numbers:
                frames.append(self._to_rgb(frame))
                if len(frames) == len(wanted):
                    return frames
        raise FrameCountChangedError(
            self.path, f"{self.num_frames} of {promised} promised frames decode"
        )

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB, turned upright."""
        # One thread: starting more costs as much as converting.
        image = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return frame_turn(frame)(image)


class _IrregularError(Exception):
    """Frames do not come as the packets promise."""


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
