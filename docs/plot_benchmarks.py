#!/usr/bin/env python3
"""Draws docs/benchmarks.svg from docs/benchmarks-history.csv. Needs Python 3 and nothing else.

Absolute figures move with the machine, so it draws dirsyncd's speed as a share of rsync's in the
same run, in the order in which the runs were recorded.
"""
import csv
import os

HERE = os.path.dirname(os.path.abspath(__file__))
# Workload, figure, the goal as a share of rsync's speed, and whether less is better.
PANELS = [
    ("cold_small", "files a second", 0.5, False),
    ("cold_big 512 MiB", "rate", 0.9, False),
    ("real", "time", 0.5, True),
]
WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 130, 50, 30, 62


def shares(rows, workload, figure, less_is_better):
    """(date, machine, share) of each run in which both were measured."""
    runs = {}
    for row in rows:
        if (row["workload"], row["figure"]) == (workload, figure):
            run = (row["date"], row["recorded_by"], row["machine"], row["runs"], row["note"])
            runs.setdefault(run, {})[row["system"]] = float(row["value"])
    for run, seen in runs.items():
        if "dirsyncd" in seen and "rsync" in seen:
            share = seen["dirsyncd"] / seen["rsync"]
            yield run[0], run[2], 1 / share if less_is_better else share


def text(x, y, words, anchor="start", size=11):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def panel(top, title, goal, points):
    most = max([1.0, goal] + [share for _, _, share in points]) * 1.1
    y = lambda share: top + HEIGHT * (1 - share / most)
    step = (WIDTH - LEFT - 30) / max(1, len(points) - 1)
    x = lambda n: LEFT + 10 + step * n
    out = [text(LEFT, top - 8, title, size=13)]
    out.append(text(WIDTH - 10, y(1.0) - 3, "rsync", "end", 9))
    out.append(text(LEFT - 4, y(goal) + 4, f"goal {goal}", "end", 9))
    for share, dashes in [(goal, "5 4"), (1.0, "1 3")]:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(share):.1f}" y2="{y(share):.1f}" '
                   f'stroke="#888" stroke-dasharray="{dashes}"/>')
    line = " ".join(f"{x(n):.1f},{y(share):.1f}" for n, (_, _, share) in enumerate(points))
    out.append(f'<polyline points="{line}" fill="none" stroke="#2060a0" stroke-width="1.5"/>')
    last = None
    for n, (date, machine, share) in enumerate(points):
        out.append(f'<circle cx="{x(n):.1f}" cy="{y(share):.1f}" r="3" fill="#2060a0"/>')
        out.append(text(x(n), y(share) - 7, f"{share:.2f}", "middle", 9))
        if (date, machine) != last:
            out.append(text(x(n), top + HEIGHT + 14, f"{date[5:]} {machine}", "middle", 9))
        last = (date, machine)
    return out


def main():
    with open(os.path.join(HERE, "benchmarks-history.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    out, top = [], TOP
    for workload, figure, goal, less_is_better in PANELS:
        points = list(shares(rows, workload, figure, less_is_better))
        out += panel(top, f"{workload}: speed as a share of rsync's in the same run", goal, points)
        top += HEIGHT + GAP
    size = f'width="{WIDTH}" height="{top - 30}" viewBox="0 0 {WIDTH} {top - 30}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    with open(os.path.join(HERE, "benchmarks.svg"), "w") as file:
        file.write("\n".join([head, paper, *out, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
