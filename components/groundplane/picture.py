"""Pictures as plain SVG: boxes, text and lines, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["BLUE", "GREEN", "GREY", "LINE", "SAND", "SOFT", "WHITE", "Picture"]

INK, SOFT = "#1f2933", "#66788a"
BLUE, GREEN, SAND, GREY, WHITE = "#e3eefb", "#e2f4e8", "#fdf3dc", "#f1f4f7", "#ffffff"
LINE = 17  # height of a line of text


class Picture:
    """Collects shapes; x and y are pixels from the top left corner."""

    def __init__(self, width: int, height: int, title: str):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{SOFT}"/></marker>'
            "</defs>",
            f'<rect width="{width}" height="{height}" rx="10" fill="{WHITE}"/>',
        ]

    def box(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        lines: Sequence[str] = (),
        fill: str = WHITE,
        *,
        dashed: bool = False,
        hint: str = "",
    ) -> None:
        """A box; its first line is bold. The hint shows when a pointer rests on it."""
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        shape = (
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
            f'stroke="{SOFT}"{dash}'
        )
        title = f"><title>{escape(hint)}</title></rect>" if hint else "/>"
        self.parts.append(shape + title)
        for number, line in enumerate(lines):
            self.text(x + 10, y + 20 + number * LINE, line, bold=number == 0)

    def band(self, x: int, y: int, width: int, height: int, fill: str) -> None:
        """What lies behind boxes: an area without a border."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}"/>'
        )

    def text(self, x: int, y: int, text: str, *, bold: bool = False, soft: bool = False) -> None:
        weight = ' font-weight="bold"' if bold else ""
        colour = SOFT if soft else INK
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="13" fill="{colour}"{weight}>{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[int, int]) -> None:
        """From the first point to the last, by straight lines."""
        path = " ".join(f"{x},{y}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{SOFT}" stroke-width="1.5" '
            'marker-end="url(#tip)"/>'
        )

    def __str__(self) -> str:
        return "\n".join([*self.parts, "</svg>", ""])
