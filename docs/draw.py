"""`python docs/draw.py > docs/architecture.svg` draws docs/architecture.toml."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("architecture.toml")

MARGIN, PADDING, TITLE = 16, 14, 28
BOX_WIDTH, BOX_GAP = 178, 26
LINE, BOX_PADDING = 17, 10
ROW_GAP, LANE_GAP = 44, 34

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
width="{width}" height="{height}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">
<title>{title}</title>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#444"/></marker></defs>
<rect width="{width}" height="{height}" fill="white"/>"""


@dataclass(frozen=True)
class Frame:
    """A rectangle of the picture: a box or a lane."""

    x: int
    y: int
    width: int
    height: int

    @property
    def center(self) -> int:
        return self.x + self.width // 2

    @property
    def bottom(self) -> int:
        return self.y + self.height

    def svg(self, fill: str, stroke: str) -> str:
        return (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" '
            f'rx="6" fill="{fill}" stroke="{stroke}"/>'
        )


def text(x: int, y: int, words: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


def box(frame: Frame, title: str, lines: list[str]) -> list[str]:
    """Return a box with its title in bold and its lines below."""
    y = frame.y + BOX_PADDING + LINE - 4
    middle = 'font-size="13" text-anchor="middle"'
    drawn = [
        frame.svg("white", "#777"),
        text(frame.center, y, title, f'{middle} font-weight="bold"'),
    ]
    for number, line in enumerate(lines, 1):
        drawn.append(text(frame.center, y + number * LINE, line, f'{middle} fill="#333"'))
    return drawn


def arrow(start: Frame, end: Frame, label: str, lanes: list[Frame]) -> list[str]:
    """Return an arrow: straight within a row, else by way of the gap before the target."""
    if start.y == end.y:
        points = [(start.x + start.width, start.y + start.height // 2)]
        points.append((end.x, points[0][1]))
    else:
        down = start.y < end.y
        first = start.bottom if down else start.y
        last = end.y if down else end.bottom
        # A lane is met, or left, at the column of the box at the other end.
        from_x = end.center if start in lanes else start.center
        to_x = start.center if end in lanes else end.center
        points = [(from_x, first), (to_x, last)]
        if from_x != to_x:
            turn = (first + last) // 2
            points[1:1] = [(from_x, turn), (to_x, turn)]
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    drawn = [f'<path d="{path}" fill="none" stroke="#444" marker-end="url(#head)"/>']
    if label:
        (x, y), (_, other) = points[0], points[-1]
        drawn.append(text(x + 8, (y + other) // 2 + 4, label, 'font-size="12" fill="#333"'))
    return drawn


def draw(source: dict[str, Any]) -> str:
    """Return the picture that `source` describes, as SVG."""
    frames: dict[str, Frame] = {}
    lanes, boxes = [], []
    columns = max(len(row) for lane in source["lanes"] for row in lane["rows"])
    inner = columns * BOX_WIDTH + (columns - 1) * BOX_GAP
    y = MARGIN
    for lane in source["lanes"]:
        top, y = y, y + TITLE
        for number, row in enumerate(lane["rows"]):
            y += ROW_GAP if number else 0
            height = 2 * BOX_PADDING + LINE * max(len(cell) - 1 for cell in row)
            for column, (name, title, *lines) in enumerate(row):
                x = MARGIN + PADDING + column * (BOX_WIDTH + BOX_GAP)
                frames[name] = Frame(x, y, BOX_WIDTH, height)
                boxes += box(frames[name], title, lines)
            y += height
        y += PADDING
        frames[lane["id"]] = Frame(MARGIN, top, inner + 2 * PADDING, y - top)
        lanes.append(frames[lane["id"]].svg(lane["color"], "#bbb"))
        style = 'font-size="14" font-weight="bold" fill="#222"'
        lanes.append(text(MARGIN + PADDING, top + 19, lane["title"], style))
        y += LANE_GAP
    size = {"width": inner + 2 * (MARGIN + PADDING), "height": y - LANE_GAP + MARGIN}
    wide = [frames[lane["id"]] for lane in source["lanes"]]
    arrows = [
        part
        for start, end, label in source["arrows"]
        for part in arrow(frames[start], frames[end], label, wide)
    ]
    head = HEAD.format(title="Architecture", **size)
    return "\n".join([head, *lanes, *arrows, *boxes, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(draw(tomllib.loads(SOURCE.read_text(encoding="utf-8"))))
