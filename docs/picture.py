#!/usr/bin/env python3
"""Draws docs/mistake.svg: a spec with a mistake, and what `archc check` says of it, as a terminal shows them.

    cargo build && python3 docs/picture.py target/debug/archc

Run it again where the message changes; the text is the program's own.
"""

import html
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

SPEC = "examples/mistakes/identity_head.arch"
FONT, WIDTH, LINE, PAD = 13, 7.8, 18, 16
PLAIN, DIM, PROMPT = "#d8dee9", "#8b98a9", "#8fd18f"
# the colours of SGR codes
COLOURS = {"91": "#ff7b72", "93": "#e3b341", "94": "#79b8ff", "96": "#76d7e0", "92": "#8fd18f"}


def said(archc):
    """What archc prints to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([archc, "check", SPEC], stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:
        # the end of a terminal whose program is gone
        pass
    process.wait()
    return text.decode().replace("\r\n", "\n").rstrip("\n")


def spans(line):
    """(text, colour, bold) for each stretch of a line with SGR codes."""
    colour, bold = PLAIN, False
    for at, part in enumerate(re.split(r"\x1b\[(\d+)m", line)):
        if at % 2 == 0:
            if part:
                yield part, colour, bold
        elif part == "0":
            colour, bold = PLAIN, False
        elif part == "1":
            bold = True
        else:
            colour = COLOURS.get(part, colour)


def main():
    archc = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/archc")
    os.chdir(Path(__file__).parent.parent)
    lines = [[("$ ", PROMPT, False), (f"cat {SPEC}", PLAIN, True)]]
    for line in Path(SPEC).read_text().splitlines():
        lines.append([(line, DIM if line.startswith("#") else PLAIN, False)])
    lines += [[], [("$ ", PROMPT, False), (f"archc check {SPEC}", PLAIN, True)]]
    lines += [list(spans(line)) for line in said(archc).splitlines()]
    columns = max(sum(len(text) for text, *_ in line) for line in lines)
    width, height = round(columns * WIDTH + 2 * PAD), len(lines) * LINE + 2 * PAD
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        "<title>A spec with a mistake, and what archc check says of it</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>',
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="{FONT}">',
    ]
    for row, line in enumerate(lines):
        column = 0
        for text, colour, bold in line:
            # each word at its column, as wide as its columns, whatever the font
            for word in re.finditer(r"\S+(?: \S+)*", text):
                x, length = PAD + (column + word.start()) * WIDTH, len(word.group()) * WIDTH
                weight = ' font-weight="bold"' if bold else ""
                out.append(
                    f'<text x="{x:.1f}" y="{PAD + row * LINE + FONT}" textLength="{length:.1f}" fill="{colour}"{weight}'
                    f' lengthAdjust="spacingAndGlyphs">{html.escape(word.group(), quote=False)}</text>'
                )
            column += len(text)
    Path("docs/mistake.svg").write_text("\n".join([*out, "</g>", "</svg>", ""]))


main()
