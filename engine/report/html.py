"""Pieces of a self-contained HTML page: style, sections, tables and embedded pictures."""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

JPEG_QUALITY = 82

STYLE = """
:root { --ink: #1d2733; --soft: #5c6a79; --line: #dfe4ea; --accent: #0072b2; --paper: #fff;
  --ground: #f4f6f8; --warn: #fdf3ec; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { @media screen { :root { --ink: #e6ebf0; --soft: #9aa7b5;
  --line: #333d49; --accent: #56b4e9; --paper: #1b222b; --ground: #11161c; --warn: #3a2a1d; }
  img { border-radius: 6px; }
  .chart { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; } } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  overflow-wrap: anywhere;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 1rem; }
header { padding: 1rem 0 0; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
h3 { font-size: .95rem; margin: .2rem 0 .4rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.1rem; margin: .8rem 0 1rem; scroll-margin-top: 3rem; }
.cards { display: grid; gap: .8rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.2; }
.card span { color: var(--soft); font-size: .85rem; display: block; }
.caution { border-left: 4px solid #d55e00; background: var(--warn); padding: .5rem .8rem;
  margin: .6rem 0; border-radius: 0 6px 6px 0; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); align-items: start; }
.wide { grid-template-columns: 1fr; } .scroll + .figures { margin-top: 1rem; }
figure { margin: 0; min-width: 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .85rem; }
.none { border: 1px dashed var(--line); border-radius: 6px; padding: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; min-width: 4.5rem; overflow-wrap: anywhere; }
.figures th, .figures td { padding: .35rem .3rem; white-space: normal; }
th { color: var(--soft); font-weight: 600; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.facts { table-layout: fixed; } .facts td:first-child { width: 38%; color: var(--soft); }
.thumbs { display: grid; gap: .6rem; grid-template-columns: repeat(4, minmax(0, 112px)); }
.thumbs img { border-radius: 6px; width: 100%; }
nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .9rem; padding: .5rem 0;
  position: sticky; top: 0; z-index: 3; background: var(--ground); }
nav a { color: var(--accent); text-decoration: none; } nav a:hover { text-decoration: underline; }
.headline { font-size: 1.35rem; line-height: 1.35; margin: 0 0 .5rem; }
.clip summary { list-style: none; font-weight: 400; } .clip summary::-webkit-details-marker
  { display: none; } .clip summary::after { content: ""; position: absolute; top: 7px; left: 8px;
  border: solid transparent; border-width: 6px 0 6px 10px; border-left-color: #fff;
  filter: drop-shadow(0 0 2px #000); }
.clip { position: relative; } .clip[open] > img { position: absolute; z-index: 2; top: 0; left: 0;
  width: 224px; max-width: 224px; border: 2px solid var(--accent); pointer-events: none; }
.thumbs > .clip:nth-child(3n) > img, .thumbs > .clip:nth-child(4n) > img
  { left: auto; right: 0; }
.word { display: inline-block; max-width: 100%; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 480px) { main { padding: .5rem; } section { padding: .8rem; }
  nav { flex-wrap: nowrap; overflow-x: auto; white-space: nowrap; }
  .wide figure { overflow-x: auto; } .wide img { max-width: none; width: 640px; }
  table { font-size: .82rem; } th, td { padding: .3rem .35rem; white-space: normal; } }
@media print { nav, .clip > img, .clip summary::after { display: none; } body { background: #fff; }
  section { border: 0; padding: 0; } h2 { break-after: avoid; } th, td { white-space: normal; }
  figure, tr, .card, .figures > div { break-inside: avoid; } }
"""


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """A whole page that loads nothing from anywhere.

    Args:
        sections: HTML; empty ones are left out.
    """
    sections = [section for section in sections if section]
    body = "\n".join(sections)
    titles = re.findall(r'<section id="([^"]+)">\n<h2>(.*?)</h2>', body)
    links = "".join(f'<a href="#{place}">{title}</a>' for place, title in titles)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></header>\n'
        f"<nav>{links}</nav>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A titled box; nothing at all if all parts are empty."""
    inside = "\n".join(part for part in parts if part)
    place = re.sub(r"\W+", "-", title.lower())
    return (
        f'<section id="{escape(place)}">\n<h2>{escape(title)}</h2>\n{inside}\n</section>'
        if inside
        else ""
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; kind "soft" is grey, "caution" stands out, "headline" is large."""
    return f'<p class="{kind}">{_kept(text)}</p>' if kind else f"<p>{_kept(text)}</p>"


def _kept(text: str) -> str:
    """Escaped, numbers and their % in one line."""
    return escape(text).replace(" %", "\u00a0%")


def cards(items: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: (name, value, remark), plain text each."""
    inside = "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<span>{_kept(remark)}</span></div>"
        for name, value, remark in items
    )
    return f'<div class="cards">{inside}</div>' if items else ""


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | Sequence[str]]], kind: str = ""
) -> str:
    """A table of plain text that scrolls sideways on narrow screens.

    Args:
        header: titles; empty for none.
        rows: cells; a list of words (a command) is wrapped between them only.
        kind: "facts" for names and values, wrapped instead of scrolled.
    """
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def _cell(cell: str | Sequence[str]) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return " ".join(f'<span class="word">{escape(word)}</span>' for word in cell)


def fold_away(title: str, inside: str) -> str:
    """HTML that shows on a click."""
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def figures(pictures: Sequence[str], kind: str = "figures") -> str:
    """Pictures side by side where there is room; kind "figures", "figures wide" or "thumbs"."""
    inside = "".join(picture for picture in pictures if picture)
    return f'<div class="{kind}">{inside}</div>' if inside else ""


def block(title: str, inside: str) -> str:
    """HTML under a small heading of plain text."""
    return f"<div><h3>{escape(title)}</h3>{inside}</div>"


def no_picture(caption: str) -> str:
    """The place of a picture that cannot be shown, with a caption of plain text."""
    return f'<figure class="none"><figcaption>{escape(caption)}</figcaption></figure>'


def picture(data: bytes, kind: str, alt: str, caption: str = "") -> str:
    """An embedded picture.

    Args:
        data: its file's content.
        kind: "png" of a drawing, which is shown dark where pages are, or "jpeg" of a photograph.
        alt: what it shows, for those who cannot see it.
        caption: plain text below.
    """
    text = base64.b64encode(data).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    shade = ' class="chart"' if kind == "png" else ""
    image = f'<img{shade} src="data:image/{kind};base64,{text}" alt="{escape(alt)}">'
    return f"<figure>{image}{below}</figure>"


def clip(frames: np.ndarray, still_px: int, moving_px: int, alt: str, caption: str = "") -> str:
    """A frame that shows the moving clip, larger, when it is clicked.

    Args:
        frames: (n, H, W, 3) uint8 RGB.
        still_px: longest side of the frame.
        moving_px: of the clip, an animated WebP.
    """
    still = photo(frames[len(frames) // 2], still_px, alt, caption)
    images = [Image.fromarray(frame) for frame in frames]
    if len(images) == 1:
        return still
    for image in images:
        image.thumbnail((moving_px, moving_px))
    buffer = io.BytesIO()
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:], quality=55, method=2,
                   duration=120, loop=0)  # fmt: skip
    moving = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<details class="clip" name="clip"><summary>{still}</summary>'
        f'<img src="data:image/webp;base64,{moving}" alt="{escape(alt)}, moving"></details>'
    )


def photo(frame: np.ndarray | Path, max_side_px: int, alt: str, caption: str = "") -> str:
    """An embedded JPEG of a video frame or of a picture file.

    Args:
        frame: uint8 (H, W, 3) RGB, or a file.
        max_side_px: made smaller to that, never larger.
    """
    image = Image.fromarray(frame) if isinstance(frame, np.ndarray) else Image.open(frame)
    image = image.convert("RGB")
    image.thumbnail((max_side_px, max_side_px))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return picture(buffer.getvalue(), "jpeg", alt, caption)
