"""Output of the findings of `check`."""

from __future__ import annotations

from dataclasses import asdict

from gixi_bluesky.checks.findings import Finding
from gixi_bluesky.cli.console import output, print_json

__all__ = ["show"]


def show(finding: Finding, *, json: bool) -> None:
    """Show a finding, as a line for people or of JSON."""
    if json:
        print_json(asdict(finding))
        return
    sign = "[green]ok[/]     " if finding.ok else "[bold red]problem[/]"
    output.print(f"{sign} {finding.part}:", end=" ", highlight=False)
    output.print(finding.detail, markup=False, highlight=False, soft_wrap=True)
    for warning in finding.warnings:
        output.print("[yellow]warning[/]", end=" ", highlight=False)
        output.print(f"{finding.part}: {warning}", markup=False, highlight=False, soft_wrap=True)
