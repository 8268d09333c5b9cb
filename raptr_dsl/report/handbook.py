"""A library as pages: what each schedule is, its parameters, what it costs, how it looks along the run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from raptr_dsl.api import Options, check_file
from raptr_dsl.compiler.identity import identity_of
from raptr_dsl.compiler.resolve import Unit, resolve
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.plan import Plan
from raptr_dsl.library.manifest import Manifest
from raptr_dsl.report.layout import thinned_axes
from raptr_dsl.report.summary import percent, speed_up
from raptr_dsl.report.svg import svg
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.format import format_value
from raptr_dsl.syntax.parser import parse

HEADINGS = ("parameter", "type", "values", "default")
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto } svg { max-width: 100%; height: auto }
td, th { text-align: left; padding: .2rem 1rem .2rem 0 } .quiet { color: #777; overflow-wrap: anywhere }"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One schedule of a library.

    Attributes:
        parameters: rows of `HEADINGS`. identity: of the schedule, see `compiler.identity`.
        plan: what it comes to for the model at hand; None, and `reason`, where it does not fit that.
    """

    name: str
    doc: str
    text: str
    identity: str
    parameters: tuple[tuple[str, str, str, str], ...]
    plan: Plan | None
    reason: str

    @property
    def costs(self) -> str:
        """The price of the plan in a sentence."""
        if self.plan is None:
            return self.reason
        report, shape = self.plan.flops(), self.plan.shape
        return (
            f"{percent(report.ratio_blocks)} of the block FLOPs of full training ({speed_up(report.ratio_blocks)}), "
            f"{percent(report.ratio_total)} with the head, for {shape.layers} blocks of {shape.hidden} "
            f"and {self.plan.steps:,} steps"
        )


def entries(folder: Path, manifest: Manifest, options: Options) -> Iterator[Entry]:
    """The exported schedules of the library in a folder, each compiled for one model and horizon.

    Raises:
        RaptrError: one of them cannot be read or has syntax errors.
    """
    for name in manifest.exports:
        path = folder / f"{name}.raptr"
        diagnostics = Diagnostics()
        source = load_source(path, diagnostics)
        diagnostics.raise_errors()
        assert source, "what cannot be read is an error"
        unit = resolve(parse(source, diagnostics), False, load_source, diagnostics)
        diagnostics.raise_errors()
        compilation = check_file(path, options, complete=True)
        reasons = [item.message for item in compilation.diagnostics if item.severity == "error"]
        yield Entry(
            name,
            doc_of(source, diagnostics),
            source.text,
            identity_of(unit),
            tuple(parameters_of(unit)),
            compilation.plan,
            f"not for this model: {reasons[0]}" if reasons else "",
        )


def doc_of(source: Source, diagnostics: Diagnostics) -> str:
    """What a schedule says of itself, on one line."""
    docs = [item.text.value for item in parse(source, diagnostics).statements if isinstance(item, ast.Doc)]
    return " ".join(docs[0].split()) if docs else ""


def parameters_of(unit: Unit) -> Iterator[tuple[str, str, str, str]]:
    for param in unit.file.statements:
        if isinstance(param, ast.Param):
            bounds = f"{format_value(param.bounds.start)} .. {format_value(param.bounds.stop)}" if param.bounds else ""
            default = format_value(param.default) if param.default else "has to be given"
            yield param.name.text, format_value(param.type), bounds, default


def markdown(manifest: Manifest, found: Iterable[Entry], pictures: str) -> str:
    """The library as Markdown; the picture of a schedule is the file NAME.svg in the folder `pictures`."""
    lines = [f"# {manifest.name} {manifest.version}", "", manifest.description, "", f"Licence: {manifest.licence}.", ""]
    for entry in found:
        lines += [f"## {entry.name}", "", entry.doc.replace("<", "&lt;"), ""]
        if entry.parameters:
            lines += [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
            lines += [f"| {' | '.join(f'`{cell}`' if cell else '' for cell in row)} |" for row in entry.parameters]
            lines.append("")
        lines += [f"{entry.costs}.", ""]
        if entry.plan:
            lines += [f"![{entry.name} along the run]({pictures}/{picture_name(entry)})", ""]
        lines += [f"`use {manifest.name}/{entry.name}` · identity `{entry.identity}`", ""]
        fence = "`" * max(3, 1 + max((len(run) for run in entry.text.split("\n") if set(run) == {"`"}), default=0))
        lines += [f"{fence}raptr", entry.text.rstrip(), fence, ""]
    return "\n".join(lines)


def picture_name(entry: Entry) -> str:
    return f"{entry.name.replace('/', '-')}.svg"


def picture(entry: Entry) -> str:
    """The timeline and masks of an entry that has a plan."""
    assert entry.plan, "only a plan can be drawn"
    return svg(entry.plan, thinned_axes(entry.plan) or ["depth"])


def html(manifest: Manifest, found: Iterable[Entry]) -> str:
    """The library as one HTML file that needs no other."""
    title = escape(f"{manifest.name} {manifest.version}")
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1><p>{escape(manifest.description)}</p><p>Licence: {escape(manifest.licence)}.</p>",
    ]
    for entry in found:
        parts.append(f'<h2 id="{escape(entry.name)}">{escape(entry.name)}</h2><p>{escape(entry.doc)}</p>')
        if entry.parameters:
            rows = [HEADINGS, *entry.parameters]
            cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        parts.append(f"<p>{escape(entry.costs)}.</p>")
        if entry.plan:
            parts.append(picture(entry))
        used = escape(f"use {manifest.name}/{entry.name} · identity {entry.identity}")
        parts.append(f'<p class="quiet">{used}</p><pre>{escape(entry.text)}</pre>')
    return "\n".join([*parts, "</body></html>\n"])
