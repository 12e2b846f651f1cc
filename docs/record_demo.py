#!/usr/bin/env python3
"""Records `dirsync demo` as docs/images/demo.svg, which moves in a browser. Needs Python 3 alone.

    cargo build --release && python3 docs/record_demo.py target/release/dirsync

Each line appears when it was printed; the pauses between the steps are shortened.
"""
import html
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS, ROWS, CHARACTER, LINE, EDGE = 100, 26, 7.25, 17, 14
# Time to read a line, and at the end (s).
READ, REST = 0.35, 6.0


def record(program):
    """(seconds, line) of each line."""
    began, lines = time.monotonic(), []
    with subprocess.Popen([program, "demo", "--quick"], stdout=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout:
            # Where it lies says nothing to a reader.
            line = re.sub(r"/\S*/dirsync-demo-\w+", "/tmp/dirsync-demo", line.rstrip("\n"))
            lines.append((time.monotonic() - began, line))
    if demo.returncode != 0:
        sys.exit(f"the demo failed: {lines[-1:]}")
    return lines


def wrapped(lines):
    for at, line in lines:
        while len(line) > COLUMNS:
            cut = line.rfind(" ", 1, COLUMNS) if " " in line[1:COLUMNS] else COLUMNS
            yield at, line[:cut]
            line = "      " + line[cut:].lstrip()
        yield at, line


def kind(line):
    if re.match(r"\d+\. ", line):
        return "step"
    if line.startswith("  $ "):
        return "typed"
    return "shown" if line.startswith("    ") else "said"


def draw(lines):
    # As fast as it was, but never faster than it can be read.
    shown, clock, before = [], 0.0, 0.0
    for at, line in wrapped(lines):
        clock += max(min(at - before, 1.5), READ)
        before = at
        shown.append((clock, line))
    total = clock + REST
    width, height = round(COLUMNS * CHARACTER + 2 * EDGE), ROWS * LINE + 2 * EDGE
    rules, texts, scroll = [], [], ["0%{transform:translateY(0)}"]
    for n, (at, line) in enumerate(shown):
        percent = at / total * 100
        rules.append(f"@keyframes l{n}{{0%,{percent:.2f}%{{opacity:0}}{percent + 0.01:.2f}%,100%{{opacity:1}}}}"
                     f"#l{n}{{animation:l{n} {total:.1f}s linear infinite}}")
        texts.append(f'<text id="l{n}" class="{kind(line)}" x="0" y="{(n + 1) * LINE - 4}" xml:space="preserve">'
                     f"{html.escape(line)}</text>")
        hidden = max(0, n + 1 - ROWS) * LINE
        if hidden:
            scroll.append(f"{percent - 0.01:.2f}%{{transform:translateY(-{hidden - LINE}px)}}"
                          f"{percent:.2f}%{{transform:translateY(-{hidden}px)}}")
    last = max(0, len(shown) - ROWS) * LINE
    scroll.append(f"100%{{transform:translateY(-{last}px)}}")
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>dirsync demo, as it was printed</title>
<style>
text{{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#c9d1d9}}
.step{{fill:#fff;font-weight:bold}}.typed{{fill:#7ee787}}.shown{{fill:#8b949e}}
{"".join(rules)}
@keyframes scroll{{{"".join(scroll)}}}
#all{{animation:scroll {total:.1f}s linear infinite}}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<svg x="{EDGE}" y="{EDGE}" width="{width - 2 * EDGE}" height="{ROWS * LINE}"><g id="all">
{chr(10).join(texts)}
</g></svg>
</svg>
"""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(os.path.join(HERE, "images", "demo.svg"), "w", encoding="utf-8") as out:
        out.write(draw(record(sys.argv[1])))
