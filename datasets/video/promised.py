"""What a video file's header promises, to notice that the end is missing."""

import av

from svfap.datasets.video.packets import PacketScan

# Containers whose header states a duration (others guess it from the bit rate).
DURATION_IN_HEADER = ("mov", "matroska", "avi", "flv", "asf")
# A file is called truncated when more than this is missing at its end.
MISSING_SECONDS = 0.25
MISSING_FRAMES = 3


def expected_frames(
    container: av.container.InputContainer, stream: av.VideoStream, scan: PacketScan
) -> int | None:
    """Number of frames the header promises where clearly fewer are present, else None."""
    present, promised = len(scan), stream.frames
    if promised:
        if container.format.name.startswith("mov"):
            promised = len(stream.index_entries)  # what edit lists leave of the samples
        return promised if present + scan.empty < promised else None
    declared = declared_seconds(container, stream)
    if declared is None or not scan.end or present == 0:
        return None
    covered = scan.end - (stream.start_time or 0) * float(stream.time_base or 0)
    missing = declared - covered
    if covered <= 0 or missing < max(MISSING_SECONDS, MISSING_FRAMES * covered / present):
        return None
    return round(present * declared / covered)


def declared_seconds(
    container: av.container.InputContainer, stream: av.VideoStream, own: bool = False
) -> float | None:
    """Duration the header states: of the video stream alone if `own`, else of the file."""
    if not container.format.name.startswith(DURATION_IN_HEADER):
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = next((v for k, v in stream.metadata.items() if k.upper() == "DURATION"), None)
    if tag is not None:
        return _clock_seconds(tag)
    if own or container.duration is None:
        return None
    return container.duration / av.time_base


def _clock_seconds(text: str) -> float | None:
    """Seconds of a Matroska duration tag, "00:00:02.600000000"."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
