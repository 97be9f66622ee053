"""`python -m svfap.engine.app CHECKPOINT`: a page on this computer that answers for videos."""

import argparse
import sys
from collections.abc import Sequence

from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import tells_user
from svfap.extras import install

WHAT_FOR = """
# What a face shows

Answers of a model for a video or the camera: per face, over time. They say how faces of the
training data that looked alike were labelled, **not what somebody feels**, and are often wrong.

**Not for inferring emotions at work or in education**, which the European Union prohibits
(Regulation (EU) 2024/1689, Article 5(1)(f)), nor for decisions about people, for their health, or
for people who have not agreed to it. Videos stay on this computer.
"""


def make_answer(predictor):
    """The function behind the page: path of a video -> words, scores by name, timeline."""
    from svfap.engine.predict.draw import timeline_figure

    def answer(path: str | None) -> tuple:
        if not path:
            return "Give a video first.", None, None
        prediction = predictor.predict(path)
        facts = prediction.facts
        if not prediction.tracks:
            found = "no face was found" if prediction.status == "no_face" else prediction.status
            return f"No answer: {found}. {facts.note}", None, None
        words = [f"{facts.num_frames} frames, {facts.times[-1]:.1f} seconds. {facts.note}"]
        for number, track in enumerate(prediction.tracks, start=1):
            what = f"face {number}" if track.span.corners is not None else "whole picture"
            said = track.label or ", ".join(f"{n} {s:.2f}" for n, s in track.answers().items())
            words.append(f"- {what}: **{said}**, {len(track.seconds)} windows")
        largest = prediction.tracks[0].answers() if predictor.task.probabilities else None
        return "\n".join(words), largest, timeline_figure(prediction)

    return answer


def build_app(predictor):
    """The page, not yet served."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError(f"the page needs gradio ({error}); {install('app')}") from error
    with gradio.Blocks(title="svfap", analytics_enabled=False) as page:
        gradio.Markdown(WHAT_FOR)
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(sources=["upload", "webcam"], label="video", height=400)
                button = gradio.Button("Answer", variant="primary")
            with gradio.Column():
                words = gradio.Markdown()
                scores = gradio.Label(label="largest face")
        timeline = gradio.Plot(label="over time", show_label=False)
        button.click(make_answer(predictor), video, [words, scores, timeline], concurrency_limit=1)
    return page


def build_parser() -> argparse.ArgumentParser:
    """Parser of `python -m svfap.engine.app`."""
    parser = argparse.ArgumentParser(prog="python -m svfap.engine.app", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="fine-tuned weights")
    parser.add_argument("--port", type=int, default=7860, help="default 7860")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--no_crop", action="store_true", help="videos are face crops already")
    return parser


@tells_user(ImportError)
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    flags = build_parser().parse_args(arguments)
    set_up_logging(True)
    from svfap.engine.predict.predictor import PredictionOptions, Predictor

    options = PredictionOptions(crop=not flags.no_crop)
    page = build_app(Predictor(flags.checkpoint, options, device=flags.device))
    page.launch(server_name="127.0.0.1", server_port=flags.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
