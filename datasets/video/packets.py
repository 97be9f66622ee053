"""What can be known of a video file's frames from its packets, without decoding them."""

from dataclasses import dataclass, field

import av
import numpy as np

# Codecs (FFmpeg's names) whose every packet is one shown frame, and that never reorder frames.
IN_ORDER = frozenset(
    ("mjpeg", "gif", "ffv1", "rawvideo", "flv1", "h263", "wmv1", "wmv2")
    + ("msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "huffyuv", "ffvhuff", "prores", "dnxhd", "dvvideo")
)
# Codecs whose every packet is one shown frame, but whose frames may be stored in another order.
REORDERED = frozenset(("h264", "hevc", "mpeg1video", "mpeg2video"))
# Codecs that say themselves whether frames are reordered.
SAYS_IF_REORDERED = frozenset(("h264", "hevc"))
# Containers that store when each frame is shown. AVI and ASF store when it is decoded.
WITH_DISPLAY_TIMES = ("mov", "matroska", "flv", "mpegts", "mpeg")
# More than the places a frame can move between decoding and showing in any codec.
FARTHEST_MOVE = 32
# More frames per second than any camera of faces takes: not believed.
HIGHEST_RATE = 500.0


@dataclass
class PacketScan:
    """What demuxing found, by packet number in decoding order.

    Attributes:
        pts: presentation time stamps, None where the container gives none.
        keyframes: numbers of the packets decoding can start at.
        hidden: numbers of packets that are decoded but not shown (edit lists, VP8's references).
        end: largest time stamp plus duration over the demuxed streams, seconds; None if unknown.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)  # decoding time stamps, or None
    keyframes: list[int] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    empty: int = 0  # number of packets without contents (AVI repeats a frame so)
    damaged: bool = False  # a packet is incomplete, or demuxing stopped with an error
    end: float | None = None
    held: list | None = field(default_factory=list)  # the packets themselves, None for large files
    display_times: bool = True  # the container stores when frames are shown, not only when decoded

    def __len__(self) -> int:
        return len(self.pts)

    def note(self, packet: av.Packet, codec: str) -> None:
        """Add the next packet of the stream; a held one carries its number as time stamp."""
        number = len(self)
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.damaged |= packet.is_corrupt
        if packet.is_keyframe:
            self.keyframes.append(number)
        if packet.is_discard or (codec == "vp8" and not memoryview(packet)[0] >> 4 & 1):
            self.hidden.add(number)
        if self.held is not None:
            packet.pts = number
            self.held.append(packet)

    def shown(self) -> list[int]:
        """Numbers of the packets that are shown, in decoding order."""
        return [number for number in range(len(self)) if number not in self.hidden]

    def shown_order(self, codec: str, *, reordered: bool) -> list[int] | None:
        """Packet numbers in display order, or None where they cannot be relied upon."""
        shown = self.shown()
        if not shown or self.damaged or self.keyframes[:1] != [0]:
            return None
        if codec in IN_ORDER:
            return shown
        if codec not in REORDERED or not self.display_times:
            return None
        stamps = [self.pts[number] for number in shown]
        if None in self.pts or len(set(stamps)) < len(stamps) or min(self.pts) < self.pts[0]:
            return None  # frames before the first keyframe would be dropped
        order = sorted(shown, key=self.pts.__getitem__)
        if codec in SAYS_IF_REORDERED and reordered and order == shown:
            return None  # the times are those of decoding
        moved = max(abs(place - number) for place, number in zip(order, shown))
        return order if moved <= FARTHEST_MOVE else None  # else time jumps back

    def stamps_of(self, numbers: list[int | None]) -> np.ndarray | None:
        """Time stamps of shown packets, strictly ascending; None where they make no sense.

        Where a container stores decoding times only, those of all frames together are right.
        """
        for stamps in (self.pts, self.dts)[:: 1 if self.display_times else -1]:
            found = [None if number is None else stamps[number] for number in numbers]
            if found and None not in found:
                ascending = np.sort(np.array(found, np.int64))
                order = np.argsort(np.array(found, np.int64), kind="stable")
                moved = np.abs(order - np.arange(len(order))).max()
                even = moved <= FARTHEST_MOVE and (np.diff(ascending) > 0).all()
                return ascending if even else None
        return None

    def stamps_are_places(self) -> bool:
        """Whether a packet can be found by its presentation time stamp."""
        return None not in self.pts and len(set(self.pts)) == len(self)


def frame_rate(
    declared: list[float], stamps: np.ndarray | None, tick_seconds: float
) -> tuple[float | None, str | None]:
    """Frames per second, by the time stamps wherever there are any.

    Headers of browser recordings and the like name the resolution of their clock (1000 per
    second) or a wish; a declared rate is kept where the time stamps bear it out.

    Args:
        declared: what the header says, in one way or another.
        stamps: (n,) time stamps of the frames, ascending; None if there are none.

    Returns:
        The rate, None where there is no credible one, and what is odd about it.
    """
    steps = 0 if stamps is None else len(stamps) - 1
    seconds = float(stamps[-1] - stamps[0]) * tick_seconds if steps > 0 else 0.0
    rate, remark = declared[0] if declared else None, None
    if seconds > 0:
        rate = min(declared, key=lambda r: abs(steps / r - seconds), default=steps / seconds)
        if abs(steps / rate - seconds) > 1.5 / rate:
            said, rate = rate, steps / seconds
            if not 0.4 < said / rate < 2.1:  # twice: fields of interlaced video
                remark = (
                    f"its header says {said:g} frames per second, its time stamps {rate:.4g}: "
                    "the time stamps are used"
                )
    if rate is not None and rate > HIGHEST_RATE:
        return None, f"{rate:g} frames per second are not credible and not used"
    return rate, remark


def has_display_times(container: str, codec_tag: str) -> bool:
    """Whether a container stores when frames are shown.

    Args:
        container: FFmpeg's name of the format.
        codec_tag: of the stream; Matroska has one in its compatibility mode only, with AVI's times.
    """
    compatible = container.startswith("matroska") and codec_tag.strip("\0 ")
    return container.startswith(WITH_DISPLAY_TIMES) and not compatible


def nal_length_bytes(codec: av.CodecContext) -> int:
    """Size of H.264's unit length field as MP4 and Matroska store it; 0 for anything else."""
    extradata = codec.extradata or b""
    if codec.name == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    return 0


def is_disposable(packet: av.Packet, length_bytes: int) -> bool:
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
