"""Reading video files with PyAV: exact frame counts and only the decoding that is needed.

All packets are read first (demuxing is cheap), which gives the number of frames, their order and
the keyframes whatever the container declares. A wanted frame is then decoded from the last
keyframe before it, leaving out packets that no other frame refers to and that nobody asked for.
Each packet carries its own number through the decoder as its time stamp, so frames are
recognised, not counted. Wherever packets and frames are not known to correspond one to one
(damaged or truncated files, codecs with hidden frames, missing time stamps), every frame is
decoded from the start and counted instead. Both ways give the same pixels.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from datasets.video.base import (
    FrameCountChangedError,
    FrameReader,
    UnreadableVideoError,
    stack_frames,
)
from datasets.video.frame_index import KnownFrames

# Codecs whose every packet is one shown frame.
ONE_FRAME_PER_PACKET = frozenset(
    ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2")
    + ("mjpeg", "flv1", "h263", "gif", "ffv1", "rawvideo")
)
# Containers whose header states a duration (others guess it from the bit rate).
DURATION_IN_HEADER = ("mov", "matroska", "avi", "flv", "asf")
# Packets of files up to this size stay in memory between scanning and decoding.
HELD_BYTES = 64 * 2**20
# A file is called truncated when more than this is missing at its end.
MISSING_SECONDS = 0.25
MISSING_FRAMES = 3
# One thread for the conversion to RGB: starting more costs as much as converting (newer PyAV).
ONE_THREAD = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


@dataclass
class PacketScan:
    """What demuxing found, by packet number in decoding order.

    Attributes:
        pts: presentation time stamps, None where the container gives none.
        keyframes: numbers of the packets decoding can start at.
        hidden: numbers of packets that are decoded but not shown (edit lists).
        damaged: a packet is incomplete, or demuxing stopped with an error.
        end: largest time stamp plus duration over the demuxed streams, seconds; None if unknown.
        held: the packets themselves, None for large files.
    """

    pts: list[int | None] = field(default_factory=list)
    keyframes: list[int] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    damaged: bool = False
    end: float | None = None
    held: list | None = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pts)

    def shown_order(self) -> list[int] | None:
        """Packet numbers in display order, or None where they cannot be relied upon."""
        shown = [number for number in range(len(self)) if number not in self.hidden]
        stamps = [self.pts[number] for number in shown]
        if not shown or self.damaged or None in self.pts or len(set(stamps)) < len(stamps):
            return None
        if self.keyframes[:1] != [0] or min(self.pts) < self.pts[0]:
            return None  # frames before the first keyframe would be dropped
        return sorted(shown, key=self.pts.__getitem__)


class PyAVReader(FrameReader):
    """Frames of a video file.

    Pixels are those of the decoder converted to RGB by libswscale. Rotation written in the file
    (phones do so) is applied in steps of 90 degrees, as OpenCV and decord do.

    Args:
        path: any file FFmpeg reads.
        known: result of an earlier count, see `FrameReader.counted`.

    Raises:
        UnreadableVideoError: not a video, no video stream, or no frame decodes.
    """

    def __init__(self, path: str, known: KnownFrames | None = None):
        self.path = str(path)
        self._known = known
        self._container = None
        try:
            self._open()
            self._survey()
        except av.error.FFmpegError as error:
            self.close()
            raise UnreadableVideoError(self.path, _reason(error)) from error
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
        self._container = av.open(self.path)
        if not self._container.streams.video:
            raise UnreadableVideoError(self.path, "the file has no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "NONE"
        self._stream.thread_count = 1
        self._codec = self._stream.codec_context

    def _survey(self) -> None:
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else None
        self._nal_length_bytes = _nal_length_bytes(self._codec)
        self._scan = self._scan_packets()
        expected = self._expected_frames()
        self._order = None
        if self._codec.name in ONE_FRAME_PER_PACKET and expected is None:
            self._order = self._scan.shown_order()
        if self._order is not None:
            self.num_frames = len(self._order)
        elif self._known is not None and self._known.size_bytes == self._container.size:
            self.num_frames, self.problem = self._known.num_frames, self._known.problem
            self._saw_damage = False
        else:
            self._count_by_decoding(expected)
        if self.num_frames == 0:
            raise UnreadableVideoError(self.path, "no frame decodes")

    def _count_by_decoding(self, expected: int | None) -> None:
        """Set the exact frame count, and the problem if frames are missing or damaged."""
        self._order = None
        self._saw_damage = False
        self.num_frames = sum(1 for _ in self._decode_all())
        if expected is not None and expected - self.num_frames >= MISSING_FRAMES:
            self.problem = f"truncated: {self.num_frames} of about {expected} frames decode"
        elif self._saw_damage or self._scan.damaged:
            self.problem = f"damaged: {self.num_frames} frames decode, some with errors"
        self.counted = KnownFrames(self._container.size or 0, self.num_frames, self.problem)

    def _scan_packets(self) -> PacketScan:
        scan = PacketScan()
        if (self._container.size or 0) > HELD_BYTES:
            scan.held = None
        # Without a duration of its own the video is compared with the longest stream's end.
        streams = [self._stream] if self._declared_seconds(own=True) else self._container.streams
        try:
            for packet in self._container.demux(list(streams)):
                if packet.size == 0:
                    continue
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    scan.end = end if scan.end is None else max(scan.end, end)
                if packet.stream.index == self._stream.index:
                    self._note_packet(scan, packet)
        except av.error.FFmpegError:
            scan.damaged = True
        return scan

    def _note_packet(self, scan: PacketScan, packet: av.Packet) -> None:
        number = len(scan)
        scan.pts.append(packet.pts)
        scan.damaged |= packet.is_corrupt
        if packet.is_keyframe:
            scan.keyframes.append(number)
        if packet.is_discard:
            scan.hidden.add(number)
        if scan.held is not None:
            packet.pts = number
            scan.held.append(packet)

    def _declared_seconds(self, own: bool = False) -> float | None:
        """Duration the header states: of the video stream alone if `own`, else of the file."""
        if not self._container.format.name.startswith(DURATION_IN_HEADER):
            return None
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        tag = next((v for k, v in self._stream.metadata.items() if k.upper() == "DURATION"), None)
        if tag is not None:
            return _clock_seconds(tag)
        if own or self._container.duration is None:
            return None
        return self._container.duration / av.time_base

    def _expected_frames(self) -> int | None:
        """Number of frames the header promises where clearly fewer are present, else None."""
        present = len(self._scan)
        if self._stream.frames:
            return self._stream.frames if present < self._stream.frames else None
        declared = self._declared_seconds()
        if declared is None or not self._scan.end or present == 0:
            return None
        start = (self._stream.start_time or 0) * float(self._stream.time_base or 0)
        covered = self._scan.end - start
        missing = declared - covered
        if covered <= 0 or missing < max(MISSING_SECONDS, MISSING_FRAMES * covered / present):
            return None
        return round(present * declared / covered)

    def _read_sorted(self, wanted: list[int]) -> np.ndarray:
        try:
            frames = self._read_by_packet(wanted) if self._order is not None else None
            if frames is None:
                frames = self._read_by_count(wanted)
        except av.error.FFmpegError as error:
            raise UnreadableVideoError(self.path, _reason(error)) from error
        return stack_frames(self.path, frames)

    def _read_by_packet(self, wanted: list[int]) -> list[np.ndarray] | None:
        """Decode from keyframes; None if the file turns out to be less regular than it seemed."""
        segments: dict[int, list[int]] = {}
        for index in wanted:
            segments.setdefault(self._start_packet(index), []).append(self._order[index])
        found: dict[int, np.ndarray] = {}
        try:
            for start, numbers in sorted(segments.items()):
                for frame in self._decode_segment(start, set(numbers)):
                    if frame.is_corrupt:
                        raise av.error.InvalidDataError(0, "damaged frame")
                    if frame.pts in numbers:
                        found[frame.pts] = self._to_rgb(frame)
        except av.error.FFmpegError:
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

    def _start_packet(self, index: int) -> int:
        """The last keyframe that is both decoded and shown no later than the frame."""
        number = self._order[index]
        keyframes = self._scan.keyframes
        position = bisect_right(keyframes, number) - 1
        while position > 0 and self._scan.pts[keyframes[position]] > self._scan.pts[number]:
            position -= 1
        return keyframes[position]

    def _decode_segment(self, start: int, numbers: set[int]) -> Iterator[av.VideoFrame]:
        last = max(numbers)
        self._codec.flush_buffers()
        for number, packet in self._packets(start):
            if number > last:
                break
            if number in numbers or not _is_disposable(packet, self._nal_length_bytes):
                yield from self._codec.decode(packet)
        yield from self._codec.decode(None)

    def _packets(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """Packets in decoding order from number `start`, with their number as time stamp."""
        if self._scan.held is not None:
            for number in range(start, len(self._scan.held)):
                yield number, self._scan.held[number]
            return
        if start == 0:
            self._open()
        else:
            self._container.seek(self._scan.pts[start], stream=self._stream)
        number = 0 if start == 0 else None  # None until seeking has led to the start packet
        for packet in self._container.demux(self._stream):
            if packet.size == 0:
                continue
            if number is None and packet.pts == self._scan.pts[start]:
                number = start
            if number is not None:
                packet.pts = number
                yield number, packet
                number += 1

    def _decode_all(self) -> Iterator[av.VideoFrame]:
        """Every frame that decodes, from the start; damaged packets are passed over."""
        if self._scan.held is not None:
            self._codec.flush_buffers()
        for _, packet in self._packets(0):
            yield from self._decode_tolerantly(packet)
        yield from self._decode_tolerantly(None)

    def _decode_tolerantly(self, packet: av.Packet | None) -> Iterator[av.VideoFrame]:
        try:
            for frame in self._codec.decode(packet):
                self._saw_damage |= frame.is_corrupt
                yield frame
        except av.error.FFmpegError:
            self._saw_damage = True

    def _read_by_count(self, wanted: list[int]) -> list[np.ndarray]:
        numbers, frames = set(wanted), []
        for index, frame in enumerate(self._decode_all()):
            if index in numbers:
                frames.append(self._to_rgb(frame))
                if len(frames) == len(wanted):
                    return frames
        raise UnreadableVideoError(
            self.path, f"decoding is not repeatable: frame {wanted[len(frames)]} was missing"
        )

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB, turned upright."""
        image = self._reformatter.reformat(frame, format="rgb24", **ONE_THREAD).to_ndarray()
        quarter_turns = getattr(frame, "rotation", 0) / 90
        if quarter_turns and quarter_turns == int(quarter_turns):
            image = np.rot90(image, int(quarter_turns))
        return image


def _reason(error: Exception) -> str:
    return f"cannot be opened or decoded ({getattr(error, 'strerror', None) or error})"


def _clock_seconds(text: str) -> float | None:
    """Seconds of a Matroska duration tag, "00:00:02.600000000"."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _nal_length_bytes(codec: av.CodecContext) -> int:
    """Size of H.264's unit length field as MP4 and Matroska store it; 0 for anything else."""
    extradata = codec.extradata or b""
    if codec.name == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    return 0


def _is_disposable(packet: av.Packet, length_bytes: int) -> bool:
    """Whether no other frame refers to this one.

    For H.264 that is: nal_ref_idc is 0 in every coded slice (unit types 1 to 5) of the packet.
    """
    if packet.is_disposable:
        return True
    if not length_bytes or packet.is_keyframe:
        return False
    data, position, slices = memoryview(packet), 0, 0
    while position + length_bytes < len(data):
        length = int.from_bytes(data[position : position + length_bytes], "big")
        header = data[position + length_bytes]
        if 1 <= header & 31 <= 5:
            slices += 1
            if header >> 5 & 3:
                return False
        position += length_bytes + length
    return slices > 0
